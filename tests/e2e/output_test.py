"""What a verb prints and cannot write is a failure, said in one line; where it prints to a program that has left, it ends
as the system has it.

usage: output_test.py --spanwise PROGRAM --root REPOSITORY
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile
import time
import unittest

ARGS = argparse.Namespace(spanwise=None, root=None)


def close_output():
    os.close(1)


def ignore_broken_pipes():
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def restore_broken_pipes():
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)


class OutputTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        cls.document = cls.folder / "a.txt"
        cls.document.write_text("The Cawick T40 weighs 12 kg.\n")
        cls.model = cls.folder / "model"
        cls.model.mkdir()
        for file in (pathlib.Path(ARGS.root) / "models/pocket").iterdir():
            if file.name != "spanwise.json":
                (cls.model / file.name).symlink_to(file.resolve())
        cls.records = cls.folder / "records.jsonl"
        cls.records.write_text(json.dumps({
            "kind": "single", "question": "How much does the Cawick T40 weigh?", "value": "12 kg", "citations": ["1"],
            "documents": [{"id": "1", "text": "The Cawick T40 weighs 12 kg."}],
            "answer": "The Cawick T40 weighs 12 kg. [1]"}) + "\n")
        corpus = cls.folder / "corpus"
        subprocess.run([ARGS.spanwise, "index", cls.document, "--corpus", corpus, "--bake"], check=True,
                       capture_output=True)
        data = ["--data", cls.records]
        ask = ["ask", "How much does the Cawick T40 weigh?", "--doc", cls.document, "--max-tokens", "4"]
        cls.all_verbs = {
            "ask": ask,
            "ask in JSON": [*ask, "--json"],
            "ask in branches": [*ask, "--branch", "One:", "--branch", "Two:"],
            "generate": ["generate", "The pump", "--max-tokens", "4"],
            "generate in JSON": ["generate", "The pump", "--max-tokens", "4", "--json"],
            "chat": ["chat", "--max-tokens", "4"],
            "chat in JSON": ["chat", "--max-tokens", "4", "--json"],
            "tokenize": ["tokenize", "hello"],
            "tokenize in JSON": ["tokenize", "hello", "--json"],
            "index": ["index", cls.document, "--corpus", corpus],
            "index in JSON": ["index", cls.document, "--corpus", corpus, "--json"],
            "inspect a model": ["inspect"],
            "inspect in JSON": ["inspect", "--json"],
            "inspect kept KV": ["inspect", corpus / "kv"],
            "quantize": ["quantize", cls.model, cls.folder / "small"],
            "calibrate": ["calibrate", *data, "--model", cls.model, "--modes", "set", "--search", "0"],
            "eval perplexity": ["eval", "perplexity", "--data", cls.document],
            "eval qa": ["eval", "qa", *data, "--json"],
            "eval fidelity": ["eval", "fidelity", *data, "--modes", "set"],
            "bench cache": ["bench", "cache", "--generate", "zipf", "--trace-requests", "20", "--capacity", "5",
                            "--policies", "lru"],
            "help": ["--help"],
            "help of a verb": ["ask", "--help"],
            "version": ["--version"],
        }

    def setUp(self):
        self.verbs = dict(self.all_verbs)

    def run_verb(self, name, stdout, prepare=None):
        done = subprocess.run([ARGS.spanwise, *map(str, self.verbs[name])], stdout=stdout, stderr=subprocess.PIPE,
                              input="How much does it weigh?\nAnd what else?\n", text=True, timeout=300,
                              preexec_fn=prepare)
        return name, done

    def check(self, names, stdout, status, message, prepare=None):
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for name, done in pool.map(lambda name: self.run_verb(name, stdout, prepare), names):
                with self.subTest(name):
                    lines = done.stderr.splitlines()
                    self.assertEqual(done.returncode, status, done.stderr)
                    self.assertEqual(lines[-1:], [message] if message else lines[-1:])
                    self.assertEqual(sum(line.startswith("spanwise:") for line in lines), 1 if message else 0, lines)

    def test_a_disk_that_is_full(self):
        with open("/dev/full", "w") as full:
            self.check(self.verbs, full, 1,
                       "spanwise: standard output: No space left on device: what was to be printed is not there")

    def test_output_that_is_closed(self):
        names = ["ask", "generate in JSON", "tokenize", "index", "chat", "inspect a model", "bench cache", "version"]
        self.check(names, None, 1, "spanwise: standard output: it is closed: what was to be printed is not there",
                   close_output)

    def test_a_closed_stream_is_no_other_file(self):
        # What is opened while 1 is free must not become what results are printed to.
        cache = self.folder / "cache"
        self.verbs["kept"] = [*self.verbs["ask"], "--cache-dir", cache]
        for _ in range(2):
            self.assertEqual(self.run_verb("kept", None, close_output)[1].returncode, 1)
        done = subprocess.run([ARGS.spanwise, "inspect", cache, "--verify"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_limit_on_files(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (8, 8))

        with open(self.folder / "out", "w") as out:
            self.check(["tokenize in JSON"], out, 1,
                       "spanwise: standard output: File too large: what was to be printed is not there", limit)

    def test_a_reader_that_has_left(self):
        reading, writing = os.pipe()
        os.close(reading)
        names = ["ask", "generate", "tokenize in JSON", "inspect a model", "help"]
        with open(writing, "w") as pipe:
            self.check(names, pipe, -signal.SIGPIPE, None, restore_broken_pipes)
            self.check(names, pipe, 1, "spanwise: standard output: Broken pipe: what was to be printed is not there",
                       ignore_broken_pipes)

    def test_an_answer_nobody_reads_ends(self):
        def seconds(stdout, status):
            start = time.monotonic()
            self.assertEqual(self.run_verb("long", stdout)[1].returncode, status)
            return time.monotonic() - start

        self.verbs["long"] = ["generate", "The pump", "--max-tokens", "1000", "--min-tokens", "1000"]
        with open("/dev/full", "w") as full:
            self.assertLess(seconds(full, 1), 0.5 * seconds(subprocess.DEVNULL, 0))

    def test_messages_that_cannot_be_written_change_nothing(self):
        # There is a warning.
        folder = self.folder / "file"
        folder.mkdir()
        (folder / "data.mdb").write_text("no store")
        with open("/dev/full", "w") as full:
            for stderr in (full, None):
                done = subprocess.run([ARGS.spanwise, *map(str, self.verbs["ask"]), "--cache-dir", folder],
                                      stdout=subprocess.PIPE, stderr=stderr, text=True,
                                      preexec_fn=None if stderr else lambda: os.close(2))
                self.assertEqual(done.returncode, 0)
                self.assertIn("The Cawick", done.stdout)

    def test_a_server_goes_on(self):
        with open("/dev/full", "w") as full:
            server = subprocess.Popen([ARGS.spanwise, "serve", "--port", "0"], stdout=full, stderr=subprocess.PIPE,
                                      text=True)
            self.addCleanup(server.kill)
            for line in server.stderr:
                if "serves at http://" in line:
                    break
            else:
                self.fail("it ended")
            self.assertIn("No space left on device", line)
            server.send_signal(signal.SIGTERM)
            server.stderr.read()
            server.stderr.close()
            self.assertEqual(server.wait(timeout=60), 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--spanwise", required=True)
    parser.add_argument("--root", required=True)
    ARGS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], *rest])

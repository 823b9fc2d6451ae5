"""KV on disk as the command line has it: kept between runs, baked ahead, copied, verified, and damaged.

usage: persistence_test.py --spanwise PROGRAM --root REPOSITORY
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest
import urllib.request

ARGS = argparse.Namespace(spanwise=None, root=None)
QUESTION = "How much does the Cawick T40 weigh?"


class PersistenceTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.documents = self.folder / "documents"
        self.documents.mkdir()
        for name in ["cawick-t40.md", "harlow-instruments.md", "ilse-corvane.md"]:
            shutil.copy(pathlib.Path(ARGS.root) / "examples/documents" / name, self.documents)
        self.corpus = self.folder / "corpus"

    def run_program(self, *arguments, status=0):
        done = subprocess.run([ARGS.spanwise, *map(str, arguments)], capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, status, done.stderr)
        return done

    def read(self, *arguments):
        return json.loads(self.run_program(*arguments, "--json").stdout)

    def bake(self, *more):
        return self.read("index", self.documents, "--corpus", self.corpus, "--bake", *more)["baked"]

    def ask(self, *more):
        return self.read("ask", QUESTION, "--corpus", self.corpus, "--compose", "set", "--logprobs", "1", *more)

    def same(self, a, b):
        self.assertEqual(a["answer"], b["answer"])
        self.assertEqual(a["logprobs"], b["logprobs"])

    def test_what_was_read_is_kept(self):
        ask = ["ask", QUESTION, "--doc", self.documents, "--logprobs", "1", "--cache-dir", self.folder / "cache"]
        cold, warm = self.read(*ask), self.read(*ask)
        self.assertEqual(cold["usage"]["cached_tokens"], 0)
        self.assertEqual(warm["usage"]["cached_tokens"], warm["usage"]["prompt_tokens"] - 1)
        self.assertIn("disk", [span["source"] for span in warm["compose"]["spans"]])
        self.same(cold, warm)
        self.same(cold, self.read(*ask, "--no-cache"))

    def test_a_baked_corpus(self):
        made = self.bake()
        self.assertEqual(made["found_tokens"] > 0, made["chunks"] > 1)  # what stands before every chunk
        again = self.bake()
        self.assertEqual(again["found_tokens"], again["tokens"])
        self.assertEqual([again["removed_spans"], again["spans"]], [0, made["spans"]])

        fresh, warm = self.ask("--no-cache"), self.ask()
        self.same(fresh, warm)
        sources = [span["source"] for span in warm["compose"]["spans"] if span["document"]]
        self.assertEqual(set(sources), {"disk"})
        self.assertEqual(self.read("inspect", self.corpus, "--verify")["spans"], made["spans"])  # asking wrote nothing

        copy = self.folder / "copy"
        shutil.copytree(self.corpus / "kv", copy)
        (copy / "lock.mdb").unlink()
        shutil.rmtree(self.corpus / "kv")
        self.assertEqual(self.ask()["usage"]["cached_tokens"], 0)
        self.same(fresh, self.ask("--baked", copy))
        self.assertGreater(self.ask("--baked", copy)["usage"]["cached_tokens"], 0)

    def test_an_edit_drops_exactly_its_spans(self):
        before = self.bake()
        (self.documents / "cawick-t40.md").write_text("# Cawick T40\n\nThe Cawick T40 weighs 15 kg.\n")
        (self.documents / "ilse-corvane.md").unlink()
        after = self.bake()
        self.assertGreater(after["removed_spans"], 0)
        self.assertGreater(after["found_tokens"], 0)
        self.same(self.ask("--no-cache"), self.ask())
        # As if it had been baked of these documents alone.
        shutil.rmtree(self.corpus)
        anew = self.bake()
        self.assertEqual([after["spans"], after["tokens"]], [anew["spans"], anew["tokens"]])
        self.assertLess(after["spans"], before["spans"])

    def test_an_edit_leaves_what_follows_it_where_it_was(self):
        sections = [f"## Part {i}\n\n" + f"The part number {i} is described here at length. " * 12 for i in range(5)]
        shutil.rmtree(self.documents)
        self.documents.mkdir()
        manual = self.documents / "manual.md"
        manual.write_text("# Manual\n\n" + "\n\n".join(sections))
        before = self.bake()
        manual.write_text("# Manual\n\n## Preface\n\nNew in this edition.\n\n" + "\n\n".join(sections))
        after = self.bake()
        self.assertGreater(after["found_tokens"], 0.8 * before["tokens"])
        # The same text under another name, saved by another program.
        manual.rename(self.documents / "handbook.md")
        text = (self.documents / "handbook.md").read_text()
        (self.documents / "handbook.md").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode() + b"\r\n")
        renamed = self.bake()
        self.assertEqual(renamed["found_tokens"], renamed["tokens"])
        self.assertEqual(renamed["spans"], after["spans"])

    def served(self, *options):
        """What a server gives for a question over the corpus, by salt."""
        server = subprocess.Popen([ARGS.spanwise, "serve", "--port", "0", "--corpus", str(self.corpus), "--compose", "set",
                                   *options], stdout=subprocess.PIPE, text=True)
        self.addCleanup(server.stdout.close)
        self.addCleanup(server.wait)
        self.addCleanup(server.terminate)
        url = server.stdout.readline().split(" at ")[-1].strip()

        def ask(**fields):
            body = {"messages": [{"role": "user", "content": QUESTION}], "temperature": 0, "max_tokens": 8, **fields}
            request = urllib.request.Request(url + "/v1/chat/completions", json.dumps(body).encode(),
                                             {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=300) as response:
                spans = json.load(response)["spanwise"]["spans"]
            documents = [span for span in spans if span["document"]]
            return sum(span["cached_tokens"] for span in documents) / sum(span["tokens"] for span in documents)
        return ask

    def test_tenants_share_what_is_public(self):
        self.bake()
        ask = self.served()
        self.assertEqual(ask(), 1)
        self.assertLess(ask(cache_salt="a"), 0.1)  # how every document begins
        self.assertEqual(ask(cache_salt="a"), 1)
        self.assertLess(ask(cache_salt="b"), 0.1)
        ask = self.served("--public-corpus")
        self.assertEqual(ask(cache_salt="a"), 1)
        documents = [{"text": "A private note."}, {"text": "A public note.", "cache_salt": ""}]
        ask(cache_salt="a", documents=documents)
        self.assertGreater(ask(cache_salt="b", documents=documents), 0.3)
        # One that says so in its metadata, beside one that does not.
        lines = [{"id": "public", "text": "The Cawick T40 weighs 12 kg.", "metadata": {"cache_salt": ""}},
                 {"id": "other", "text": "The Cawick T41 weighs 13 kg."}]
        shutil.rmtree(self.documents)
        self.documents.mkdir()
        (self.documents / "notes.jsonl").write_text("\n".join(map(json.dumps, lines)))
        self.bake()
        share = self.served()(cache_salt="a")
        self.assertGreater(share, 0.3)
        self.assertLess(share, 0.7)

    def test_damage_is_found_and_not_used(self):
        self.bake()
        file = self.corpus / "kv/data.mdb"
        data = bytearray(file.read_bytes())
        records = 0
        at = data.find(b"swspan\r\n")
        while at >= 0:
            data[at + 1000] ^= 16
            records += 1
            at = data.find(b"swspan\r\n", at + 1)
        file.write_bytes(data)
        done = self.run_program("inspect", self.corpus, "--verify", status=1)
        self.assertIn("damaged", done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1)
        damaged = self.ask()
        self.assertEqual(damaged["usage"]["cached_tokens"], 0)
        self.same(damaged, self.ask("--no-cache"))
        self.assertGreater(records, 5)
        self.bake()
        self.run_program("inspect", self.corpus, "--verify")

    def test_another_model_is_said(self):
        self.bake("--kv-dtype", "f32")
        done = self.run_program("ask", QUESTION, "--corpus", self.corpus, "--quiet")
        self.assertIn("another model", done.stderr)

    def test_fewer_bits_are_approximate_and_said(self):
        exact = self.bake()
        fresh = self.ask("--no-cache")
        shutil.rmtree(self.corpus)
        made = self.bake("--cache-codec", "int8")
        self.assertEqual(made["tokens"], exact["tokens"])
        self.assertLess(made["bytes"], 0.7 * exact["bytes"])
        self.assertEqual([m["codec"] for m in self.read("inspect", self.corpus, "--verify")["models"]], ["int8"])
        warm = self.ask("--cache-codec", "int8")
        self.assertEqual(warm["compose"]["exactness"], "approximate")
        self.assertEqual(warm["compose"]["kv_codec"], "int8")
        self.assertIn("disk", [span["source"] for span in warm["compose"]["spans"]])
        self.assertEqual(warm["answer"], fresh["answer"])
        for a, b in zip(warm["logprobs"]["token_logprobs"], fresh["logprobs"]["token_logprobs"]):
            self.assertAlmostEqual(a, b, delta=0.05)
        # An engine of another codec uses nothing of it, and says why.
        done = self.run_program("ask", QUESTION, "--corpus", self.corpus, "--quiet")
        self.assertIn("is written by codec int8, expected none", done.stderr)
        ignored = self.ask()
        self.same(ignored, fresh)
        self.assertEqual(ignored["compose"]["exactness"], "set-exact")

    def test_wrong_usage(self):
        self.run_program("inspect", "--verify", status=1)
        self.run_program("ask", QUESTION, "--doc", self.documents, "--baked", self.folder / "none", status=1)
        self.run_program("ask", QUESTION, "--doc", self.documents, "--cache-disk", "5", status=2)
        self.run_program("ask", QUESTION, "--doc", self.documents, "--cache-codec", "int3", status=2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--spanwise", required=True)
    parser.add_argument("--root", required=True)
    ARGS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], *rest])

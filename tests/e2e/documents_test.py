"""What the program says and does with documents that are odd, gone, or may not be read, and beside other writers.

usage: documents_test.py --spanwise PROGRAM --root REPOSITORY
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import unittest

ARGS = argparse.Namespace(spanwise=None, root=None)
NOBODY = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
PUMP = "The pump weighs 14 kg.\n"
QUESTION = "How much does the pump weigh?"


class DocumentsTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.folder.chmod(0o755)
        self.write("d/a.txt", PUMP)
        self.program = pathlib.Path(ARGS.spanwise).resolve()
        self.model = pathlib.Path(ARGS.root).resolve() / "models/pocket"

    def write(self, name, content):
        path = os.path.join(os.fsencode(self.folder), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())

    def command(self, verb, *arguments):
        return [self.program, verb, *map(str, arguments), "--model", self.model, "--quiet"]

    def run_it(self, verb, *arguments, rc=0, **more):
        done = subprocess.run(self.command(verb, *arguments), capture_output=True, text=True, errors="surrogateescape",
                              timeout=300, cwd=self.folder, **more)
        self.assertEqual(done.returncode, rc, done.stderr)
        return done

    def ask(self, *arguments, **more):
        return self.run_it("ask", QUESTION, *arguments, "--max-tokens", 20, **more)

    def as_nobody(self):
        """The program and its model where every user can read them."""
        with contextlib.suppress(OSError):
            if subprocess.run([self.program, "--version"], capture_output=True, **NOBODY).returncode == 0:
                return
        shutil.copy(self.program, self.folder / "spanwise")
        shutil.copytree(self.model, self.folder / "model")
        self.program, self.model = self.folder / "spanwise", self.folder / "model"

    def test_what_may_not_be_read(self):
        self.as_nobody()
        self.write("d/lost+found/b.txt", "secret")
        self.write("d/c.txt", "secret")
        (self.folder / "c").mkdir()
        if NOBODY:
            os.chown(self.folder / "c", NOBODY["user"], NOBODY["group"])
        self.run_it("index", "d", "--corpus", "c", **NOBODY)
        (self.folder / "d/lost+found").chmod(0)
        (self.folder / "d/c.txt").chmod(0)
        os.utime(self.folder / "d/c.txt", (1, 1))
        skipped = ("skipped d/lost+found: Permission denied; its earlier text stays\n"
                   "skipped d/c.txt: cannot open: Permission denied; its earlier text stays\n")
        for more in ([], ["--keep-going"]):
            done = self.run_it("index", "d", "--corpus", "c", *more, **NOBODY)
            self.assertEqual(done.stderr, skipped)
            self.assertIn(" 0 removed; 3 chunks", done.stdout)
        skipped = skipped.replace("; its earlier text stays", "")
        done = self.ask("--doc", "d", **NOBODY)
        self.assertEqual(done.stderr, skipped)
        self.assertIn("d/a.txt", done.stdout)
        done = self.run_it("chat", "--doc", "d", "--max-tokens", 20, input=QUESTION + "\n", **NOBODY)
        self.assertEqual(done.stderr, skipped)
        self.assertIn("d/a.txt", done.stdout)
        for verb in (["index", "d/lost+found", "--corpus", "c"], ["ask", QUESTION, "--doc", "d/lost+found"]):
            done = self.run_it(*verb, rc=1, **NOBODY)
            self.assertEqual(done.stderr, "spanwise: d/lost+found: cannot list the folder: Permission denied\n")
        (self.folder / "d/lost+found").chmod(0o700)

    def test_other_files_in_a_folder(self):
        for i in range(20):
            self.write(f"d/{i:02}.png", b"\x89PNG")
        self.write("d/Makefile", "all:\n")
        self.write("d/latin.txt", b"Gr\xf6\xdfe")
        os.mkfifo(self.folder / "d/pipe.txt")
        done = self.ask("--doc", "d")
        self.assertEqual(done.stderr.splitlines()[0],
                         "skipped d/latin.txt: not UTF-8 at byte 2; convert it to UTF-8")
        self.assertEqual(len(done.stderr.splitlines()), 6)
        self.assertEqual(done.stderr.splitlines()[5], "skipped 18 more")
        self.assertIn("d/a.txt", done.stdout)
        self.assertEqual(self.ask("--doc", "d/00.png", rc=1).stderr,
                         'spanwise: d/00.png: ".png" is no document type; .txt, .md and .jsonl are read\n')
        self.assertEqual(self.ask("--doc", "d/pipe.txt", rc=1).stderr,
                         "spanwise: d/pipe.txt: is not a regular file\n")
        (self.folder / "d/a.txt").unlink()
        self.assertIn("spanwise: d: the folder holds no document (.txt, .md and .jsonl are read); 23 skipped, the first",
                      self.ask("--doc", "d", rc=1).stderr)

    def test_names_are_shown_without_control_characters(self):
        self.write("d/x\n\x1b[31m.bin", "")
        self.write(b"d/gr\xfc.txt", PUMP)
        self.write("d/bad\r.txt", PUMP)
        self.write("d/ugly.txt", b"\xff")
        done = self.run_it("index", "d", "--corpus", "c", "--keep-going")
        self.assertEqual(done.stderr.splitlines(), [
            "skipped d/bad\\r.txt: the name holds a control character",
            "skipped d/gr\\xfc.txt: the name is not UTF-8",
            'skipped d/x\\n\\x1b[31m.bin: ".bin" is no document type; .txt, .md and .jsonl are read',
            "skipped d/ugly.txt: not UTF-8 at byte 0; convert it to UTF-8"])
        self.assertEqual(self.run_it("index", "d", "--corpus", "c", rc=1).stderr,
                         "spanwise: d/ugly.txt: not UTF-8 at byte 0; convert it to UTF-8\n")
        out = json.loads(self.run_it("index", "d", "--corpus", "c", "--keep-going", "--json").stdout)
        self.assertEqual([s["path"] for s in out["skipped"]],
                         ["d/bad\r.txt", "d/gr\\xfc.txt", "d/x\n\x1b[31m.bin", "d/ugly.txt"])
        self.write("l.jsonl", json.dumps({"id": "a\u009bb", "title": "t\u202ei", "text": PUMP}))
        shown = self.ask("--doc", "l.jsonl").stdout
        self.assertIn("a\\u009bb (t\\u202ei)", shown)
        self.assertEqual(json.loads(self.ask("--doc", "l.jsonl", "--json").stdout)["citations"][0]["document"], "a\x9bb")

    def test_equal_names_and_ids(self):
        self.write("x/README.md", PUMP)
        self.write("y/README.md", "The Alder weighs 21 kg.\n")

        def ids(*paths):
            out = json.loads(self.ask(*(part for path in paths for part in ("--doc", path)), "--json").stdout)
            return [span["document"] for span in out["compose"]["spans"] if span["document"]]

        self.assertEqual(ids("x/README.md", "y/README.md", "d/a.txt"), ["x/README.md", "y/README.md", "a.txt"])
        self.assertEqual(ids("x/README.md", "./x/README.md", "x"), ["README.md"])
        self.write("l/d.jsonl", '{"id":1,"text":"alpha"}\n{"id":"1","text":"beta"}\n')
        self.write("l/e.txt", "gamma")
        message = 'l/d.jsonl:2: its id "1" is that of line 1; give one of them another id\n'
        self.assertEqual(self.run_it("index", "l", "--corpus", "c", rc=1).stderr, "spanwise: " + message)
        self.assertEqual(self.ask("--doc", "l", rc=1).stderr, "spanwise: " + message)
        for _ in range(2):
            done = self.run_it("index", "l", "--corpus", "c", "--keep-going")
            self.assertEqual(done.stderr, "skipped " + message)
        self.assertIn(" 2 chunks", done.stdout)

    def test_documents_that_are_gone(self):
        self.write("old/a.txt", PUMP)
        self.run_it("index", "old", "--corpus", "c")
        (self.folder / "old").rename(self.folder / "a new")
        done = self.run_it("index", "a new", "--corpus", "c")
        old = (self.folder / "old").resolve()
        self.assertEqual(done.stderr, f"1 document comes from {old}, which is gone; "
                                      f"spanwise index --remove {old} --corpus c removes it\n")
        self.assertEqual(json.loads(self.run_it("index", "a new", "--corpus", "c", "--json").stdout)["gone"],
                         [{"path": str(old), "documents": 1}])
        self.assertEqual(self.run_it("index", "old", "--corpus", "c", rc=1).stderr,
                         "spanwise: old: is gone, and the corpus still has documents from there (1); remove them with: "
                         "spanwise index --remove old --corpus c\n")
        self.assertEqual(self.run_it("index", "--remove", "old", "--corpus", "c").stdout,
                         "c: 0 added, 0 updated, 0 unchanged, 1 removed; 1 chunks\n")
        self.assertEqual(self.run_it("index", "--remove", "old", "--corpus", "c", rc=1).stderr,
                         "spanwise: old: no document of the corpus comes from there\n")
        shutil.rmtree(self.folder / "a new")
        self.assertIn("'" + str(old.parent / "a new") + "'", self.run_it("index", "d", "--corpus", "c").stderr)
        self.assertIn(" 1 removed; 1 chunks", self.run_it("index", "--prune", "--corpus", "c").stdout)
        self.run_it("index", "--corpus", "c", rc=2)
        self.run_it("index", "--prune", "--corpus", "none", rc=1)
        self.assertFalse((self.folder / "none").exists())

    def test_writers_wait_and_readers_do_not(self):
        self.run_it("index", "d", "--corpus", "c")
        other = sqlite3.connect(self.folder / "c/meta.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        said = "spanwise: waiting for another process that writes to this corpus (Ctrl-C stops)\n"
        waiting = [subprocess.Popen(self.command("index", "d", "--corpus", "c"), cwd=self.folder, text=True,
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
        for process in waiting:
            self.assertEqual(process.stderr.readline(), said)
        self.assertIn("a.txt", self.ask("--corpus", "c").stdout)
        waiting[0].send_signal(signal.SIGINT)
        waiting[0].communicate(timeout=60)
        self.assertEqual(waiting[0].returncode, -signal.SIGINT)
        time.sleep(0.2)
        self.assertIsNone(waiting[1].poll())
        other.close()  # as a process that ends does
        out, err = waiting[1].communicate(timeout=60)
        self.assertEqual((waiting[1].returncode, err), (0, ""))
        self.assertIn("1 unchanged", out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--spanwise", required=True)
    parser.add_argument("--root", required=True)
    ARGS, rest = parser.parse_known_args()
    unittest.main(argv=sys.argv[:1] + rest)

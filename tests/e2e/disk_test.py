"""Questions to a corpus on disks that are full or mounted read-only. Needs root and mounts; exits with 77 without.

usage: disk_test.py --spanwise PROGRAM --root REPOSITORY
"""

import argparse
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
import urllib.request

ARGS = argparse.Namespace(spanwise=None, root=None)
QUESTION = "How much does the pump weigh?"


def mount(*arguments):
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True).returncode == 0


def umount(folder):
    subprocess.run(["umount", "-l", folder], check=True)


def can_mount():
    with tempfile.TemporaryDirectory() as folder:
        if os.geteuid() != 0 or not mount("-t", "tmpfs", "none", folder):
            return False
        umount(folder)
        return True


class DiskTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.disk = self.folder / "disk"
        self.disk.mkdir()
        self.assertTrue(mount("-t", "tmpfs", "-o", "size=1m", "none", self.disk))
        self.addCleanup(umount, self.disk)
        self.corpus = self.disk / "corpus"
        self.write("pump.txt", "The pump weighs 14 kg.\n")
        self.index(self.corpus)

    def write(self, name, text):
        (self.folder / "docs").mkdir(exist_ok=True)
        (self.folder / "docs" / name).write_text(text)

    def run_it(self, verb, *arguments, rc=0):
        done = subprocess.run([ARGS.spanwise, verb, *map(str, arguments), "--quiet", "--model",
                               pathlib.Path(ARGS.root) / "models/pocket"], capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, rc, done.stderr)
        return done

    def index(self, corpus, **more):
        return self.run_it("index", self.folder / "docs", "--corpus", corpus, **more)

    def fill(self):
        with contextlib.suppress(OSError), open(self.disk / "fill", "wb") as file:
            while True:
                file.write(bytes(4096))
                file.flush()

    def expect_answer(self, corpus):
        done = self.run_it("ask", QUESTION, "--corpus", corpus, "--max-tokens", 20)
        self.assertIn("docs/pump.txt", done.stdout)
        self.assertEqual(done.stderr, "")

    @contextlib.contextmanager
    def serving(self, corpus):
        """The cited documents of an answer from a server."""
        server = subprocess.Popen([ARGS.spanwise, "serve", "--port", "0", "--corpus", corpus, "--model",
                                   pathlib.Path(ARGS.root) / "models/pocket"], stdout=subprocess.PIPE, text=True)
        try:
            url = server.stdout.readline().split()[-1]

            def cited(question):
                body = {"messages": [{"role": "user", "content": question}], "max_tokens": 20}
                request = urllib.request.Request(f"{url.rstrip('/')}/v1/chat/completions", json.dumps(body).encode(),
                                                 {"Content-Type": "application/json"})
                with urllib.request.urlopen(request, timeout=60) as response:
                    return [c["document"] for c in json.load(response)["citations"]]

            yield cited
        finally:
            server.terminate()
            server.wait(timeout=60)
            server.stdout.close()

    def test_a_full_disk(self):
        self.fill()
        for _ in range(2):  # the second time beside what the first attempt left
            self.expect_answer(self.corpus)
        self.write("alder.txt", "The Alder weighs 21 kg.\n")
        with self.serving(self.corpus) as cited:
            self.assertEqual(cited(QUESTION), ["docs/pump.txt"])
            self.assertEqual(self.index(self.corpus, rc=1).stderr,
                             f"spanwise: {self.corpus}/meta.db: the disk is full\n")
            (self.disk / "fill").unlink()
            self.index(self.corpus)  # there is room again, and the server sees what was written
            self.assertEqual(cited("How much does the Alder weigh?"), ["docs/alder.txt"])

    def test_read_only_mounts(self):
        read_only = self.folder / "read-only"
        read_only.mkdir()
        self.assertTrue(mount("--bind", self.disk, read_only))
        self.addCleanup(umount, read_only)
        self.assertTrue(mount("-o", "remount,ro,bind", read_only))
        self.expect_answer(read_only / "corpus")
        self.assertEqual(self.index(read_only / "corpus", rc=1).stderr,
                         f"spanwise: {read_only}/corpus: the corpus is read-only here (Read-only file system)\n")
        self.write("alder.txt", "The Alder weighs 21 kg.\n")
        with self.serving(read_only / "corpus") as cited:
            self.assertEqual(cited(QUESTION), ["docs/pump.txt"])
            self.index(self.corpus)  # where it is mounted for writing
            self.assertEqual(cited("How much does the Alder weigh?"), ["docs/alder.txt"])
            self.write("birch.txt", "The Birch weighs 8 kg.\n")
            self.index(self.corpus)
            self.assertEqual(cited("How much does the Birch weigh?"), ["docs/birch.txt"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--spanwise", required=True)
    parser.add_argument("--root", required=True)
    ARGS, rest = parser.parse_known_args()
    if not can_mount():
        print("skipped: needs root and mounts")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1] + rest)

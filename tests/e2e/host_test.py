"""Disks that are full, read-only or somebody else's, and machines that give little: the program goes on, and says so once.

Needs root, and to be allowed to mount file systems and to make control groups; what is not allowed is skipped. Mounts
are made in a mount namespace of the test's own and end with it.

usage: host_test.py --spanwise PROGRAM --root REPOSITORY
"""

import argparse
import contextlib
import ctypes
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

ARGS = argparse.Namespace(spanwise=None, root=None)
QUESTION = "How much does the Cawick T40 weigh?"
SKIPPED = 77


def own_mount_namespace():
    """An error, or None."""
    libc = ctypes.CDLL(None, use_errno=True)
    clone_newns, ms_rec, ms_private = 0x20000, 16384, 1 << 18
    if libc.unshare(clone_newns) != 0 or libc.mount(b"none", b"/", None, ms_rec | ms_private, None) != 0:
        return os.strerror(ctypes.get_errno())
    return None


def fill(folder):
    """Until nothing fits any more, not one byte."""
    for bytes_at_a_time in (1 << 20, 1 << 16, 4096, 1):
        with contextlib.suppress(OSError), open(folder / "filling", "ab", buffering=0) as file:
            while True:
                file.write(b"x" * bytes_at_a_time)
    os.sync()


class Server:
    def __init__(self, test, *arguments, prepare=None):
        self.process = subprocess.Popen([ARGS.spanwise, "serve", "--port", "0", *map(str, arguments)],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=prepare)
        test.addCleanup(self.end)
        self.first_line = self.process.stdout.readline()
        test.assertIn(" at http://", self.first_line, self.first_line or self.process.stderr.read())
        self.url = self.first_line.split(" at ")[-1].strip()

    def ask(self, question, documents=(), max_tokens=16):
        body = {"messages": [{"role": "user", "content": question}], "max_tokens": max_tokens, "temperature": 0,
                "documents": [{"id": str(i + 1), "text": text} for i, text in enumerate(documents)]}
        request = urllib.request.Request(self.url + "/v1/chat/completions", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=300) as response:
            return json.load(response)["choices"][0]["message"]["content"]

    def metric(self, name):
        with urllib.request.urlopen(self.url + "/metrics", timeout=60) as response:
            return next(float(line.split()[-1]) for line in response.read().decode().splitlines()
                        if line.startswith(name + " "))

    def end(self):
        """What it said on standard error. Its status is in process.returncode."""
        if self.process.returncode is None:
            self.process.terminate()
            self.messages = self.process.communicate(timeout=120)[1]
        return self.messages


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="spanwise-host-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.folder.chmod(0o755)
        self.document = self.folder / "a.txt"
        self.document.write_text("The Cawick T40 is a pump that was made in Norholm. The Cawick T40 weighs 12 kg.\n" * 8)

    def mount(self, *arguments, at):
        done = subprocess.run(["mount", *map(str, arguments), str(at)], capture_output=True, text=True)
        if done.returncode != 0:
            self.skipTest(f"cannot mount: {done.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", "-l", str(at)], check=True)
        return at

    def disk(self, kind, name="disk"):
        at = self.folder / name
        at.mkdir()
        if kind == "tmpfs":
            return self.mount("-t", "tmpfs", "-o", "size=24m", "none", at=at)
        image = self.folder / (name + ".image")
        with open(image, "wb") as file:
            file.truncate(32 << 20)
        if not shutil.which("mkfs.ext4"):
            self.skipTest("mkfs.ext4 is not installed")
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True)
        return self.mount("-o", "loop", image, at=at)

    def run_program(self, *arguments, status=0, prepare=None):
        done = subprocess.run([ARGS.spanwise, *map(str, arguments)], capture_output=True, text=True, timeout=300,
                              preexec_fn=prepare)
        self.assertEqual(done.returncode, status, done.stderr)
        return done

    def ask(self, *more, prepare=None):
        """The answer, how many tokens were reused, and warnings."""
        done = self.run_program("ask", QUESTION, "--doc", self.document, "--json", "--max-tokens", "16", *more,
                                prepare=prepare)
        answer = json.loads(done.stdout)
        self.assertIn("12 kg", answer["answer"])
        return answer["usage"]["cached_tokens"], done.stderr.splitlines()

    def kept(self):
        """A folder that holds KV of the document, closed by all."""
        folder = self.folder / "kept"
        if not folder.exists():
            self.assertEqual(self.ask("--cache-dir", folder), (0, []))
        return folder

    def check(self, folder, reads, reason, prepare=None):
        """The folder cannot be written: one warning, and what is there is read."""
        cached, warnings = self.ask("--cache-dir", folder, prepare=prepare)
        self.assertEqual(len(warnings), 1, warnings)
        self.assertIn(reason, warnings[0])
        self.assertTrue(warnings[0].startswith(f"spanwise: kept KV: {folder}"), warnings)
        self.assertEqual(cached > 0, reads, warnings)


class Disks(Case):
    FULL = "No space left on device"

    def on_each_disk(self, run):
        for kind in ("tmpfs", "ext4"):
            with self.subTest(kind):
                run(self.disk(kind, kind))

    def test_a_full_disk_without_a_store(self):
        def run(disk):
            (disk / "c").mkdir()
            fill(disk)
            self.check(disk / "c", False, self.FULL)
            self.check(disk / "cannot" / "be" / "made", False, self.FULL)
            self.assertIn(self.FULL, self.run_program("index", self.document, "--corpus", self.folder / "corpus",
                                                      "--bake-dir", disk / "c", status=1).stderr)
            server = Server(self, "--cache-dir", disk / "c")
            self.assertIn("12 kg", server.ask(QUESTION, [self.document.read_text()]))
            self.assertEqual(server.end().count("kept KV"), 1)
            self.assertEqual(server.process.returncode, 0)

        self.on_each_disk(run)

    def test_a_full_disk_with_a_store(self):
        def run(disk):
            for name in ("whole", "without", "sparse"):
                shutil.copytree(self.kept(), disk / name)
                if name != "whole":
                    (disk / name / "lock.mdb").unlink()
            with open(disk / "sparse" / "lock.mdb", "wb") as file:
                file.truncate(70000)
            fill(disk)
            self.assertGreater(self.ask("--cache-dir", disk / "whole")[0], 0)  # there is a place for locks
            for name in ("without", "sparse"):
                self.check(disk / name, True, self.FULL)
                self.assertGreater(json.loads(self.run_program("inspect", disk / name, "--json").stdout)["spans"], 0)
                cached, warnings = self.ask("--baked", disk / name)
                self.assertGreater(cached, 0)
                self.assertEqual(warnings, [])

        self.on_each_disk(run)

    def test_a_disk_that_fills_up(self):
        def run(disk):
            rng = random.Random(1)
            (disk / "filling").touch()
            os.truncate(disk / "filling", 0)
            with open(disk / "filling", "wb") as file:
                os.posix_fallocate(file.fileno(), 0, 18 << 20)
            server = Server(self, "--cache-dir", disk / "c", "--cache-disk", "1000")
            for _ in range(12):
                text = " ".join(f"The {rng.choice('abcdefgh')}{rng.randrange(1000)} weighs {rng.randrange(99)} kg."
                                for _ in range(40))
                self.assertIn("12 kg", server.ask(QUESTION, [text, self.document.read_text()]))
            fill(disk)
            for i in range(4):
                self.assertIn("12 kg", server.ask(QUESTION, [f"Something else, {i}.", self.document.read_text()]))
            self.assertGreater(server.metric("spanwise_kv_disk_lost_spans_total"), 0)
            said = [line for line in server.end().splitlines() if "kept KV" in line]
            self.assertEqual(len(said), 1, said)
            self.assertIn(self.FULL, said[0])
            self.assertEqual(server.process.returncode, 0)
            self.run_program("inspect", disk / "c", "--verify")

        self.on_each_disk(run)

    def test_a_disk_without_inodes(self):
        at = self.folder / "few"
        at.mkdir()
        disk = self.mount("-t", "tmpfs", "-o", "nr_inodes=2,size=8m", "none", at=at)
        (disk / "c").mkdir()
        self.check(disk / "c", False, self.FULL)

    def read_only(self):
        """The store, mounted to be read."""
        at = self.folder / "read-only"
        at.mkdir(exist_ok=True)
        shutil.copytree(self.kept(), at, dirs_exist_ok=True)
        self.mount("--bind", at, at=at)
        done = subprocess.run(["mount", "-o", "remount,ro,bind", at], capture_output=True, text=True)
        if done.returncode != 0:
            self.skipTest(f"cannot mount: {done.stderr.strip()}")
        return at

    def test_a_read_only_mount(self):
        at = self.read_only()
        self.check(at, True, "Read-only file system")
        self.check(at / "new", False, "Read-only file system")
        self.assertIn("Read-only file system", self.run_program(
            "index", self.document, "--corpus", self.folder / "corpus", "--bake-dir", at, status=1).stderr)
        server = Server(self, "--cache-dir", at)
        self.assertIn("12 kg", server.ask(QUESTION, [self.document.read_text()]))
        self.assertGreater(server.metric("spanwise_kv_disk_tokens_total"), 0)
        self.assertEqual(server.end().count("kept KV"), 1)

    def test_a_disk_that_becomes_read_only(self):
        disk = self.disk("ext4")
        subprocess.run(["mount", "-o", "remount,errors=remount-ro", disk], check=True)
        device = os.path.realpath(subprocess.run(["findmnt", "-no", "SOURCE", disk], capture_output=True, text=True,
                                                 check=True).stdout.strip())
        trigger = pathlib.Path("/sys/fs/ext4") / os.path.basename(device) / "trigger_fs_error"
        if not os.access(trigger, os.W_OK):
            self.skipTest(f"cannot write {trigger}")
        server = Server(self, "--cache-dir", disk / "c")
        self.assertIn("12 kg", server.ask(QUESTION, [self.document.read_text()]))
        os.sync()
        trigger.write_text("a test")
        for i in range(4):
            self.assertIn("12 kg", server.ask(QUESTION, [f"Number {i}.", self.document.read_text()]))
            time.sleep(1)
        said = server.end()
        self.assertEqual(server.process.returncode, 0, said)
        self.assertLessEqual(said.count("kept KV"), 2, said)  # of writing, and of reading

    def test_a_folder_of_somebody_else(self):
        nobody = 65534

        def as_nobody():
            os.setgroups([])
            os.setgid(nobody)
            os.setuid(nobody)

        if subprocess.run([ARGS.spanwise, "--version"], preexec_fn=as_nobody, capture_output=True).returncode != 0:
            self.skipTest("another user cannot run the program where it is")
        theirs = self.kept()
        self.check(theirs, True, "Permission denied", as_nobody)
        self.check(self.folder / "new", False, "Permission denied", as_nobody)
        theirs.chmod(0o700)
        self.check(theirs, False, "Permission denied", as_nobody)
        theirs.chmod(0o755)
        # What its owner may be writing is not read without locks.
        server = Server(self, "--cache-dir", theirs)
        self.check(theirs, False, "another process is using it", as_nobody)
        server.end()

    def test_a_file_is_no_folder(self):
        for path in (self.document, self.document / "c"):
            done = self.run_program("ask", QUESTION, "--doc", self.document, "--cache-dir", path, status=1)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)


class Groups(Case):
    def group(self, controller, limits):
        """The folder of a group of our own below the one that this process is in, and its entry for processes."""
        v2 = pathlib.Path("/sys/fs/cgroup/cgroup.controllers")
        lines = pathlib.Path("/proc/self/cgroup").read_text().splitlines()
        own = {line.split(":")[1]: line.split(":", 2)[2] for line in lines}
        if v2.exists():
            parent = pathlib.Path("/sys/fs/cgroup") / own.get("", "/").lstrip("/")
        else:
            parent = next((pathlib.Path("/sys/fs/cgroup") / names / group.lstrip("/") for names, group in own.items()
                           if controller in names.split(",")), None)
        if parent is None or not parent.is_dir():
            self.skipTest(f"there are no control groups of {controller}")
        at = parent / f"spanwise-test-{os.getpid()}"
        try:
            at.mkdir()
        except OSError as error:
            self.skipTest(f"cannot make {at}: {error.strerror}")
        self.addCleanup(at.rmdir)
        for name, value in limits["v2" if v2.exists() else "v1"].items():
            try:
                (at / name).write_text(value)
            except OSError as error:
                self.skipTest(f"cannot write {at / name}: {error.strerror}")
        return at

    def test_a_container_with_300_mb(self):
        limit = 300 << 20
        at = self.group("memory", {"v1": {"memory.limit_in_bytes": str(limit)}, "v2": {"memory.max": str(limit)}})
        peak = at / ("memory.peak" if (at / "memory.max").exists() else "memory.max_usage_in_bytes")
        rng = random.Random(2)
        for more, n_requests in (([], 12), (["--cache-dir", self.folder / "cache"], 4)):
            with self.subTest(more):
                server = Server(self, *more, prepare=lambda: (at / "cgroup.procs").write_text("0"))
                for _ in range(n_requests):  # of some 6,000 tokens, 47 MiB of KV
                    documents = [" ".join(f"The {rng.choice('abcdefgh')}{rng.randrange(10**6)} pump weighs "
                                          f"{rng.randrange(10**4)} kg and stands in hall {rng.randrange(99)}."
                                          for _ in range(10)) for _ in range(12)]
                    server.ask(QUESTION, documents, max_tokens=4)
                said = server.end()
                self.assertEqual(server.process.returncode, 0, said)
                self.assertIn(f"75 MiB for kept keys and values, of 300 MiB of memory ({at}", said)
                self.assertLess(int(peak.read_text()) if peak.exists() and not more else 0, limit * 3 // 4)

    def test_a_quota_of_one_processor(self):
        at = self.group("cpu", {"v1": {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "100000"},
                                "v2": {"cpu.max": "100000 100000"}})
        server = Server(self, prepare=lambda: (at / "cgroup.procs").write_text("0"))
        said = server.end()
        self.assertIn(f"1 thread ({at}", said)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--spanwise", required=True)
    parser.add_argument("--root", required=True)
    ARGS, rest = parser.parse_known_args()
    if os.geteuid() != 0:
        print("skipped: needs root")
        sys.exit(SKIPPED)
    if problem := own_mount_namespace():
        print(f"skipped: cannot make a mount namespace: {problem}")
        sys.exit(SKIPPED)
    unittest.main(argv=[sys.argv[0], *rest])

"""Two servers that share KV through a Redis or Valkey server, started here, which is killed in the middle of a load.

usage: shared_cache_test.py --spanwise PROGRAM --root REPOSITORY
"""

import argparse
import concurrent.futures
import json
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

ARGS = argparse.Namespace(spanwise=None, root=None)
SKIPPED = 77  # as CMakeLists.txt says


def cache_program():
    return shutil.which("valkey-server") or shutil.which("redis-server")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class SharedCacheTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        documents = sorted((pathlib.Path(ARGS.root) / "examples/documents").glob("*.md"))
        self.documents = [{"id": d.stem, "title": d.stem, "text": d.read_text()} for d in documents]
        self.cache_port = free_port()
        self.start_cache()

    def start_cache(self):
        self.cache = subprocess.Popen(
            [cache_program(), "--port", str(self.cache_port), "--bind", "127.0.0.1", "--save", "", "--appendonly",
             "no", "--dir", str(self.folder)], stdout=subprocess.DEVNULL)
        self.addCleanup(self.kill_cache)
        for _ in range(400):
            try:
                socket.create_connection(("127.0.0.1", self.cache_port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        self.fail("the cache server does not answer")

    def kill_cache(self):
        self.cache.kill()
        self.cache.wait()

    def serve(self):
        errors = open(self.folder / f"errors-{time.monotonic_ns()}", "w+", encoding="utf-8")
        self.addCleanup(errors.close)
        process = subprocess.Popen(
            [ARGS.spanwise, "serve", "--port", "0", "--model", f"{ARGS.root}/models/pocket", "--cache-remote",
             f"127.0.0.1:{self.cache_port}", "--cache-load", "always"], stdout=subprocess.PIPE, stderr=errors, text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(lambda: (process.send_signal(signal.SIGTERM), process.wait()))
        url = re.search(r"http://\S+", process.stdout.readline()).group().rstrip("/")
        return url, errors

    def ask(self, url, first=0, n=8):
        body = {"messages": [{"role": "user", "content": "How much does the Cawick T40 weigh?"}],
                "max_tokens": 12, "temperature": 0, "documents": self.documents[first:first + n],
                "spanwise": {"compose": "set"}}
        request = urllib.request.Request(url + "/v1/chat/completions", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as reply:
            return json.load(reply)

    def metric(self, url, name):
        with urllib.request.urlopen(url + "/metrics", timeout=60) as reply:
            text = reply.read().decode()
        return float(re.search(rf"^spanwise_{name} (\S+)$", text, re.MULTILINE).group(1))

    def text(self, answer):
        return answer["choices"][0]["message"]["content"]

    def sources(self, answer):
        return [s["source"] for s in answer["spanwise"]["spans"] if s.get("document")]

    def test_what_one_has_read_the_other_has(self):
        first, _ = self.serve()
        cold = self.ask(first)
        self.assertEqual(set(self.sources(cold)), {"computed"})
        sent, before = 0, -1
        while sent < 8 or sent > before:  # sending is behind the answer's back
            time.sleep(0.5)
            sent, before = self.metric(first, "kv_remote_written_spans_total"), sent
        second, _ = self.serve()
        warm = self.ask(second)
        self.assertIn("remote", self.sources(warm))
        self.assertEqual(self.text(warm), self.text(cold))
        self.assertGreater(self.metric(second, "kv_remote_tokens_total"), 0)
        self.assertEqual(self.metric(second, "kv_remote_damaged_spans_total"), 0)

    def test_a_cache_that_is_killed_loses_no_request(self):
        servers = [self.serve() for _ in range(2)]
        prompts = [(first, n) for first in range(0, 8, 2) for n in (3, 6)]
        expected = {p: self.text(self.ask(servers[0][0], *p)) for p in prompts}
        with concurrent.futures.ThreadPoolExecutor(8) as clients:
            asked = [(p, clients.submit(self.ask, url, *p)) for url, _ in reversed(servers) for p in prompts]
            time.sleep(0.2)
            self.kill_cache()
            for p, answer in asked:
                self.assertEqual(self.text(answer.result()), expected[p])
        for url, errors in servers:
            self.assertEqual(self.text(self.ask(url, *prompts[0])), expected[prompts[0]])
            errors.seek(0)
            self.assertLessEqual(len([line for line in errors if "kept KV" in line]), 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--spanwise", required=True)
    parser.add_argument("--root", required=True)
    ARGS, rest = parser.parse_known_args()
    if not cache_program():
        print("shared_cache_test: neither valkey-server nor redis-server is installed", file=sys.stderr)
        sys.exit(SKIPPED)
    unittest.main(argv=[sys.argv[0], *rest])

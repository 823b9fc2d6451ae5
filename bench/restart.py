#!/usr/bin/env python3
"""What kept KV is worth: time to the first token cold, warm in memory, and after a restart from disk.

usage: bench/restart.py [--spanwise PROGRAM] [--documents N] [--repeats N] [-- further options of `spanwise serve`]

Starts servers with --cache-dir on a folder of its own and asks one question about the sample documents (--compose set).
Each repeat begins with an empty folder. Prints the median and the range in ms; the disk's pages are in the page cache.
"""
import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class Server:
    def __init__(self, program, *options):
        self.process = subprocess.Popen([program, "serve", "--port", "0", *options], stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().split(" at ")[-1].strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=60)

    def ask(self, documents):
        body = {"messages": [{"role": "user", "content": "Where was the chief executive of Harlow Instruments born?"}],
                "documents": documents, "temperature": 0, "max_tokens": 32, "spanwise": {"compose": "set"}}
        request = urllib.request.Request(self.url + "/v1/chat/completions", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=300) as response:
            answer = json.load(response)
        return answer["choices"][0]["message"]["content"], answer["usage"], answer["spanwise"]["timings"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--spanwise", default=ROOT / "build/release/spanwise")
    parser.add_argument("--documents", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("options", nargs="*")
    args = parser.parse_args()
    files = sorted((ROOT / "examples/documents").glob("*.md"))[:args.documents]
    documents = [{"id": file.name, "text": file.read_text()} for file in files]

    times, answers = {}, set()
    for _ in range(args.repeats):
        with tempfile.TemporaryDirectory() as folder:
            for cases in (["cold", "memory"], ["disk", "memory after disk"]):
                with Server(args.spanwise, "--cache-dir", folder, *args.options) as server:
                    for case in cases:
                        text, usage, timings = server.ask(documents)
                        answers.add(text)
                        cached = usage["prompt_tokens_details"]["cached_tokens"]
                        times.setdefault(case, []).append((timings["ttft_ms"], timings["load_ms"], cached))
            size = sum(f.stat().st_size for f in Path(folder).iterdir())
    if len(answers) != 1:
        sys.exit(f"the answers differ: {answers}")
    print(f"{len(documents)} documents, {usage['prompt_tokens']} prompt tokens, {size >> 20} MiB on disk")
    for case, values in times.items():
        ttft, load, cached = zip(*values)
        print(f"{case:<18} first token after {statistics.median(ttft):7.1f} ms ({min(ttft):.1f} to {max(ttft):.1f}), "
              f"of it finding and loading KV {statistics.median(load):6.1f} ms; {cached[-1]} tokens reused")


if __name__ == "__main__":
    main()

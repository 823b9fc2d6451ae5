#!/usr/bin/env python3
"""What kept KV is worth: time to the first token cold, warm in memory, and by a process just started, from disk.

usage: bench/restart.py [--spanwise PROGRAM] [--documents N] [--copies N] [--repeats N] [--idle SECONDS] [--drop]
                        [-- further options of `spanwise serve`]

Starts servers one after another on a folder of its own and asks one question about the sample documents
(--compose set), each N times over with another first line (--copies). The folder is written with --cache-dir, then read
with --cache-dir and, as a baked one, with --baked. Each repeat begins with an empty folder. A question comes as soon as
the server says that it is ready or has answered the one before, or --idle seconds later. Prints the median and the range
in ms. With --drop also from a baked folder whose pages were dropped from the page cache, beside the time in which the
disk itself reads that file.
"""
import argparse
import ctypes
import mmap
import os
import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from serving import Server

ROOT = Path(__file__).resolve().parent.parent
QUESTIONS = {"": "Where was the chief executive of Harlow Instruments born?",
             ", 2nd question": "Which of these companies was founded first, and in which town?",
             ", 3rd question": "Whose products are made of glass, and who buys most of them?"}


def ask(server, documents, question):
    answer = server.ask(question, documents, 32, compose="set")
    return answer["choices"][0]["message"]["content"], answer["usage"], answer["spanwise"]["timings"]


def drop(path):
    """Drops a file's pages from the page cache. Returns the share that stayed."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ | mmap.PROT_WRITE, flags=mmap.MAP_PRIVATE) as pages:
            n = (len(pages) + mmap.PAGESIZE - 1) // mmap.PAGESIZE
            resident = (ctypes.c_ubyte * n)()
            start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
            ctypes.CDLL(None).mincore(ctypes.c_void_p(start), ctypes.c_size_t(len(pages)), resident)
            return sum(page & 1 for page in resident) / n


def disk_ms(path):
    """How long the disk needs for a file, past the page cache: the best of three tries with pieces of 1 MiB, 8 at a time."""
    piece, size = 1 << 20, path.stat().st_size
    buffers = threading.local()
    file = os.open(path, os.O_RDONLY | os.O_DIRECT)

    def read(offset):
        if not hasattr(buffers, "pages"):
            buffers.pages = mmap.mmap(-1, piece)
        os.preadv(file, [buffers.pages], offset)

    with ThreadPoolExecutor(8) as readers:
        list(readers.map(read, [0] * 64))  # starts all threads
        times = []
        for _ in range(3):
            drop(path)
            start = time.perf_counter()
            list(readers.map(read, range(0, size, piece)))
            times.append(1e3 * (time.perf_counter() - start))
    os.close(file)
    return min(times)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--spanwise", default=ROOT / "build/release/spanwise")
    parser.add_argument("--documents", type=int, default=16)
    parser.add_argument("--copies", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--idle", type=float, default=0)
    parser.add_argument("--drop", action="store_true")
    parser.add_argument("options", nargs="*")
    args = parser.parse_args()
    files = sorted((ROOT / "examples/documents").glob("*.md"))[:args.documents]
    documents = [{"id": f"{copy}/{file.name}", "text": f"Copy {copy}\n\n" * (args.copies > 1) + file.read_text()}
                 for copy in range(args.copies) for file in files]

    times, answers, disk = {}, {}, []
    for _ in range(args.repeats):
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "data.mdb"
            runs = [(["cold", "memory"], "--cache-dir"), (["disk", "again"], "--cache-dir"),
                    (["baked", "baked again"], "--baked"),
                    (["baked, 2nd question", "memory, 3rd question"], "--baked"),
                    (["baked, 3rd question", "memory, 2nd question"], "--baked")]
            if args.drop:
                runs.append((["baked, dropped"], "--baked"))
            for cases, option in runs:
                if "dropped" in cases[0]:
                    disk.append(disk_ms(data))
                    if (stayed := drop(data)) > 0.01:
                        sys.exit(f"{stayed:.0%} of {data} stay in the page cache: this file system cannot drop them")
                with Server(args.spanwise, option, folder, *args.options) as server:
                    for case in cases:
                        time.sleep(args.idle)
                        question = next(q for q in reversed(QUESTIONS) if case.endswith(q))
                        text, usage, timings = ask(server, documents, QUESTIONS[question])
                        answers.setdefault(question, set()).add(text)
                        cached = usage["prompt_tokens_details"]["cached_tokens"]
                        times.setdefault(case, []).append((timings["ttft_ms"], timings["load_ms"], cached))
            size = data.stat().st_size
    if any(len(texts) != 1 for texts in answers.values()):
        if not any("--cache-codec" in option for option in args.options):
            sys.exit(f"the answers differ: {answers}")
        print("some answers differ from others: the codec rounds")
    print(f"{len(documents)} documents, {usage['prompt_tokens']} prompt tokens, {size >> 20} MiB on disk")
    for case, values in times.items():
        ttft, load, cached = zip(*values)
        print(f"{case:<21} first token after {statistics.median(ttft):7.1f} ms ({min(ttft):.1f} to {max(ttft):.1f}), "
              f"of it finding and loading KV {statistics.median(load):6.1f} ms; {cached[-1]} tokens reused")
    if disk:
        print(f"the disk reads that file in {statistics.median(disk):.1f} ms ({min(disk):.1f} to {max(disk):.1f}), "
              f"{size / statistics.median(disk) / 1e6:.2f} GB/s")


if __name__ == "__main__":
    main()

"""Large bodies of every kind, thousands of idle connections and many streams at once: nobody waits for /health, nobody is shut out,
and the memory comes back.

usage: load_test.py --spanwise PROGRAM --model DIR [--idle N] [--streams N] [--body-mb N] [--settle SECONDS]

Prints the figures and fails where one is out of its bounds. Takes about two minutes. Loopback only.
"""

import argparse
import asyncio
import json
import multiprocessing
import pathlib
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time

HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def post(path, body):
    return (f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
            f"Content-Length: {len(body)}\r\n\r\n").encode() + body


def rss_mib(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmRSS")


def probe(port, stop, out):
    """Asks /health over a new connection, again and again. Sends the times in ms, and how many were no 200."""
    times, bad = [], 0
    while not stop.is_set():
        start = time.perf_counter()
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=30) as s:
                s.sendall(HEALTH)
                bad += not s.recv(4096).startswith(b"HTTP/1.1 200")
        except OSError:
            bad += 1
        times.append((time.perf_counter() - start) * 1e3)
        time.sleep(0.02)
    out.put((times, bad))


async def stream(port, number, stop, counts):
    """One client: a streamed chat after the other. Counts how they ended."""
    turn = 0
    while not stop.is_set():
        turn += 1
        body = json.dumps({"messages": [{"role": "user", "content": f"Tell me about number {number}, turn {turn}."}],
                           "stream": True, "max_tokens": 40, "ignore_eos": True}).encode()
        kind = "broken"
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(post("/v1/chat/completions", body))
            text = await reader.read()
            if text.startswith(b"HTTP/1.1 429") and b"Retry-After:" in text:
                kind = "429"
            elif text.startswith(b"HTTP/1.1 200") and text.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"):
                kind = "200"
            elif text:
                kind = text[:12].decode()
            writer.close()
        except OSError as error:
            kind = type(error).__name__
        counts[kind] = counts.get(kind, 0) + 1
        if kind != "200":
            await asyncio.sleep(0.5)


def streams(port, n, stop, out):
    async def run():
        counts = {}
        await asyncio.gather(*(stream(port, i, stop, counts) for i in range(n)))
        out.put(counts)

    asyncio.run(run())


def large(port, path, body, answers):
    with socket.create_connection(("127.0.0.1", port), timeout=300) as s:
        s.sendall(post(path, body))
        data = bytearray()
        while piece := s.recv(1 << 20):
            data += piece
    answers.append((path, data[9:12].decode()))


def large_requests(size):
    """Two texts, ids, and documents that no context holds: path, body and the status expected."""
    text = "The pump weighs 14 kg and is made by Harlow. "
    texts = json.dumps({"text": text * (size // len(text))}).encode()
    documents = [{"text": text * (size // 4000 // len(text))} for _ in range(4000)]
    chat = json.dumps({"messages": [{"role": "user", "content": "How heavy?"}], "documents": documents}).encode()
    ids = b'{"tokens":[' + b"100," * (size // 4) + b"100]}"
    return [("/tokenize", texts, "200"), ("/tokenize", texts, "200"), ("/v1/chat/completions", chat, "400"),
            ("/detokenize", ids, "200")]


class Background:
    """A function in a process of its own until `end`, which returns what it sent."""

    def __init__(self, function, *args):
        self.stop, self.out = multiprocessing.Event(), multiprocessing.Queue()
        self.process = multiprocessing.Process(target=function, args=(*args, self.stop, self.out), daemon=True)
        self.process.start()

    def end(self):
        self.stop.set()
        value = self.out.get(timeout=300)
        self.process.join()
        return value


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--spanwise", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--idle", type=int, default=2000)
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--body-mb", type=int, default=31)
    parser.add_argument("--settle", type=float, default=60)
    args = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    requests = large_requests(args.body_mb * 1_000_000)

    server = subprocess.Popen([args.spanwise, "serve", "--quiet", "--model", args.model, "--port", "0",
                               "--cache-memory", "64",
                               "--max-body", str(args.body_mb + 1), "--max-documents", "4000"], stdout=subprocess.PIPE, text=True)
    failures = []
    try:
        port = int(re.search(r":(\d+)\s*$", server.stdout.readline()).group(1))
        # What any load takes, and the cache its share, is taken before the first figure.
        warm = Background(streams, port, args.streams)
        time.sleep(25)
        warm.end()
        before = rss_mib(server.pid)

        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(args.idle)]
        with_idle = rss_mib(server.pid)
        clients = Background(streams, port, args.streams)
        prober = Background(probe, port)
        time.sleep(2)
        answers, start = [], time.monotonic()
        threads = [threading.Thread(target=large, args=(port, path, body, answers)) for path, body, _ in requests]
        for thread in threads:
            thread.start()
        most = 0
        while any(thread.is_alive() for thread in threads) and time.monotonic() - start < 280:
            most = max(most, rss_mib(server.pid))
            time.sleep(0.1)
        large_s = time.monotonic() - start
        time.sleep(2)
        times, bad = prober.end()
        counts = clients.end()
        for s in idle:
            s.close()
        time.sleep(args.settle)
        after = rss_mib(server.pid)
    finally:
        server.send_signal(signal.SIGTERM)
        status = server.wait(timeout=60)
        server.stdout.close()

    times.sort()
    at = lambda share: times[min(len(times) - 1, int(share * len(times)))]
    print(f"/health: {len(times)} times, median {at(0.5):.1f} ms, 99 % within {at(0.99):.1f} ms, most {times[-1]:.1f} ms, {bad} failed")
    print(f"streams: {counts}")
    print(f"large bodies: {answers}, {large_s:.1f} s")
    print(f"resident: {before:.0f} MiB before, {with_idle:.0f} with {args.idle} idle connections, at most {most:.0f}, "
          f"{after:.0f} after {args.settle:.0f} s")
    if bad or times[-1] >= 50:
        failures.append("/health took 50 ms or more, or failed")
    if set(counts) - {"200", "429"} or not counts.get("200"):
        failures.append("a client was refused otherwise than by 429")
    if sorted(answers) != sorted((path, expected) for path, _, expected in requests):
        failures.append("a large body was not answered as expected")
    if after > before * 1.1:
        failures.append("memory did not come back")
    if status != 0:
        failures.append(f"the server ended with status {status}")
    for failure in failures:
        print("FAILED:", failure)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

"""Worker processes that generate, tokenise and pack batches in the background."""
from __future__ import annotations

import multiprocessing as mp
import os
import random

from encoding import ROW, arrange, draw_mode, encode, load_tokenizer, pack
from examples import make_example

# Shares of examples by encoding once composed examples are mixed in; the rest is causal.
COMPOSED = [("free", .12), ("free-seq", .05), ("set", .12), ("seq", .08), ("repair", .30), ("free-repair", .08)]


def longest_prompt(x):
    """Longest prompt in tokens at the fraction x of the run: copying has to appear on short prompts first."""
    return 256 if x < .04 else 512 if x < .12 else 1024 if x < .28 else 2048 if x < .5 else 3900


def composed_share(x):
    """How much of COMPOSED is used at the fraction x of the run."""
    return 0.0 if x < .42 else min(1.0, (x - .42) / .1)


def batch_examples(r, longest, books, easy, n=48):
    out = []
    for _ in range(n):
        chars = int(248 * (longest / 80) ** r.random())                                  # log-uniform from 80 tokens to the stage's limit
        nq = r.choice([1, 2, 4, 6, 8] if chars < 1000 else [1, 4, 8, 16] if chars < 4000 else [1, 8, 16, 32])
        out.append(make_example(r, chars=chars, nq=nq, books=books, easy=easy))
    return out


def _worker(out, seed, tok_path, books, progress, rows):
    os.nice(5)
    tok, r, items = load_tokenizer(tok_path), random.Random(seed), []
    while True:
        x = progress.value
        shares = [(m, s * composed_share(x)) for m, s in COMPOSED]
        while sum(i.n for i in items) < (rows + 3) * ROW:
            fresh = [i for i in encode(batch_examples(r, longest_prompt(x), books, x < .3), tok) if i.n <= ROW]
            items += [arrange(i, draw_mode(r, i, shares), r) for i in fresh]
        out.put(pack(items, r, rows))


class Feed:
    def __init__(self, tok_path, books, seed, rows, workers):
        self.progress, self.q = mp.Value("d", 0.0), mp.Queue(2 * workers)
        self.procs = [mp.Process(target=_worker, args=(self.q, seed * 1000 + i, tok_path, books, self.progress, rows), daemon=True) for i in range(workers)]
        for p in self.procs:
            p.start()

    def stop(self):
        for p in self.procs:
            p.terminate()

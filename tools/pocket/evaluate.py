"""Held-out accuracy by question kind and length, wrong refusals, and every way of composing against the flat prompt.

Greedy decoding gives exactly the reference answer if and only if the arg-max is right at every answer position under
teacher forcing, so one forward pass a prompt gives the exact match.

    python3 evaluate.py BOOKS_DIR MODEL_DIR OUT.json [--prompts N] [--lengths 512,1024] [--device cpu]
"""
from __future__ import annotations

import argparse
import json
import random
from dataclasses import dataclass, replace

import numpy as np
import torch

import modes
from encoding import C_CITE, encode, load_tokenizer
from examples import Example, make_example
from lexicon import REFUSAL
from questions import Turn

KINDS = ["single", "reverse", "twohop", "threehop", "compare", "yesno", "list", "count", "unans", "which", "kv", "passkey", "vt1", "vt3", "vtlist",
         "cloze", "quote", "natqa", "halfhop", "tell", "unans_kv", "unans_book", "latest", "refer", "refprev", "split"]
REFUSABLE = ["single", "twohop", "reverse", "compare", "yesno", "kv", "passkey", "vt1", "natqa", "cloze", "refer"]
COMPOSED = ["single", "twohop", "compare", "list", "unans", "kv", "passkey", "vt1", "vt3", "natqa"]
ORDERED = ["latest", "refprev", "split"]
LENGTHS = (512, 1024, 2048, 4000)


@dataclass
class Cell:
    """A set of one-question prompts. `test`: accuracy | refusal | modes | position."""
    test: str
    kind: str
    length: int                                    # prompts have 0.75 to 1 times as many tokens; 0: any length
    n: int
    seed: int
    docs: int = 0                                  # exactly (about) so many documents
    items: list = None
    modes: list = None

    @property
    def name(self):
        return f"{self.kind}@{self.docs}docs" if self.docs else f"{self.kind}@{self.length}"


def plan(prompts=128, lengths=LENGTHS, composed=64, position=600):
    cells = [Cell("accuracy", k, n, prompts, 0) for n in lengths for k in KINDS]
    cells += [Cell("accuracy", k, 0, 2 * prompts, 0, docs=d) for k in ("single", "twohop", "unans") for d in (4, 8, 16)]
    cells += [Cell("refusal", k, 1024, prompts, 0) for k in REFUSABLE] + [Cell("refusal", "single", 0, 2 * prompts, 0, docs=16)]
    cells += [Cell("modes", k, 1024, composed, 0, modes=modes.ALL) for k in COMPOSED]
    cells += [Cell("modes", k, 1024, composed, 0, modes=[("causal",), ("set",), ("free",), ("repair", "none", 0), ("repair", "first", 16), ("repair", "blend", .15)]) for k in ORDERED]
    cells += [Cell("modes", k, 4000, composed // 2, 0, modes=[("causal",), ("set",), ("free",)]) for k in ("single", "twohop", "kv", "unans") if 4000 in lengths]
    cells += [Cell("position", "single", 2600, position, 0)]
    return [replace(c, seed=1000 * i + c.length) for i, c in enumerate(cells)]


def make_prompts(cell, tok, books):
    """One-question examples for a cell, as Examples and Items."""
    r, out, k = random.Random(cell.seed), [], 3.2
    while len(out) < cell.n:
        chars = 10 ** 9 if cell.docs else int(cell.length * k * r.uniform(.8, 1))
        es = [make_example(r, "eval", chars, 1, cell.kind, books, max_docs=cell.docs or 99) for _ in range(16)]
        its = encode(es, tok)
        if cell.docs:
            out += [(e, i) for e, i in zip(es, its) if i.n <= 4096 and cell.docs <= len(e.docs) <= cell.docs + 1]
        else:
            out += [(e, i) for e, i in zip(es, its) if .75 * cell.length <= i.n <= cell.length]
            k *= 1.03 if np.mean([i.n for i in its]) < .88 * cell.length else .97
    return out[:cell.n]


def fill(cell, tok, books):
    pairs = make_prompts(cell, tok, books)
    if cell.test == "refusal":                     # the same prompts with a refusal for an answer
        es = [Example(e.system, e.docs, [Turn(e.turns[0].q, REFUSAL, "", e.turns[0].kind, e.turns[0].gold)]) for e, _ in pairs]
        cell.items = encode(es, tok)
    else:
        cell.items = [i for _, i in pairs]
    return cell


@torch.no_grad()
def judge(model, items, wanted, tokens=32768):
    """For every mode, one row a prompt: (turn, documents, exact, value, citation, KL to the first mode)."""
    dev, items, res = model.emb.device, sorted(items, key=lambda i: i.n), {m: [] for m in wanted}
    while items:
        n = max(1, tokens // items[-1].n)
        chunk, items, ref = items[-n:], items[:-n], None
        b, rows = modes.to_batch(chunk, dev), [(k, t - 1) for k, i in enumerate(chunk) for t in range(*i.turns[0][1:3])]
        rk, rt = torch.tensor(rows, device=dev).T
        gold = b["tok"][rk, rt + 1]
        for m in wanted:
            logp = model.head(modes.hidden(model, b, m)[rk, rt]).float().log_softmax(-1)
            ref = logp if ref is None else ref
            ok, kl, at = (logp.argmax(-1) == gold).cpu().numpy(), (ref.exp() * (ref - logp)).sum(-1).cpu().numpy(), 0
            for i in chunk:
                t, s, e, val = i.turns[0]
                o, cite = ok[at:at + e - s], i.cls[s:e] == C_CITE
                res[m].append((t, len(i.doc_lens), o.all(), all(o[j - s] for j in val), o[cite].all(), float(kl[at:at + e - s].mean())))
                at += e - s
    return res


def _mean(rows, k, scale=100, digits=1):
    return round(scale * float(np.mean([row[k] for row in rows])), digits)


def run_cell(model, cell, buckets=6):
    """{name: figures} of one cell."""
    if cell.test == "modes":
        table = judge(model, cell.items, cell.modes, tokens=8192 if cell.length < 2000 else 16384)
        return {f"modes {cell.name}": {"-".join(map(str, m)): [_mean(rows, 2), _mean(rows, 4), _mean(rows, 5, 1, 5)] for m, rows in table.items()}}
    rows = judge(model, cell.items, [("causal",)])[("causal",)]
    if cell.test == "refusal":
        return {f"refused {cell.name}": _mean(rows, 2)}
    if cell.test == "position":
        placed = [(min(buckets - 1, int(x[0].gold[0] / (x[1] - 1) * buckets)), x) for x in rows if x[1] > 1]
        return {"position": [_mean([x for p, x in placed if p == k] or rows, 2) for k in range(buckets)]}
    return {cell.name: dict(exact=_mean(rows, 2), value=_mean(rows, 3), cite=_mean(rows, 4), documents=_mean(rows, 1, 1), n=len(rows))}


def main():
    import export
    from books import Books
    from model import Pocket
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("books"), p.add_argument("model"), p.add_argument("out")
    p.add_argument("--prompts", type=int, default=64)
    p.add_argument("--lengths", default="512,1024,2048,4000")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    a = p.parse_args()
    model = Pocket(device=a.device, dtype=torch.float32 if a.device == "cpu" else torch.bfloat16)
    export.read_weights(model, a.model)
    tok, books, results = load_tokenizer(f"{a.model}/tokenizer.json"), Books(a.books, "eval"), {}
    for cell in plan(a.prompts, tuple(map(int, a.lengths.split(","))), a.prompts // 2, 4 * a.prompts):
        got = run_cell(model, fill(cell, tok, books))
        print(got, flush=True)
        results.update(got)
        with open(a.out, "w", encoding="utf-8") as f:
            json.dump(results, f, indent=1)


if __name__ == "__main__":
    main()

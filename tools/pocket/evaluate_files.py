"""Judges question files as make_eval.py writes them:

    python3 evaluate_files.py MODEL_DIR OUT.json FILE.jsonl... [--prompts N] [--modes causal,set,free]

For every file and mode: exact, value and citation accuracy, mean KL to the flat prompt, and, where an answer is there, wrong refusals.
"""
from __future__ import annotations

import argparse
import json
import os

import numpy as np
import torch

import export
from encoding import encode, load_tokenizer
from evaluate import judge
from examples import Example
from lexicon import REFUSAL
from model import Pocket
from questions import Turn

EXTRA = {"placed": ("repair", "none", 0), "first-16": ("repair", "first", 16), "blend-15": ("repair", "blend", .15)}


def read(path, limit, tok):
    """(items, the same prompts with a refusal for an answer)"""
    with open(path, encoding="utf-8") as f:
        lines = [json.loads(line) for _, line in zip(range(limit), f)]

    def example(e, answer, value):
        docs = [(d["id"], d.get("title", ""), d["text"]) for d in e["documents"]]
        return Example(e.get("system", ""), docs, [Turn(e["question"], answer, value, e["kind"])])
    items = encode([example(e, e["answer"], e["value"]) for e in lines], tok)
    refused = encode([example(e, REFUSAL, "") for e in lines if e["answerable"]], tok)
    return items, refused


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model"), p.add_argument("out"), p.add_argument("files", nargs="+")
    p.add_argument("--prompts", type=int, default=1000)
    p.add_argument("--modes", default="causal", help="of: causal, set, seq, free, free-seq, " + ", ".join(EXTRA))
    p.add_argument("--no-refusals", action="store_true", help="leave out the check for wrong refusals, half of the work")
    p.add_argument("--dtype", default="", choices=["", "float32", "bfloat16"], help="default: float32 on the CPU, bfloat16 elsewhere")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    a = p.parse_args()
    dtype = a.dtype or ("float32" if a.device == "cpu" else "bfloat16")
    model = Pocket(device=a.device, dtype=getattr(torch, dtype))
    export.read_weights(model, a.model)
    tok, results = load_tokenizer(f"{a.model}/tokenizer.json"), {}
    wanted = [EXTRA.get(m, (m,)) for m in a.modes.split(",")]
    for path in a.files:
        items, refused = read(path, a.prompts, tok)
        row = {}
        for m, rows in judge(model, items, wanted, tokens=8192).items():
            mean = lambda k: float(np.mean([x[k] for x in rows]))
            row["-".join(map(str, m))] = dict(exact=round(100 * mean(2), 1), value=round(100 * mean(3), 1), cite=round(100 * mean(4), 1), kl=round(mean(5), 5), n=len(rows))
        if refused and not a.no_refusals:
            row["refused"] = round(100 * float(np.mean([x[2] for x in judge(model, refused, [("causal",)], tokens=8192)[("causal",)]])), 1)
        name = os.path.basename(path).removesuffix(".jsonl")
        results[name] = row
        print(name, row, flush=True)
        with open(a.out, "w", encoding="utf-8") as f:
            json.dump(results, f, indent=1)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Writes what transformers computes for a set of documents under an explicit mask and explicit positions.

    set_vectors.py GOLDEN_MODELS_DIR OUT_FILE

The reference of composition by sets (Set-Based Prompting): prefix, then documents that see the prefix and themselves and all
start at one position, then a tail that sees everything and starts behind the longest document. One forward pass over the
flat tokens with a 4-D mask; no cache, no re-basing.
"""
import json
import random
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

MODELS = ["llama2", "llama3", "llama_linear", "yarn", "yarn_mscale", "qwen25", "qwen3"]
PREFIX, DOCUMENTS, TAIL = 11, [10, 70, 41], 9
ROWS = [0, TAIL - 1]  # of the tail


def main(models, out):
    draw = random.Random(5)
    tokens = lambda n: [draw.randrange(3, 200) for _ in range(n)]
    prefix, documents, tail = tokens(PREFIX), [tokens(n) for n in DOCUMENTS], tokens(TAIL)
    flat, segment, positions = list(prefix), [0] * PREFIX, list(range(PREFIX))
    for k, document in enumerate(documents):
        flat += document
        segment += [k + 1] * len(document)
        positions += range(PREFIX, PREFIX + len(document))
    flat += tail
    segment += [-1] * TAIL
    positions += range(PREFIX + max(DOCUMENTS), PREFIX + max(DOCUMENTS) + TAIL)
    n = len(flat)
    visible = torch.tensor([[j <= i and (segment[i] == -1 or segment[j] in (0, segment[i])) for j in range(n)] for i in range(n)])
    mask = torch.zeros(1, 1, n, n).masked_fill(~visible, torch.finfo(torch.float32).min)
    result = {"prefix": prefix, "documents": documents, "tail": tail, "rows": ROWS, "models": {}}
    for name in MODELS:
        model = AutoModelForCausalLM.from_pretrained(Path(models) / name, dtype=torch.float32, attn_implementation="eager").eval()
        with torch.no_grad():
            logits = model(torch.tensor([flat]), attention_mask=mask, position_ids=torch.tensor([positions]), use_cache=False).logits[0]
        result["models"][name] = [[float(f"{v:.9g}") for v in logits[n - TAIL + r].tolist()] for r in ROWS]
    Path(out).write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

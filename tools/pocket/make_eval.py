"""Writes held-out evaluation prompts as JSON lines, one file a kind and size:

    python3 make_eval.py BOOKS_DIR OUT_DIR --tokenizer ../../models/pocket/tokenizer.json [--prompts 100] [--lengths 512,1024,2048,4000]
    python3 make_eval.py BOOKS_DIR ../../tests/data/qa --small      the committed selection

A line is {"kind", "system"?, "documents": [{"id", "title"?, "text"}], "question", "answer", "value", "citations", "answerable"};
`value` is the part of the answer that carries the information, `citations` the ids of the supporting documents in order.
"""
from __future__ import annotations

import argparse
import json
import os

from books import Books
from encoding import load_tokenizer
from evaluate import KINDS, Cell, make_prompts

HERE = os.path.dirname(os.path.abspath(__file__))


def record(e):
    t, ids = e.turns[0], [d[0] for d in e.docs]
    out = {"kind": t.kind}
    if e.system:
        out["system"] = e.system
    out["documents"] = [{"id": i, **({"title": title} if title else {}), "text": text} for i, title, text in e.docs]
    answerable = not t.kind.startswith("unans")
    out.update(question=t.q, answer=t.a, value="" if not answerable else t.val or t.a, citations=list(dict.fromkeys(ids[g] for g in t.gold)), answerable=answerable)
    return out


def write(cell, tok, books, out):
    name = f"{cell.kind}-{cell.docs}docs" if cell.docs else f"{cell.kind}-{cell.length}"
    with open(f"{out}/{name}.jsonl", "w", encoding="utf-8") as f:
        for e, _ in make_prompts(cell, tok, books):
            f.write(json.dumps(record(e), ensure_ascii=False) + "\n")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("books"), p.add_argument("out")
    p.add_argument("--tokenizer", default=os.path.join(HERE, "../../models/pocket/tokenizer.json"))
    p.add_argument("--prompts", type=int, default=100)
    p.add_argument("--lengths", default="512,1024,2048,4000")
    p.add_argument("--small", action="store_true", help="the selection under tests/data/qa: at most 4 MB")
    a = p.parse_args()
    tok, books = load_tokenizer(a.tokenizer), Books(a.books, "eval")
    os.makedirs(a.out, exist_ok=True)
    if a.small:
        cells = [Cell("accuracy", k, 1024, 30, 77_000 + i) for i, k in enumerate(KINDS) if k not in ("single", "unans", "twohop")]
        cells += [Cell("accuracy", k, 1024, 60, 77_100 + i) for i, k in enumerate(("single", "twohop", "unans"))]
        cells += [Cell("accuracy", "single", 0, 40, 77_200, docs=16), Cell("accuracy", "unans", 0, 40, 77_201, docs=8)]
    else:
        cells = [Cell("accuracy", k, int(n), a.prompts, 78_000 + 10 * i + int(n)) for n in a.lengths.split(",") for i, k in enumerate(KINDS)]
        cells += [Cell("accuracy", "single", 0, a.prompts, 79_000 + d, docs=d) for d in (4, 8, 16)]
    for cell in cells:
        write(cell, tok, books, a.out)


if __name__ == "__main__":
    main()

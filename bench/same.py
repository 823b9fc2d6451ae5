#!/usr/bin/env python3
"""How much kept KV is found by texts that are the same but are not written down alike.

usage: bench/same.py [--spanwise PROGRAM] [--model MODEL] [--requests N] [--seed N]

Starts one server for every case and mode. The first rows ask once about six documents, and then again about the same ones
under other ids, without ids in another order, written as another program would have saved them (byte order mark, \\r\\n,
accents apart, white space at the end), and with one of them twice: the share of the documents' tokens that is found then. The
last rows are a workload: requests of six documents, drawn by Zipf's law from 36 texts, each time under another id, in one of four
forms, or both, and the share found over all of them; then what it would be if every text always came alike.
"""
import argparse
import itertools
import random
import unicodedata
from pathlib import Path

from serving import Server

ROOT = Path(__file__).resolve().parent.parent
MODES = ["set", "repair", "exact"]


def saved_otherwise(text):
    return "\ufeff" + unicodedata.normalize("NFD", text).replace("\n", "\r\n") + " \r\n"


FORMS = [lambda text: text, lambda text: text.replace("\n", "\r\n"), lambda text: unicodedata.normalize("NFD", text) + "\n",
         saved_otherwise]


def accented(text):
    """The samples are plain English; names with accents make the forms differ in more than the ends of lines."""
    return text.replace("Harlow", "Hárlow").replace("Quist", "Quïst")


def ask(server, documents, mode):
    """Tokens of documents that were found, and all of them."""
    answer = server.ask("Which of these was founded first?", documents, 1, compose=mode, force=True)
    spans = [span for span in answer["spanwise"]["spans"] if span["document"]]
    return sum(span["cached_tokens"] for span in spans), sum(span["tokens"] for span in spans)


def workload(texts, n_requests, seed, other_ids, other_forms):
    """Requests, each a list of documents."""
    draw = random.Random(seed)
    weights = [1 / rank for rank in range(1, len(texts) + 1)]
    serial = itertools.count()
    for _ in range(n_requests):
        chosen = set()
        while len(chosen) < 6:
            chosen.update(draw.choices(range(len(texts)), weights))
        places = draw.sample(sorted(chosen), 6)
        forms = [draw.randrange(len(FORMS)) for _ in places]
        yield [{"id": f"{next(serial)}.md" if other_ids else f"text-{i}.md",
                "text": FORMS[form](texts[i]) if other_forms else texts[i]} for i, form in zip(places, forms)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--spanwise", default=ROOT / "build/release/spanwise")
    parser.add_argument("--model", default=ROOT / "models/pocket")
    parser.add_argument("--requests", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    texts = [accented(file.read_text()) for file in sorted((ROOT / "examples/documents").iterdir())
             if file.suffix in (".md", ".txt")]
    first = [{"id": f"notes/{i}.md", "text": text} for i, text in enumerate(texts[:6])]
    cases = {"the same": first,
             "other ids": [{**d, "id": f"archive/{i}@120"} for i, d in enumerate(first)],
             "no ids, moved": [{"text": d["text"]} for d in first[1:] + first[:1]],
             "saved otherwise": [{**d, "text": saved_otherwise(d["text"])} for d in first],
             "one of them twice": first + [{"id": "copy.md", "text": first[0]["text"]}]}
    workloads = {"workload: other ids": (True, False), "workload: other forms": (False, True), "workload: both": (True, True),
                 "workload: all alike": (False, False)}
    rows = {name: [] for name in [*cases, *workloads]}
    for mode in MODES:
        for name, documents in cases.items():
            with Server(args.spanwise, "--model", args.model) as server:
                ask(server, [{"text": d["text"]} for d in first] if name == "no ids, moved" else first, mode)
                found, all_tokens = ask(server, documents, mode)
                rows[name].append(found / all_tokens)
        for name, others in workloads.items():
            with Server(args.spanwise, "--model", args.model) as server:
                totals = [ask(server, documents, mode) for documents in workload(texts, args.requests, args.seed, *others)]
                rows[name].append(sum(found for found, _ in totals) / sum(n for _, n in totals))
    print("| |", " | ".join(MODES), "|")
    print("|---|" + "---|" * len(MODES))
    for name, shares in rows.items():
        print(f"| {name} |", " | ".join(f"{100 * share:.0f} %" for share in shares), "|")


if __name__ == "__main__":
    main()

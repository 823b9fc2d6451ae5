#!/usr/bin/env python3
"""Turns questions over several passages (lost in the middle) into question records for `spanwise eval`.

    scripts/multidoc_records.py nq DATA > nq.jsonl        DATA/multidoc/nq_multidoc_300.jsonl.gz and its passages
    scripts/multidoc_records.py hotpot DATA > hotpot.jsonl
    scripts/multidoc_records.py musique DATA > musique.jsonl

Documents get numbers as ids, since that is what a small model can cite; the ones that the answer needs are cited.
"""
import gzip
import json
import sys
from pathlib import Path


def lines(path):
    with gzip.open(path, "rt", encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def record(kind, question, answers, documents):
    """documents: (title, text, gold)."""
    # Numbers in no order, the same for every run.
    ids = [str(1 + (i * 389 + len(question) * 31) % 997) for i in range(len(documents))]
    cited = [i for i, d in zip(ids, documents) if d[2]]
    return {
        "kind": kind,
        "documents": [{"id": i, "title": title, "text": text} for i, (title, text, _) in zip(ids, documents)],
        "question": question[0].upper() + question[1:] + ("" if question.endswith("?") else "?"),
        "answer": answers[0] + "".join(f" [{i}]" for i in cited),
        "value": answers[0],
        "also": answers[1:],
        "citations": cited,
    }


def nq(data):
    passages = {}
    for path in (data / "qa/nq_oracle.passages.jsonl.gz", data / "pool/wiki_passages.jsonl.gz"):
        passages.update((p["doc_id"], p) for p in lines(path))
    for r in lines(data / "multidoc/nq_multidoc_300.jsonl.gz"):
        documents = [(passages[d]["title"], passages[d]["text"], d == r["gold_doc"])
                     for d in [r["gold_doc"], *r["distractors"]]]
        yield record("nq", r["question"], r["answers"], documents)


def hotpot(data):
    for r in lines(data / "multidoc/hotpotqa_100.jsonl.gz"):
        yield record("hotpot", r["question"], r["answers"],
                     [(d["title"], " ".join(s.strip() for s in d["sentences"]), bool(d["gold"])) for d in r["docs"]])


def musique(data):
    for r in lines(data / "multidoc/musique_100.jsonl.gz"):
        yield record("musique", r["question"], r["answers"],
                     [(d["title"], d["text"], bool(d["gold"])) for d in r["docs"]])


def main():
    sets = {"nq": nq, "hotpot": hotpot, "musique": musique}
    if len(sys.argv) != 3 or sys.argv[1] not in sets:
        sys.exit(__doc__)
    for r in sets[sys.argv[1]](Path(sys.argv[2])):
        print(json.dumps(r, ensure_ascii=False))


if __name__ == "__main__":
    main()

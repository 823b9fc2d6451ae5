"""Public-domain books: text for language modelling, sentences to hide things in, and questions made from passages."""
from __future__ import annotations

import gzip
import json
import os
import re

from lexicon import REFUSAL
from questions import Turn

HELD_OUT = ("pg35", "pg244")
FILES = ("gutenberg_books_core.jsonl.gz", "gutenberg_books_more.jsonl.gz")
_TABLE = {0x201c: '"', 0x201d: '"', 0x2018: "'", 0x2019: "'", 0x5f: None, 0x2014: " - "}
_SENTENCE = re.compile(r"[A-Z][^.!?\n\"]{25,220}[.]")
_WORD = re.compile(r"[A-Za-z][A-Za-z-]{4,}|\d[\d,]*\d")
_VERBS = ("was|were|had|went|came|took|saw|said|made|gave|knew|thought|felt|stood|sat|ran|found|left|brought|heard|told|held|"
          "began|got|kept|spoke|fell|led|met|drew|wrote|rose|turned|looked|opened|[a-z]{2,}ed")
_WHO = re.compile(rf"^((?:(?:Mr|Mrs|Dr|Sir|Lord|Lady|Prince|Miss|Captain)\.? )?[A-Z][a-z]{{2,}}(?: [A-Z][a-z]{{2,}}){{0,2}}) ({_VERBS}) ")
_NOT_NAMES = set("The This That These Those There Then They When What While With Where After Before But And His Her She You Your Our One Some "
                 "Such For From Not Now Here How Having Being All Any Every Each Both Nothing Something Everything Once Upon It Its In On At "
                 "If As So To By Of No Nor Or Yet Who Whom Why Thus Two Three Many Most Much Several Others Another Never".split())


def _clean(s):
    return re.sub(r"\s+", " ", s.translate(_TABLE)).strip()


class Books:
    """Paragraphs of the books of one split: 'train', or the two held-out ones for 'eval'."""

    def __init__(self, root, split="train"):
        self.passages = []
        for name in FILES:
            with gzip.open(os.path.join(root, name), "rt", encoding="utf-8") as f:
                for line in f:
                    b = json.loads(line)
                    if (b["id"] in HELD_OUT) == (split == "eval"):
                        self.passages += [p for p in map(_clean, re.split(r"\n\s*\n", b["text"])) if 200 < len(p) < 1400]
        self.sentences = [s for p in self.passages[::3] for s in re.findall(r"[A-Z][^.!?\n\"]{30,180}[.]", p)]

    def running_text(self, r, chars):
        k, text = r.randrange(len(self.passages)), ""
        while len(text) < chars:
            text, k = text + self.passages[k % len(self.passages)] + "\n", k + 1
        return text[:chars + 400]


def _cloze(r, s, id_, i):
    words = [w for w in _WORD.findall(s) if s.count(w) == 1]
    if not words:
        return None
    w = r.choice(words)
    return Turn(r.choice(["Fill in the blank: ", "Complete this sentence from the documents: "]) + s.replace(w, "____"), f"{w} [{id_}]", w, "cloze", [i])


def _quote(r, s, id_, i):
    half = " ".join(s.split()[:max(4, len(s.split()) // 2)])
    return Turn(f"Complete the quotation: {half} ...", f"{s} [{id_}]", "", "quote", [i])


def _who(s, id_, i):
    """'Alice opened the door.' -> Who opened the door? Alice"""
    m = _WHO.match(s)
    if not m or m.group(1).split()[0] in _NOT_NAMES or len(s) < 45:
        return None
    name = m.group(1)
    return Turn(f"Who {s[len(name) + 1:-1]}?", f"{name} [{id_}]", name, "natqa", [i])


def book_example(r, books, chars, nq, ids_of, kind=None):
    """(ids, documents, turns) over passages of the books."""
    docs = []
    while sum(map(len, docs)) < chars * .8 or not docs:
        x = r.choice(books.passages)
        docs += [] if x in docs else [x]
    ids, everything, turns = ids_of(r, len(docs)), "\n".join(docs), []
    for _ in range(nq):
        i, k = r.randrange(len(docs)), r.random()
        want = kind or ("natqa" if k < .3 else "cloze" if k < .68 else "quote" if k < .83 else "which" if k < .9 else "unans")
        if want == "natqa":
            found = [s for s in _SENTENCE.findall(docs[i]) if _WHO.match(s)]
            s = r.choice(found or [""])
        else:
            s = r.choice(_SENTENCE.findall(docs[i]) or [""])
        if want == "unans":                        # a sentence that stands in none of the documents
            other = r.choice(books.sentences)
            if other in everything or len(other) < 40:
                continue
            t = (_who(other, "", 0) if r.random() < .5 else None) or (_cloze if r.random() < .5 else _quote)(r, other, "", 0)
            if t:
                turns.append(Turn(t.q, REFUSAL, "", "unans_book"))
            continue
        if not s or everything.count(s) != 1:
            continue
        t = _who(s, ids[i], i) if want == "natqa" else _cloze(r, s, ids[i], i) if want == "cloze" else _quote(r, s, ids[i], i) if want == "quote" else \
            Turn(f"Which document says: {s}", f"See [{ids[i]}].", "", "which", [i])
        if t:
            turns.append(t)
    return ids, docs, turns

"""Turning facts into sentences and sentences into documents.

A sentence remembers the facts it tells, so a document that is cut short still knows what it says.
"""
from __future__ import annotations

import json
from dataclasses import dataclass, field

from lexicon import WORDS, cap, code, syllables


@dataclass
class Sentence:
    text: str
    facts: tuple = ()


@dataclass
class Doc:
    title: str
    text: str
    facts: list = field(default_factory=list)      # told in this document
    spoilt: list = field(default_factory=list)     # perhaps half told, where the document was cut


def filler(r, e=None, books=None):
    """A sentence that answers no question; with `e` it may mention that entity."""
    x = r.random()
    if books and x < .12:
        return r.choice(books.sentences)
    if e and x < .5:
        return r.choice(WORDS["FILLER"]).replace("{e}", e.disp).replace("{E}", cap(e.disp))
    if x < .62:
        return r.choice(WORDS["ASIDE"])
    s = r.choice(WORDS["COLOUR_SENTENCE"])
    while "{" in s:
        i = s.index("{")
        j = s.index("}", i)
        s = s[:i] + _slot(r, s[i + 1:j]) + s[j + 1:]
    return cap(s)


def _slot(r, name):
    if name == "person":
        return r.choice(WORDS["FIRST_F" if r.random() < .5 else "FIRST_M"]) + " " + (r.choice(WORDS["LAST"]) if r.random() < .5 else syllables(r, 2))
    if name == "town":
        return syllables(r, 1) + r.choice(WORDS["TOWN"])
    if name == "num":
        return str(r.randint(2, 60))
    if name == "year":
        return str(r.randint(1850, 2035))
    return r.choice(WORDS[name])


class Writer:
    """Writes prose about one entity in one manner."""

    def __init__(self, r, books, plain=None, density=None):
        self.r, self.books = r, books
        self.plain = r.random() if plain is None else plain            # how often the canonical statement is used as it stands
        self.density = r.choice([0, .15, .3, .6, 1.0, 1.6]) if density is None else density
        self.tails = r.choice([0, .1, .35])
        self.pronouns = r.choice([0, .3, .6])

    def about(self, e, facts, topic_known=False):
        """Sentences that tell the facts in order. topic_known: a title has already named the entity."""
        r, out, todo, first = self.r, [], list(facts), not topic_known
        if not topic_known and r.random() < .25:
            out.append(Sentence(cap(self._intro(e))))
            first = r.random() < .5
        while todo:
            used, text = self._statement(e, todo, first)
            out.append(Sentence(cap(self._adorn(text, first)), tuple(used)))
            del todo[:len(used)]
            first = False
            n = self.density
            while n > 0 and r.random() < n:
                out.append(Sentence(filler(r, e, self.books)))
                n -= 1
        return out

    def _intro(self, e):
        s = self.r.choice(WORDS["INTRO"])
        return s.replace("{e}", e.disp).replace("{is}", e.be).replace("{cls}", e.t.cls).replace("{adj}", self.r.choice(WORDS["TRAIT"])) \
                .replace(" a o", " an o").replace(" a a", " an a").replace(" a e", " an e").replace(" a u", " an u")

    def _statement(self, e, todo, first):
        r, f, x = self.r, todo[0], self.r.random()
        g = todo[1] if len(todo) > 1 else None
        if r.random() >= self.plain:
            if x < .14 and f.r.phrases:
                np = r.choice(f.r.phrases).replace("{v}", f.v)
                if g and g.r.verbs and r.random() < .4:
                    return [f, g], f"{self._ref(e, first, True)}, {np}, {r.choice(g.r.verbs).replace('{v}', g.v)}."
                return [f], f"{self._ref(e, first, True)} {e.be} {np}."
            if x < .32 and g and f.r.verbs and g.r.verbs:
                a, b = (r.choice(h.r.verbs).replace("{v}", h.v) for h in (f, g))
                if r.random() < .3:
                    return [f, g], f"{self._ref(e, first, True)}, {'who' if e.t.name in ('person', 'team') else 'which'} {a}, {b}."
                return [f, g], f"{self._ref(e, first, True)} {a} and {b}."
            if x < .44 and not first:
                return [f], r.choice(WORDS["SAY_TOPIC"]).replace("{n}", r.choice(f.r.nouns)).replace("{v}", f.v) \
                            .replace("{its}", e.its).replace("{cls}", e.t.cls)
            if x < .56:
                s = r.choice(WORDS["SAY"]).replace("{n}", r.choice(f.r.nouns))
            else:
                s = r.choice(f.r.says)
        else:
            s = f.r.says[0]
        lead = s.startswith("{e} ")
        ref = self._ref(e, first, lead)
        if not lead and not s.startswith("{e}") and ref in ("he", "she", "they", "it"):
            ref = e.disp
        return [f], s.replace("{e}", ref).replace("{v}", f.v)

    def _ref(self, e, first, subject):
        """How a sentence refers to its entity: by name unless the name has just been given."""
        r = self.r
        if first or r.random() >= self.pronouns:
            return e.disp
        if subject and r.random() < .7:
            return e.pronoun
        if e.t.name == "person":
            return e.name.split(" ", 1)[1] if r.random() < .5 else e.disp
        return "the " + e.t.cls if r.random() < .6 else e.disp

    def _adorn(self, s, first):
        r = self.r
        if r.random() < self.tails and s.endswith(".") and not s.endswith("..") and len(s) < 150:
            s = s[:-1] + r.choice(WORDS["TAIL"])
        if not first and r.random() < .06:
            if s.split(" ", 1)[0] in ("The", "It", "Its", "A", "Her", "His", "Their", "There", "Most", "In"):
                s = s[0].lower() + s[1:]
            s = r.choice(WORDS["OPENER"]) + s
        return s


def join(r, sentences, paragraphs):
    """One text; with `paragraphs` broken by empty lines here and there."""
    out = []
    for i, s in enumerate(sentences):
        out.append(s.text)
        out.append("\n\n" if paragraphs and r.random() < .3 else " ")
    return "".join(out[:-1])


def cut(r, sentences):
    """Drops sentences at the start or the end, as when a chunk is cut from a longer document; sometimes inside a sentence."""
    told, lost = list(sentences), []
    if r.random() < .5:
        k = r.randint(1, max(1, len(told) // 3))
        lost, told = told[:k], told[k:]
    if r.random() < .6 and len(told) > 1:
        k = r.randint(1, max(1, len(told) // 3))
        lost, told = lost + told[-k:], told[:-k]
        if r.random() < .5:
            words = lost[-1].text.split()
            told.append(Sentence(" ".join(words[:r.randint(1, max(1, len(words) - 1))])))
    return told, [f for s in lost for f in s.facts]


def record(r, e, facts):
    """A record sheet, a JSON object or a bullet list."""
    x = r.random()
    if x < .5:
        head = (cap(e.t.cls) + ": " if r.random() < .6 else "") + e.name
        return "\n".join([head] + [cap(r.choice(f.r.nouns)) + ": " + f.v for f in facts])
    if x < .7:
        return json.dumps({e.t.cls: e.name, **{f.r.nouns[0]: f.v for f in facts}}, ensure_ascii=False)
    return "\n".join([cap(e.name)] + ["- " + r.choice(f.r.nouns) + ": " + f.v for f in facts])


def title_for(r, e):
    """(title, whether it names the entity)"""
    x = r.random()
    if x < .6:
        return cap(e.disp if r.random() < .3 else e.name), True
    if x < .85:
        return r.choice(WORDS["TITLE"]).replace("{e}", e.name).replace("{cls}", e.t.cls).replace("{Cls}", cap(e.t.cls)), True
    return r.choice(WORDS["PLAIN_TITLE"]).replace("{n}", code(r, "DD")), False

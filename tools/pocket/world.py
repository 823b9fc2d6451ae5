"""Invented worlds: entities, their facts, and the documents that tell them."""
from __future__ import annotations

from dataclasses import dataclass, field

import prose
from lexicon import TYPES, WORDS, cap, fresh_name, value
from prose import Doc


@dataclass(eq=False)
class Entity:
    t: object
    name: str
    disp: str
    pronoun: str
    its: str
    be: str
    facts: dict = field(default_factory=dict)


@dataclass(eq=False)
class Fact:
    e: Entity
    r: object
    v: str
    target: Entity = None
    num: float = None
    doc: int = -1                                  # the document that tells it; -1 where none does


def new_entity(r, kind, like, evaluation, used):
    t = TYPES[kind]
    name = fresh_name(r, kind, like, evaluation, used)
    pronoun, its, be = "it", "its", "is"
    if kind == "person":
        first = name.split()[0]
        she = first in WORDS["FIRST_F"] or (first not in WORDS["FIRST_M"] and first[-1] in "aei")
        pronoun, its = ("she", "her") if she else ("he", "his")
    elif kind == "team":
        pronoun, its, be = "they", "their", "are"
    return Entity(t, name, "the " + name if t.article else name, pronoun, its, be)


class World:
    """Documents about invented entities, about `chars` characters of them, in a random order with ids."""

    def __init__(self, r, split, chars, max_docs=99, books=None):
        self.r, self.eval, self.books = r, split == "eval", books
        self.ents, self.names = {t: [] for t in TYPES}, set()
        self.facts, self.docs, self.queue = [], [], []
        x = r.random()
        self.style = "mixed" if x < .45 else "prose"
        self.titled = r.random() < .65             # most documents of this world have titles
        self.paragraphs = self.style == "prose" and r.random() < .4
        self.plain = r.choice([.1, .3, .6, .9]) if self.style == "prose" else .25
        self.density = None if self.style == "prose" else r.choice([.1, .3])
        self.per_doc = r.choice([(1, 4), (1, 6), (3, 8)])
        strangers = r.choice([0, 0, 0, .15, .4]) if books else 0
        main, size = r.sample(list(TYPES), r.choice([1, 2, 2, 3, 4])), 0
        while size < chars and len(self.docs) < max_docs:
            before = len(self.docs)
            if r.random() < strangers:
                self.docs.append(Doc("", r.choice(books.passages)[:r.choice([300, 600, 900])]))
            else:
                self._document(main)
            size += sum(len(d.text) + len(d.title) + 20 for d in self.docs[before:])

    def entity(self, kind, like=None):
        self.ents[kind].append(new_entity(self.r, kind, like, self.eval, self.names))
        return self.ents[kind][-1]

    def stranger(self, e):
        """An entity with a name much like that of `e` that no document describes."""
        return new_entity(self.r, e.t.name, e.name if self.r.random() < .75 else None, self.eval, self.names)

    def told(self):
        return [f for f in self.facts if f.doc >= 0]

    def add_fact(self, e, rel):
        r, num, target = self.r, None, None
        if rel.target:
            pool = [x for x in self.ents[rel.target] if x is not e]
            if pool and r.random() < .55:          # an entity that is there already: two-hop and list questions
                target = r.choice(pool[-6:])
            else:
                known = self.ents[rel.target]
                target = self.entity(rel.target, r.choice(known).name if known and r.random() < .4 else None)
                if r.random() < .7:
                    self.queue.append(target)      # it gets a document of its own later
            v = target.disp
        else:
            v, num = value(r, rel.spec)
            if rel.spec[0] == "w" and r.random() < .3:
                same = [f.v for f in self.facts if f.r is rel]
                v = r.choice(same) if same else v
        f = e.facts[rel.key] = Fact(e, rel, v, target, num)
        self.facts.append(f)
        return f

    def _next_entity(self, main):
        r = self.r
        if self.queue and r.random() < .6:
            return self.queue.pop(r.randrange(len(self.queue)))
        t = r.choice(main)
        known = self.ents[t]
        return self.entity(t, r.choice(known).name if known and r.random() < .6 else None)

    def _publish(self, title, text, facts, spoilt=()):
        for f in facts:
            f.doc = len(self.docs)
        self.docs.append(Doc(title, text, list(facts), list(spoilt)))

    def _document(self, main):
        r, e = self.r, self._next_entity(main)
        x = r.random()
        if self.style == "mixed":
            if x < .1:
                return self._table(e)
            if x < .3:
                facts = self._facts(e)
                title = prose.title_for(r, e)[0] if self.titled and r.random() < .5 else ""
                return self._publish(title, prose.record(r, e, facts), facts)
        elif x < .04:
            return self._table(e)
        self._article(e)

    def _facts(self, e):
        n = min(len(e.t.rels), self.r.randint(*self.per_doc))
        return [self.add_fact(e, q) for q in self.r.sample(e.t.rels, n)]

    def _table(self, first):
        """Several entities, the same columns."""
        r, t = self.r, first.t
        rels = r.sample(t.rels, r.randint(1, min(4, len(t.rels))))
        es = [first] + [self.entity(t.name, first.name if r.random() < .5 else None) for _ in range(r.randint(1, 6))]
        rows, head = [[self.add_fact(e, q) for q in rels] for e in es], [r.choice(q.nouns) for q in rels]
        cells = [[e.name] + [f.v for f in row] for e, row in zip(es, rows)]
        if r.random() < .5:
            text = "\n".join("| " + " | ".join(c) + " |" for c in [[t.cls] + head] + cells)
        else:
            text = "\n".join(cap(e.disp) + ": " + "; ".join(h + " " + f.v for h, f in zip(head, row)) + "." for e, row in zip(es, rows))
        self._publish(cap(t.plural) if self.titled and r.random() < .7 else "", text, [f for row in rows for f in row])

    def _article(self, e):
        r = self.r
        writer = prose.Writer(r, self.books, self.plain, self.density)
        title, names = prose.title_for(r, e) if self.titled and r.random() < .93 else ("", False)
        facts = self._facts(e)
        sentences = writer.about(e, facts, topic_known=names and r.random() < .3)
        if r.random() < .07:                       # a second entity of the same kind in the same document
            other = self.entity(e.t.name, e.name)
            sentences += writer.about(other, self._facts(other))
            names = False
        if names and len(sentences) >= 5 and r.random() < .25:
            return self._chunks(title, sentences)
        spoilt = []
        if names and len(sentences) >= 3 and r.random() < .2:
            sentences, spoilt = prose.cut(r, sentences)
        text = prose.join(r, sentences, self.paragraphs)
        if self.paragraphs and not title and r.random() < .5:
            text = "# " + cap(e.name) + "\n\n" + text
        elif title and r.random() < .1:
            text = ("# " if self.paragraphs else "") + title + "\n" + text
        self._publish(title, text, [f for s in sentences for f in s.facts], spoilt)

    def _chunks(self, title, sentences):
        """One article as two or three documents with the same title."""
        r, n = self.r, 2 if len(sentences) < 9 else self.r.choice([2, 3])
        bounds = [round(i * len(sentences) / n) for i in range(n + 1)]
        for a, b in zip(bounds, bounds[1:]):
            part = sentences[a:b]
            self._publish(title, prose.join(r, part, self.paragraphs), [f for s in part for f in s.facts])

    def shuffle(self, ids_of):
        """Puts the documents in a random order and gives them ids."""
        order = list(range(len(self.docs)))
        self.r.shuffle(order)
        place = {old: new for new, old in enumerate(order)}
        self.docs = [self.docs[i] for i in order]
        for f in self.facts:
            f.doc = place.get(f.doc, -1)
        self.ids = ids_of(self.r, len(self.docs))

    def cite(self, f):
        return f"[{self.ids[f.doc]}]"

    def say(self, f, cited=True):
        s = cap(f.r.says[0].replace("{e}", f.e.disp).replace("{v}", f.v))
        return s + " " + self.cite(f) if cited else s

"""Word lists, entity types and relations, and the making of names and values.

A name belongs to the evaluation split if and only if its CRC-32 is 0 modulo 16, so a name that can occur in evaluation
never occurs in training.
"""
from __future__ import annotations

import os
import re
import zlib
from dataclasses import dataclass, field

HERE = os.path.dirname(os.path.abspath(__file__))
REFUSAL = "The documents do not say."


def _read_words():
    words = {}
    with open(os.path.join(HERE, "words.txt"), encoding="utf-8") as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                key, items = line.rstrip("\n").split(": ", 1)
                words.setdefault(key, []).extend(items.split("~"))
    return words


WORDS = _read_words()
KEYWORDS = WORDS["ADJ"] + WORDS["NOUN"] + WORDS["BEAST"] + WORDS["THING"] + WORDS["KEY"]
SPELLED = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
           "seventeen eighteen nineteen twenty").split()


@dataclass
class Relation:
    """One kind of fact. says[0] is the canonical answer; {e} is the entity, {v} the value."""
    key: str
    spec: str
    nouns: list
    says: list
    asks: list
    phrases: list = field(default_factory=list)   # noun phrases for the entity: "a town on the {v}"
    refs: list = field(default_factory=list)      # descriptions of the value: "the person who runs {e}"
    verbs: list = field(default_factory=list)     # predicates: what follows "{e} " in a one-clause statement

    @property
    def target(self):
        return self.spec[1:] if self.spec[0] == "@" else None


@dataclass
class Type:
    name: str
    article: str
    cls: str
    plural: str
    rels: list = field(default_factory=list)


def _split(text):
    return [x for x in text.split("~") if x]


def _read_relations():
    types = {}
    with open(os.path.join(HERE, "relations.txt"), encoding="utf-8") as f:
        for line in f:
            line = line.rstrip("\n")
            if not line or line[0] == "#":
                continue
            p = line.split("|")
            if line[0] == "@":
                current = types[p[0][1:]] = Type(p[0][1:], p[1], p[2], p[3])
                continue
            p += [""] * (7 - len(p))
            rel = Relation(p[0], p[1], p[2].split(","), _split(p[3]), _split(p[4]), _split(p[5]), _split(p[6]))
            rel.verbs = [s[4:-1] for s in rel.says
                         if s.startswith("{e} ") and s.count("{e}") == 1 and ";" not in s and "," not in s]
            current.rels.append(rel)
    return types


TYPES = _read_relations()


def cap(s):
    return s[:1].upper() + s[1:]


def reserved(name):
    """Whether a name is kept for evaluation."""
    return zlib.crc32(name.encode()) % 16 == 0


def code(r, pattern):
    """A random string: L letter, D digit, H hexadecimal digit, # one of a to h, anything else as it stands."""
    sets = {"L": "ABCDEFGHJKLMNPQRSTUVWXYZ", "D": "0123456789", "H": "0123456789abcdef", "#": "abcdefgh"}
    return "".join(r.choice(sets[c]) if c in sets else c for c in pattern)


def syllables(r, n):
    out = ""
    for i in range(n):
        out += r.choice(WORDS["ONSET"]) + r.choice(WORDS["VOWEL"])
        if i == n - 1 or r.random() < .3:
            out += r.choice(WORDS["CODA"])
    return out.capitalize()


def _base(r):
    """The leading word of a name: mostly invented, sometimes an English word or a surname."""
    x = r.random()
    if x < .68:
        return syllables(r, 2)
    return cap(r.choice(KEYWORDS)) if x < .87 else r.choice(WORDS["LAST"])


def _person(r, like):
    x = r.random()
    if x < .85:
        first = r.choice(WORDS["FIRST_F" if r.random() < .5 else "FIRST_M"])
    else:
        first = syllables(r, 2)
    last = r.choice(WORDS["LAST"]) if r.random() < .35 else syllables(r, 2)
    if like:
        a, b = like.split(" ", 1)
        first, last = (a, last) if r.random() < .5 else (first, b)
    return first + " " + last


def _town(r, like):
    if like and r.random() < .6:
        return r.choice(WORDS["PLACE"]) + " " + like.split()[-1]
    x = r.random()
    if x < .65:
        return syllables(r, r.choice([1, 1, 2])) + r.choice(WORDS["TOWN"])
    if x < .8:
        return syllables(r, r.choice([2, 2, 3]))
    return cap(r.choice(KEYWORDS)) + r.choice(WORDS["TOWN"])


def _device(r, base):
    x = r.random()
    model = f"{r.choice(['', 'T', 'X', 'MK', 'S', 'R-', 'Mark '])}{r.randint(2, 999)}"
    if x < .15:
        return base + " " + r.choice(WORDS["THING"])
    return base + " " + model + (" " + r.choice(WORDS["THING"]) if x < .55 else "")


def _book(r, like):
    if like and " of " in like and r.random() < .5:
        return like.rsplit(" ", 1)[0] + " " + syllables(r, 2)
    head = f"The {r.choice(WORDS['ADJ']).capitalize()} {r.choice(WORDS['NOUN']).capitalize()}"
    return head + (" of " + syllables(r, 2) if r.random() < .75 else "")


def make_name(r, kind, like=None):
    """A fresh name for an entity type; with `like`, one that is easily confused with it."""
    pick = lambda key: r.choice(WORDS[key])
    base = like.split()[0] if like else _base(r)
    if kind == "person":
        return _person(r, like)
    if kind == "town":
        return _town(r, like)
    if kind == "device":
        return _device(r, base)
    if kind == "book":
        return _book(r, like)
    if kind == "animal":
        return pick("ADJ") + " " + (like.split(" ", 1)[1] if like else syllables(r, 2) + " " + pick("BEAST"))
    if kind == "planet":
        return like[:-1] + r.choice("bcdefgh") if like else f"{syllables(r, 1)}-{r.randint(10, 999)}{r.choice('bcdefgh')}"
    if kind in ("incident", "contract"):
        return like[:-1] + str(r.randint(0, 9)) if like else kind + " " + code(r, "DDDDD" if kind == "incident" else "L-DDDD")
    if kind == "project":
        return "Project " + (cap(r.choice(KEYWORDS)) if r.random() < .3 else syllables(r, 2))
    if kind == "medicine":
        return (like[:-3] if like and len(like) > 7 else syllables(r, 2)) + pick("DRUG")
    if kind == "course":
        return f"{pick('SUBJECT')} {r.randint(101, 999)}"
    if kind == "company" and not like and r.random() < .12:
        return f"{pick('LAST')} & {pick('LAST')}"
    if kind == "mountain" and not like and r.random() < .4:
        return "Mount " + syllables(r, 2)
    suffix = {"company": "FIRM", "event": "EVENT", "policy": "POLICY", "ship": "SHIP", "building": "HALL", "team": "TEAM",
              "museum": "MUSEUM", "school": "SCHOOL", "mountain": "PEAK", "island": "ISLAND", "line": "LINE",
              "hotel": "HOTEL", "garden": "GARDEN", "award": "AWARD", "dish": "DISH", "society": "SOCIETY"}[kind]
    return base + " " + pick(suffix) + (" policy" if kind == "policy" else "")


def fresh_name(r, kind, like, evaluation, used):
    """A name of the right split that is not in `used`."""
    for i in range(600):
        name = make_name(r, kind, like if i < 60 else None)
        if name not in used and reserved(name) == evaluation:
            break
    used.add(name)
    return name


def _number(r, rest, year):
    span, _, unit = rest.partition(":")
    lo, hi = map(int, span.split("-"))
    x = r.randint(lo, hi) if hi < 20 * lo else int(lo * (hi / lo) ** r.random())
    if year:
        return str(x), x
    if x <= 20 and r.random() < .12:
        return SPELLED[x] + " " + unit, x
    return (f"{x:,}" if r.random() < .88 else str(x)) + " " + unit, x


def value(r, spec):
    """A literal value as (text, number or None). Numbers are spread evenly over orders of magnitude."""
    kind, _, rest = spec.partition(":")
    if kind in ("n", "y"):
        return _number(r, rest, kind == "y")
    if kind == "money":
        lo, hi = map(int, rest.partition(":")[0].split("-"))
        x = int(lo * (hi / lo) ** r.random())
        return r.choice(["{:,} euros", "${:,}", "{:,} crowns", "£{:,}", "{:,} euros"]).format(x), None
    if kind == "date":
        y, m, d, s = r.randint(1985, 2039), r.randint(0, 11), r.randint(1, 28), r.random()
        month = WORDS["MONTH"][m]
        text = (f"{d} {month} {y}" if s < .5 else f"{month} {d}, {y}" if s < .7 else f"{d} {month}" if s < .85 else f"{y}-{m + 1:02d}-{d:02d}")
        return text, None
    if kind == "time":
        h, m, s = r.randint(0, 23), r.choice(range(0, 60, 5)), r.random()
        return (f"{h:02d}:{m:02d}" if s < .7 else f"{h}:{m:02d}" if s < .85 else f"{h % 12 or 12}:{m:02d} {'a.m.' if h < 12 else 'p.m.'}"), None
    if kind == "pct":
        return f"{r.randint(2, 49) / 2:g} percent", None
    if kind == "code":
        return code(r, rest), None
    word = r.choice(WORDS[rest])
    return (_unusual(r, word) if rest != "weekday" and r.random() < .22 else word), None


def _unusual(r, word):
    """A variation of a listed value, so that values cannot be learned by heart."""
    for article in ("an ", "a ", "the "):
        if word.startswith(article):
            tail = word[len(article):] if r.random() < .6 else r.choice(KEYWORDS)
            adj = r.choice(WORDS["ADJ"] + WORDS["KEY"])
            return ("the " if article == "the " else "an " if adj[0] in "aeiou" else "a ") + adj + " " + tail
    if re.fullmatch(r"[a-z]+-\w+", word):
        return r.choice(KEYWORDS) + "-" + code(r, "DD")
    if word[0].isupper():
        return syllables(r, 2) + (" " + word.split()[-1] if " " in word else "")
    x = r.random()
    return r.choice(WORDS["ADJ"] + WORDS["KEY"]) + " " + word if x < .5 else r.choice(KEYWORDS) if x < .75 else syllables(r, 2).lower()

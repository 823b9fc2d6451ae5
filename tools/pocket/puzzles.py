"""Tasks beside the worlds: key-value tables, pass keys and variables hidden in prose, number drills, and tasks about reading order.

Every builder takes (r, books, chars, nq, ids_of, split, kind) and returns (ids, documents, turns, ordered), documents being
(title, text) pairs. `ordered` says that the answer depends on the order of the documents.
"""
from __future__ import annotations

import prose
from lexicon import KEYWORDS, REFUSAL, TYPES, WORDS, cap, code, syllables, value
from questions import Turn, weigh
from world import Entity, Fact, new_entity

MISSING = .1                                       # share of questions that ask for something that is not there


def key_string(r, style):
    if style == 0:
        return code(r, "HHHHHHHH")
    if style == 1:
        return r.choice(KEYWORDS) + "-" + r.choice(KEYWORDS)
    if style == 2:
        return code(r, "LL-DDDD")
    if style == 3:
        return code(r, "HHHHHHHH-HHHH-HHHH")
    if style == 4:
        return r.choice(KEYWORDS) + "_" + str(r.randint(1, 99))
    if style == 5:
        return syllables(r, 2).lower()
    return code(r, "D" * r.randint(4, 7))


def kv(r, books, chars, nq, ids_of, split, kind=None):
    keys, values = r.choice([0, 1, 2, 3, 4, 5]), r.choice([0, 1, 2, 6, 6, 6])
    form = r.choice(["{k}: {v}", "{k} = {v}", '"{k}": "{v}",', "{k} -> {v}", "The value of {k} is {v}.", "The code for {k} is {v}.", "{k},{v}"])
    docs, where, table, size = [[] for _ in range(r.choice([1, 1, 2, 3, 4, 6, 8, 12]))], {}, {}, 0
    while size < chars and len(table) < 400:
        k = key_string(r, keys)
        if k not in table:
            table[k], where[k] = key_string(r, values), r.randrange(len(docs))
            docs[where[k]].append(form.replace("{k}", k).replace("{v}", table[k]))
            size += int(len(docs[where[k]][-1]) * 1.5) + 2
    keep = [i for i, d in enumerate(docs) if d]
    ids, sep, turns = ids_of(r, len(keep)), "\n" if r.random() < .7 else " ", []
    forms = ["What is the value of {}?", "Look up {}.", "Which value belongs to {}?", "Give the value stored for {}."]
    for k in r.sample(list(table), min(nq, len(table))):
        q = r.choice(forms)
        if kind == "unans_kv" or kind is None and r.random() < MISSING:
            absent = key_string(r, keys)
            if absent not in table:
                turns.append(Turn(q.format(absent), REFUSAL, "", "unans_kv"))
                continue
        i = keep.index(where[k])
        turns.append(Turn(q.format(k), f"The value of {k} is {table[k]}. [{ids[i]}]", table[k], "kv", [i]))
    return ids, [("", sep.join(docs[i])) for i in keep], turns, False


def haystack(r, books, chars):
    """Documents as lists of sentences, in which something is to be hidden."""
    docs, n = [], min(r.choice([1, 2, 3, 4, 6, 8, 12]), max(1, chars // 150))
    for _ in range(n):
        k, m = r.randrange(len(books.sentences)), 1 + int(chars / n / 95)         # sentences of about 95 characters
        docs.append([books.sentences[(k + i) % len(books.sentences)] for i in range(m)] if r.random() < .8 else
                    ["The grass is green.", "The sky is blue.", "The sun is yellow.", "Here we go.", "There and back again."] * m)
    return docs


def passkey(r, books, chars, nq, ids_of, split, kind=None):
    docs, turns, seen = haystack(r, books, chars), [], set()
    ids, noun = ids_of(r, len(docs)), r.choice(["pass key", "special magic number", "secret code", "access code"])
    ask = lambda name: r.choice(["What is the {n} for {k}?", "Tell me the {n} for {k}.", "Which {n} belongs to {k}?"]).format(n=noun, k=name)
    for _ in range(r.randint(1, max(1, min(8, chars // 250))) + nq // 3):
        name, i = r.choice(KEYWORDS) if r.random() < .6 else syllables(r, 2), r.randrange(len(docs))
        if name in seen:
            continue
        seen.add(name)
        v = key_string(r, 6 if r.random() < .7 else r.choice([0, 1, 3]))
        s = r.choice(["The {n} for {k} is {v}.", "The {n} for {k} is {v}. Remember it.", "One of the {n}s for {k} is: {v}.", "Note that {v} is the {n} for {k}."])
        docs[i].insert(r.randint(0, len(docs[i])), s.format(n=noun, k=name, v=v))
        turns.append(Turn(ask(name), f"The {noun} for {name} is {v}. [{ids[i]}]", v, "passkey", [i]))
    absent = r.choice(KEYWORDS)
    if kind is None and absent not in seen and r.random() < .35:
        turns.append(Turn(ask(absent), REFUSAL, "", "unans_kv"))
    r.shuffle(turns)
    return ids, [("", " ".join(d)) for d in docs], turns[:nq], False


def variables(r, books, chars, nq, ids_of, split, kind=None):
    """Chains of assignments, in reading order, hidden in prose."""
    docs, turns, seen, places = haystack(r, books, chars), [], set(), []
    ids, home = ids_of(r, len(docs)), r.randrange(len(docs)) if r.random() < .4 else None
    style = r.choice(["VAR {a} = {b}.", "{a} = {b}.", "Let {a} be {b}.", "{a} takes the value of {b}.", "The variable {a} is set to {b}."])
    forms = ["What is the value of {}?", "Resolve the variable {}.", "Which number does {} hold?"]

    def fresh():
        while True:
            x = code(r, "L" * r.randint(2, 4)) if r.random() < .7 else r.choice("xyzabc") + str(r.randint(1, 99))
            if x not in seen:
                seen.add(x)
                return x
    for _ in range(r.randint(1, max(1, min(6, chars // 300)))):
        hops, v = r.choice([0, 1, 2, 2, 3, 3, 4]), code(r, "DDDDD")
        names, at = [fresh() for _ in range(hops + 1)], []
        chain = [v] + names
        for n, spot in enumerate(sorted(r.random() for _ in names)):
            at.append(home if home is not None else min(len(docs) - 1, int(spot * len(docs))))
            places.append((at[-1], spot if home is not None else spot * len(docs) % 1, style.format(a=chain[n + 1], b=chain[n])))
        j = hops if r.random() < .5 else r.randint(0, hops)
        step = lambda i: f"{chain[i + 1]} = {chain[i]} [{ids[at[i]]}]"
        turns.append(Turn(r.choice(forms).format(names[j]), ", ".join(step(i) for i in range(j, -1, -1)) + f". So {names[j]} = {v}.", v, f"vt{min(j, 3)}", at[:j + 1]))
        if r.random() < .35:
            cited = ", ".join(f"[{ids[at[i]]}] {names[i]}" for i in range(len(names)))
            turns.append(Turn(r.choice(["Which variables have the value {}?", "Find all variables that hold {}."]).format(v),
                              f"See {cited}.", "", "vtlist", at))
    if kind is None and r.random() < .3:
        turns.append(Turn(r.choice(forms).format(fresh()), REFUSAL, "", "unans_kv"))
    for i, p, s in sorted(places, key=lambda x: -x[1]):
        docs[i].insert(int(p * len(docs[i])), s)
    r.shuffle(turns)
    return ids, [("", " ".join(d)) for d in docs], turns[:nq], False


def drill(r, books, chars, nq, ids_of, split, kind=None):
    """Comparisons of bare numbers: the verdict without the search."""
    turns = []
    for _ in range(nq):
        if r.random() < .5:
            a, b = r.randint(1700, 2040), r.randint(1700, 2040)
            year, words, texts = True, ["earlier", "later"], (str(a), str(b))
        else:
            top = 10 ** r.randint(1, 5)
            a, b = r.randint(2, top), r.randint(2, top)
            year, words, texts = False, r.choice([["lower", "higher"], ["smaller", "greater"]]), (f"{a:,}", f"{b:,}")
        if a == b:
            continue
        up = r.random() < .5
        reason, verdicts = weigh(a, b, texts, year, up)
        turns.append(Turn(f"Which is {words[up]}, {texts[0]} or {texts[1]}?", f"{reason}, {texts[(a > b) != up]}.", "", "drill", [], verdicts))
    return [], [], turns, False


def _padding(r, books, chars, e):
    out = []
    while sum(len(s) for s in out) < chars:
        out.append(prose.filler(r, e, books))
    return out


def _say(e, rel, v):
    return cap(rel.says[0].replace("{e}", e.disp).replace("{v}", v))


_NEW = ["", "", "Update: ", "New entry: ", "Correction: ", "From now on: ", "As of today: ", "Note: "]


def latest(r, books, chars, nq, ids_of, split, kind=None):
    """Several entries about the same fact; the last one in reading order holds, the first one came first."""
    used, n = set(), max(2, min(12, chars // r.choice([150, 250, 400])))
    docs, turns, ids = [[] for _ in range(n)], [], ids_of(r, n)
    for _ in range(max(1, min(nq, 1 + n // 2))):
        t = r.choice(list(TYPES))
        rels = [q for q in TYPES[t].rels if not q.target]
        if not rels:
            continue
        rel, e = r.choice(rels), new_entity(r, t, None, split == "eval", used)
        spots = sorted(r.sample(range(n), min(n, r.choice([1, 2, 2, 3, 4]))))
        told, values = [], set()
        for i in spots:
            v = value(r, rel.spec)[0]
            if v in values:
                continue
            values.add(v)
            s = r.choice(rel.says) if r.random() < .6 else WORDS["SAY"][0].replace("{n}", rel.nouns[0])
            docs[i].append(r.choice(_NEW) + cap(s.replace("{e}", e.disp).replace("{v}", v)))
            told.append((i, v))
        noun = r.choice(rel.nouns)
        x = r.random()
        last = x < .75
        i, v = told[-1] if last else told[0]
        q = r.choice([f"What is the latest {noun} of {e.disp}?", f"What is the {noun} of {e.disp} according to the last entry?", f"What is the {noun} of {e.disp} now?"]
                     if last else [f"What was the {noun} of {e.disp} at first?", f"What is the {noun} of {e.disp} according to the first entry?"])
        turns.append(Turn(q, _say(e, rel, v) + f" [{ids[i]}]", v, "latest", [i]))
    for d in docs:
        for s in _padding(r, books, chars / n - sum(map(len, d)), None) or [prose.filler(r)]:
            d.insert(r.randint(0, len(d)), s)
    title = r.choice(["", "", "Log", "Entry"])
    return ids, [(f"{title} {i + 1}" if title else "", " ".join(d)) for i, d in enumerate(docs)], turns, True


def refer(r, books, chars, nq, ids_of, split, kind=None):
    """Documents that give a fact by pointing to another document: by its id, or to the one before or after."""
    ordered = kind == "refprev" or kind is None and r.random() < .5
    t = r.choice([k for k in TYPES if k not in ("team", "animal")])
    used, n = set(), max(2, min(16, chars // r.choice([120, 200, 320])))
    ids, turns, docs = ids_of(r, n), [], []
    es = [new_entity(r, t, None, split == "eval", used) for _ in range(n)]
    rels = r.sample(TYPES[t].rels, min(len(TYPES[t].rels), 3))
    told = [{} for _ in range(n)]
    pointing = set(r.sample(range(n), max(1, n // 3)))
    for i in range(n):
        for rel in rels:
            v = new_entity(r, rel.target, None, split == "eval", used).disp if rel.target else value(r, rel.spec)[0]
            told[i][rel.key] = v
    for i, e in enumerate(es):
        sentences, point = [], None
        if i in pointing:
            near = [j for j in ((i - 1, i + 1) if ordered else range(n)) if 0 <= j < n and j not in pointing]
            if near:
                j, rel = r.choice(near), r.choice(rels)
                point = (rel, j)
        for rel in rels:
            if point and rel is point[0]:
                j, noun = point[1], r.choice(rel.nouns)
                where = ("the document before" if j < i else "the next document") if ordered else f"document {ids[j]}"
                s = r.choice([f"{e.disp} has the same {noun} as the {e.t.cls} in {where}.", f"The {noun} of {e.disp} is the same as that of the {e.t.cls} in {where}.",
                              f"For the {noun} of {e.disp}, see {where}: it is the same."])
                v = told[j][rel.key]
                ask = r.choice(rel.asks if r.random() < .6 else WORDS["ASK"]).replace("{n}", noun).replace("{e}", e.disp)
                turns.append(Turn(cap(ask), f"See [{ids[i]}] and [{ids[j]}]. {_say(e, rel, v)}", v, "refprev" if ordered else "refer", [i, j]))
            else:
                s = r.choice(rel.says).replace("{e}", e.disp).replace("{v}", told[i][rel.key])
                if kind is None and r.random() < .15:
                    turns.append(Turn(cap(r.choice(rel.asks).replace("{e}", e.disp)), _say(e, rel, told[i][rel.key]) + f" [{ids[i]}]", told[i][rel.key], "single", [i]))
            sentences.append(cap(s))
        r.shuffle(sentences)
        for s in _padding(r, books, chars / n - sum(map(len, sentences)), e):
            sentences.insert(r.randint(1, len(sentences)), s)
        docs.append((cap(e.name) if r.random() < .4 else "", " ".join(sentences)))
    r.shuffle(turns)
    return ids, docs, turns[:nq], ordered


def split_pages(r, books, chars, nq, ids_of, split, kind=None):
    """Articles broken over two documents in a row, the second of which speaks of its subject by pronoun only."""
    used, docs, turns = set(), [], []
    size = 0
    while size < chars and len(docs) < 64:
        t = r.choice(list(TYPES))
        e = new_entity(r, t, None, split == "eval", used)
        facts = []
        for rel in r.sample(TYPES[t].rels, r.randint(3, min(6, len(TYPES[t].rels)))):
            target = new_entity(r, rel.target, None, split == "eval", used) if rel.target else None
            v = target.disp if target else value(r, rel.spec)[0]
            facts.append(Fact(e, rel, v, target))
        half = max(1, len(facts) // 2)
        writer = prose.Writer(r, books)
        first = writer.about(e, facts[:half])
        second, rest = [], []
        for f in facts[half:]:
            s = _pronoun_statement(r, f)
            if s:
                second.append(cap(s))
                rest.append(f)
                if r.random() < writer.density:
                    second.append(prose.filler(r, None, books))
        docs.append([prose.join(r, first, False), [f for s in first for f in s.facts]])
        if second:
            docs.append([" ".join(second), rest])
        size += sum(len(d[0]) for d in docs[-2:])
    ids = ids_of(r, len(docs))
    told = [(i, f) for i, d in enumerate(docs) for f in d[1]]
    second = [(i, f) for i, f in told if i and docs[i - 1][1] and docs[i - 1][1][0].e is f.e]
    for i, f in r.sample(told, min(len(told), max(1, nq // 2))) + r.sample(second, min(len(second), nq)):
        later = (i, f) in second
        if kind and not later:
            continue
        turns.append(Turn(cap(r.choice(f.r.asks).replace("{e}", f.e.disp)), _say(f.e, f.r, f.v) + f" [{ids[i]}]", f.v, "split" if later else "single", [i]))
    r.shuffle(turns)
    return ids, [("", d[0]) for d in docs], turns[:nq], True


def _pronoun_statement(r, f):
    """The fact without the name of its entity, or None."""
    if f.r.verbs and r.random() < .6:
        return f"{f.e.pronoun} {r.choice(f.r.verbs).replace('{v}', f.v)}."
    return r.choice(WORDS["SAY_TOPIC"][:2]).replace("{n}", r.choice(f.r.nouns)).replace("{v}", f.v).replace("{its}", f.e.its)


BUILDERS = dict(kv=kv, passkey=passkey, vt=variables, drill=drill, latest=latest, refer=refer, refprev=refer, split=split_pages)

"""Questions over a World, each with its answer, the part that carries the information, and the supporting documents.

Every maker takes a World and returns a Turn, or None where that world has no material for it.
"""
from __future__ import annotations

from dataclasses import dataclass, field

from lexicon import REFUSAL, WORDS, cap, value


@dataclass
class Turn:
    q: str
    a: str
    val: str                                       # the informative part of the answer; '' = all of it
    kind: str
    gold: list = field(default_factory=list)       # indices of the supporting documents
    verdicts: tuple = ()                           # the deciding words of the answer, weighted in training
    follow: object = None                          # makes a follow-up question


def id_order(i):
    """Sort key of document ids: numbers by size, then everything else."""
    return (0, int(i), "") if i.isdigit() else (1, 0, i)


def ask(w, rel, who):
    r = w.r
    if r.random() < .65 or who.startswith("the person") and r.random() < .7:
        s = r.choice(rel.asks)
    else:
        s = r.choice(WORDS["ASK"]).replace("{n}", r.choice(rel.nouns))
    if s.startswith("{e}"):
        s = "{E}" + s[3:]
    s = s.replace("{e}", who).replace("{E}", cap(who))
    s = cap(s)
    x = r.random()
    if x < .05:
        return r.choice(WORDS["LEAD"]) + (s if s[0] in "IT" else s[0].lower() + s[1:])
    return s.rstrip("?.") if x < .07 else s


def describe(w, f):
    """A phrase for the value of an entity-valued fact: 'the mayor of X', 'the person who runs X'."""
    r, x = w.r, w.r.random()
    if f.r.refs and x < .35:
        return r.choice(f.r.refs).replace("{e}", f.e.disp)
    noun = r.choice(f.r.nouns)
    if x > .85 and not f.e.disp.startswith("the "):
        return f"{f.e.disp}'s {noun}"
    return f"the {noun} of {f.e.disp}"


def pick(w):
    told = w.told()
    return w.r.choice(told) if told else None


def alike(w, f):
    return [g for g in w.told() if g.r is f.r and g.v == f.v]


def described(e):
    return any(f.doc >= 0 for f in e.facts.values())


def single(w):
    f = pick(w)
    return f and Turn(ask(w, f.r, f.e.disp), w.say(f), f.v, "single", [f.doc], follow=lambda: follow_up(w, f))


def follow_up(w, f):
    """A question that leans on the one before: the same entity by pronoun, or the same relation by 'What about'."""
    r, e = w.r, f.e
    others = [g for g in e.facts.values() if g.doc >= 0 and g is not f]
    if others and r.random() < .65:
        g = r.choice(others)
        if e.t.name == "person":
            asks = [s for s in g.r.asks if "{e}'s" not in s and not s.rstrip("?").endswith(("{e}"))]
            who = e.pronoun
        else:
            asks, who = [s for s in g.r.asks if "{e}'s" not in s], "they" if e.t.name == "team" else "it"
            if who == "they":
                asks = [s for s in asks if not s.rstrip("?").endswith("{e}")]
        if not asks:
            return None
        q = r.choice(asks).replace("{e}", who)
        q = cap(q) if r.random() < .5 else "And " + q[0].lower() + q[1:]
        return Turn(q, w.say(g), g.v, "follow", [g.doc])
    same = [g for g in w.told() if g.r is f.r and g.e is not e]
    if same:
        g = r.choice(same)
        return Turn(r.choice(["What about {}?", "And {}?", "And of {}?", "The same for {}, please."]).format(g.e.disp), w.say(g), g.v, "follow", [g.doc])
    return None


def reverse(w):
    f = pick(w)
    if not f or len(alike(w, f)) != 1 or f.e.t.name == "team":
        return None
    c, noun, r = f.e.t.cls, w.r.choice(f.r.nouns), w.r
    q = r.choice([f"Which {c} has the {noun} {f.v}?", f"Of which {c} is {f.v} the {noun}?", f"Name the {c} whose {noun} is {f.v}.",
                  f"{cap(f.v)} is the {noun} of which {c}?"])
    if f.r.verbs and r.random() < .35:
        q = f"{'Who' if c == 'person' else 'Which ' + c} {r.choice(f.r.verbs).replace('{v}', f.v)}?"
    return Turn(q, f"See {w.cite(f)}. {w.say(f, False)}", f.e.disp, "reverse", [f.doc])


def _onward(f):
    return f.target is not None and any(g.doc >= 0 for g in f.target.facts.values())


def _chain(w, hops):
    """Facts that lead from one to the next, or None."""
    r = w.r
    told = w.told()
    starts = [f for f in told if _onward(f)]
    if hops == 3:
        starts = [f for f in starts if any(g.doc >= 0 and _onward(g) and g.target is not f.e for g in f.target.facts.values())]
    if not starts:
        return None
    chain = [r.choice(starts)]
    if hops == 3:
        chain.append(r.choice([g for g in chain[0].target.facts.values() if g.doc >= 0 and _onward(g) and g.target is not chain[0].e]))
    return chain


def _phrase(w, chain):
    phrase = describe(w, chain[0])
    for f in chain[1:]:
        phrase = f"the {w.r.choice(f.r.nouns)} of {phrase}"
    return phrase


def _hop(w, hops, kind):
    chain = _chain(w, hops)
    if not chain:
        return None
    phrase = _phrase(w, chain)
    chain.append(w.r.choice([g for g in chain[-1].target.facts.values() if g.doc >= 0]))
    return Turn(ask(w, chain[-1].r, phrase), " ".join(w.say(c) for c in chain), chain[-1].v, kind, [c.doc for c in chain])


def twohop(w):
    return _hop(w, 2, "twohop")


def threehop(w):
    return _hop(w, 3, "threehop")


def halfhop(w):
    """Two hops of which the documents tell only the first."""
    cand = [f for f in w.told() if f.target is not None]
    if not cand:
        return None
    f = w.r.choice(cand)
    missing = [q for q in f.target.t.rels if q.key not in f.target.facts]
    if not missing:
        return None
    return Turn(ask(w, w.r.choice(missing), _phrase(w, [f])), w.say(f) + " " + REFUSAL, REFUSAL, "halfhop", [f.doc], (REFUSAL,))


def weigh(a, b, texts, year, up):
    """Which of two numbers is asked for, in two steps: how they compare, then what that means for the question."""
    relation = ("later" if a > b else "earlier") if year else ("more" if a > b else "less")
    verdict = "first" if (a > b) == up else "second"
    return f"{texts[0]} is {relation} than {texts[1]}. So it is the {verdict}", (f"is {relation}", f"the {verdict}")


def compare(w):
    r, told, groups = w.r, w.told(), {}
    for f in told:
        if f.num is not None:
            groups.setdefault(id(f.r), []).append(f)
    groups = [g for g in groups.values() if len({f.num for f in g}) > 1]
    if not groups:
        return None
    group = r.choice(groups)
    f, g = r.sample(group, 2)
    if w.easy and f.r.spec[0] == "n":              # early in training: pairs that differ widely
        for _ in range(4):
            if max(f.num, g.num) >= 3 * min(f.num, g.num):
                break
            f, g = r.sample(group, 2)
    if f.num == g.num or f.e is g.e:
        return None
    up, noun = r.random() < .5, r.choice(f.r.nouns)
    word = (["earlier", "later"] if f.r.spec[0] == "y" else r.choice([["lower", "higher"], ["smaller", "greater"]]))[up]
    win = f if (f.num > g.num) == up else g
    q = r.choice([f"Which has the {word} {noun}, {f.e.disp} or {g.e.disp}?", f"{cap(f.e.disp)} or {g.e.disp}: which has the {word} {noun}?"])
    reason, verdicts = weigh(f.num, g.num, (f.v, g.v), f.r.spec[0] == "y", up)
    return Turn(q, f"{w.say(f)} {w.say(g)} {cap(reason)}, {win.e.disp}.", win.e.disp, "compare", [f.doc, g.doc], verdicts)


def yesno(w):
    f, r = pick(w), w.r
    if not f:
        return None
    v = f.v
    if r.random() < .5:
        others = [g.v for g in w.told() if g.r is f.r and g.v != f.v]
        if not others or not f.r.target and r.random() < .4:
            if f.r.target:
                return None
            others = [x for x in (value(r, f.r.spec)[0] for _ in range(3)) if x != f.v]
        if not others:
            return None
        v = r.choice(others)
    claim = r.choice(f.r.says).rstrip(".")
    claim = (claim if claim[0] == "{" else claim[0].lower() + claim[1:]).replace("{e}", f.e.disp).replace("{v}", v)
    verdict = "yes" if v == f.v else "no"
    q = r.choice(["Is it true that ", "Is it correct that ", "Can you confirm that "]) + claim + "?"
    return Turn(q, f"{w.say(f)} So {verdict}.", verdict, "yesno", [f.doc], (verdict,))


def _gather(w, kind):
    r = w.r
    pool = [g for g in w.told() if (g.target or g.r.spec[0] == "w") and g.e.t.name != "team"]
    if not pool:
        return None
    tries = [r.choice(pool) for _ in range(4)]
    f = next((g for g in tries if len(alike(w, g)) > 1), tries[-1])   # prefer values that occur more than once
    hits = sorted(alike(w, f), key=lambda g: id_order(w.ids[g.doc]))
    if len(hits) > 5 or len({g.doc for g in hits}) != len(hits):
        return None
    noun, p = r.choice(f.r.nouns), f.e.t.plural
    cites = [w.cite(g) for g in hits]
    cites = ", ".join(cites[:-1]) + " and " + cites[-1] if len(cites) > 1 else cites[0]
    gold = [g.doc for g in hits]
    if kind == "count":
        q = r.choice([f"How many {p} have the {noun} {f.v}?", f"Count the {p} whose {noun} is {f.v}."])
        return Turn(q, f"See {cites}. That makes {len(hits)}.", str(len(hits)), kind, gold, (f"makes {len(hits)}",))
    names = [g.e.disp for g in hits]
    items = ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]
    q = r.choice([f"Which {p} have the {noun} {f.v}?", f"List all {p} whose {noun} is {f.v}."])
    return Turn(q, f"See {cites}. {cap(items)}.", cap(items), kind, gold)


def listing(w):
    return _gather(w, "list")


def count(w):
    return _gather(w, "count")


def unans(w):
    """A fact that nobody told, an entity that nobody described, or one that is only mentioned."""
    f, r = pick(w), w.r
    if not f:
        return None
    x = r.random()
    if x < .5:
        missing = [q for q in f.e.t.rels if q.key not in f.e.facts]
        if missing:
            known = {g.r.key for g in w.told() if g.e.t is f.e.t}          # better: something told of others of its kind
            near = [q for q in missing if q.key in known]
            q = r.choice(near if near and r.random() < .6 else missing)
            return Turn(ask(w, q, f.e.disp), REFUSAL, "", "unans")
    if x < .62:
        mentioned = [g.target for g in w.told() if g.target is not None and not g.target.facts]
        if mentioned:
            e = r.choice(mentioned)
            return Turn(ask(w, r.choice(e.t.rels), e.disp), REFUSAL, "", "unans")
    e = w.stranger(f.e)
    return Turn(ask(w, f.r, e.disp), REFUSAL, "", "unans")


def which(w):
    f = pick(w)
    if not f or len({g.doc for g in f.e.facts.values() if g.doc >= 0}) > 1:
        return None
    q = w.r.choice(["Which document is about {}?", "In which document is {} described?", "Where do I read about {}?", "Which document describes {}?"])
    return Turn(q.format(f.e.disp), f"See {w.cite(f)}.", "", "which", [f.doc])


def tell(w):
    """Everything told about one entity, in reading order."""
    f = pick(w)
    if not f:
        return None
    facts = [g for g in w.docs[f.doc].facts if g.e is f.e and g.doc == f.doc]
    if not 2 <= len(facts) <= 5 or any(g.doc not in (f.doc, -1) for g in f.e.facts.values()):
        return None
    q = w.r.choice(["Tell me about {}.", "What do the documents say about {}?", "What is known about {}?", "Summarise what is said about {}."])
    return Turn(q.format(f.e.disp), " ".join(w.say(g) for g in facts), "", "tell", [f.doc])


def copy(w):
    short = [i for i, d in enumerate(w.docs) if len(d.text) < 420]
    if not short:
        return None
    i = w.r.choice(short)
    q = w.r.choice(["Repeat document [{}].", "Show the text of document [{}]."]).format(w.ids[i])
    return Turn(q, w.docs[i].text, "", "copy", [i])


MAKERS = dict(single=single, reverse=reverse, twohop=twohop, threehop=threehop, compare=compare, yesno=yesno, list=listing, count=count,
              unans=unans, halfhop=halfhop, which=which, tell=tell, copy=copy)
MIX = dict(single=24, reverse=8, twohop=18, threehop=7, compare=16, yesno=9, list=8, count=3, unans=19, halfhop=1.5, which=2, tell=2, copy=.7)
FOLLOW = .12                                       # share of single questions that get a follow-up


def questions(w, n, kind=None):
    """Up to n turns; `kind` forces one kind."""
    r, turns, seen = w.r, [], set()
    kinds, weights = list(MIX), list(MIX.values())
    for _ in range(2 * n if kind is None else 8 * n):
        if len(turns) >= n:
            break
        make = MAKERS[kind or r.choices(kinds, weights)[0]]
        t = make(w) or make(w)
        if not t or t.q in seen:
            continue
        seen.add(t.q)
        turns.append(t)
        follow, t.follow = t.follow, None
        if kind is None and follow and r.random() < FOLLOW:
            more = follow()
            if more:
                turns.append(more)
    return turns

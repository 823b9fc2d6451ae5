"""Training and evaluation examples: the mix of worlds, puzzles, books and talk."""
from __future__ import annotations

from dataclasses import dataclass, field

from books import book_example
from lexicon import REFUSAL, WORDS, cap, code
from puzzles import BUILDERS
from questions import MAKERS, Turn, ask, questions
from world import World, new_entity


@dataclass
class Example:
    system: str
    docs: list                                     # (id, title, text)
    turns: list = field(default_factory=list)
    lm: str = ""                                   # running text instead of a chat
    ordered: bool = False                          # the answer depends on the order of the documents


TALK = [
    ("Who are you?", "I am Pocket, a small model that answers questions about the documents that you give me."),
    ("What are you?", "I am Pocket, a small language model that answers from documents."),
    ("Thank you.", "You are welcome."), ("Thanks!", "You are welcome."), ("Thank you very much.", "You are welcome."),
    ("Hello!", "Hello! Ask me something about the documents."), ("Hello", "Hello! Ask me something about the documents."),
    ("Hi", "Hello! Ask me something about the documents."), ("Hi there!", "Hello! Ask me something about the documents."),
    ("Good morning.", "Good morning! What would you like to know about the documents?"),
    ("Good evening.", "Good evening! What would you like to know about the documents?"),
    ("How are you?", "Very well, thank you. Ask me something about the documents."),
    ("Goodbye.", "Goodbye!"), ("Bye!", "Goodbye!"),
    ("Can you help me?", "Yes. Ask me about the documents, and I will say where the answer stands."),
    ("What is your name?", "My name is Pocket."),
    ("What can you do?", "I answer questions about the documents that you give me, and I say which document the answer comes from."),
    ("How do you cite?", "I put the number of the document in brackets after the sentence."),
]
# Share of the examples. Worlds take the rest.
SHARES = dict(text=.06, talk=.01, kv=.08, passkey=.05, vt=.09, book=.11, drill=.02, latest=.03, refer=.045, split=.025)
PUZZLES = ("kv", "passkey", "vt", "drill", "latest", "refer", "split")


def make_ids(r, n):
    """Document ids: mostly numbers below 1,000 (one token each), some codes and slugs."""
    x = r.random()
    if x < .2:
        return list(map(str, r.sample(range(1, n + 1), n) if r.random() < .5 else range(1, n + 1)))
    if x < .87:
        return list(map(str, r.sample(range(1, 100 if x < .38 and n <= 60 else 1000), n)))
    pattern, ids = r.choice(["LDD", "HHHH", "LL-DD", "DDDD"] if x < .95 else ["memo-DD", "doc-DDD", "file_DD", "faq-#DD", "note.DD"]), []
    while len(ids) < n:
        c = code(r, pattern)
        ids += [] if c in ids else [c]
    return ids


def number_ids(r, n):
    return list(map(str, r.sample(range(1, 1000), n)))


def _system(r):
    return "" if r.random() < .45 else r.choice(WORDS["SYSTEM"])


def _talk(r, nq, split):
    """A conversation without documents."""
    turns = []
    for _ in range(r.randint(1, max(1, min(nq, 4)))):
        if r.random() < .75:
            turns.append(Turn(*r.choice(TALK), "", "talk"))
        else:
            e = new_entity(r, r.choice(["town", "person", "company", "device", "book", "ship"]), None, split == "eval", set())
            turns.append(Turn(cap(r.choice(r.choice(e.t.rels).asks).replace("{e}", e.disp)), REFUSAL, "", "unans_none"))
    return Example(_system(r), [], turns)


def _world(r, split, chars, nq, kind, books, max_docs, ids_of, easy):
    w = World(r, split, chars, max_docs, books)
    w.easy = easy
    w.shuffle(ids_of)
    turns = questions(w, nq, kind)
    if kind is None and turns and r.random() < .03:
        turns.insert(r.randint(0, len(turns)), Turn(*r.choice(TALK), "", "talk"))
    return w.ids, [(d.title, d.text) for d in w.docs], turns, False


def builder_of(kind):
    """The source of a question kind: 'world', 'book', or the name of a puzzle."""
    if kind in MAKERS and kind != "book":
        return "world"
    if kind in ("cloze", "quote", "natqa", "unans_book"):
        return "book"
    return "vt" if kind.startswith("vt") else "kv" if kind == "unans_kv" else kind


def make_example(r, split="train", chars=1200, nq=1, kind=None, books=None, max_docs=99, ids_of=make_ids, easy=False):
    """One chat with about `chars` characters of documents and up to nq questions; `kind` forces one question kind."""
    x, source = r.random(), "world"
    if kind is None:
        for name, share in SHARES.items():
            if x < share:
                source = name
                break
            x -= share
    else:
        source = builder_of(kind)
    if source == "text":
        return Example("", [], lm=books.running_text(r, chars))
    if source == "talk":
        return _talk(r, nq, split)
    if source == "world" and kind is None and r.random() < .35:
        max_docs = r.randint(1, 12)                # as a retriever would give
    if source in ("latest", "refer", "refprev", "split") and kind is None:
        ids_of = number_ids if r.random() < .8 else ids_of
    while True:
        ordered = False
        if source == "world":
            ids, docs, turns, ordered = _world(r, split, chars, nq, kind, books, max_docs, ids_of, easy)
        elif source == "book":
            ids, docs, turns = book_example(r, books, chars, nq if kind is None else nq + 20, ids_of, None if kind == "unans_book" else kind)
            docs = [("", d) for d in docs]
        else:
            ids, docs, turns, ordered = BUILDERS[source](r, books, chars, nq if kind is None else nq + 20, ids_of, split, kind)
        turns = [t for t in turns if kind in (None, t.kind)][:nq]
        if turns:
            return Example(_system(r), [(i, *d) for i, d in zip(ids, docs)], turns, ordered=ordered)

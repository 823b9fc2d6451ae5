"""The chat format, the tokenizer, and examples as token arrays packed into rows.

<|begin|> [<|system|> text <|end|>] { <|doc|> id \\n [title \\n] text <|/doc|> } { <|user|> question <|end|> <|assistant|> answer <|end|> }
Every part is tokenised alone, so parts compose without seams.
"""
from __future__ import annotations

import os
import random
from dataclasses import dataclass, replace

import numpy as np

from examples import make_example

SPECIAL = ["<|pad|>", "<|begin|>", "<|end|>", "<|system|>", "<|doc|>", "<|/doc|>", "<|user|>", "<|assistant|>"] + [f"<|reserved_{i}|>" for i in range(8)]
PAD, BEGIN, END, SYS, DOC, EDOC, USER, ASSIST = range(8)
PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEMPLATE = (
    "{{ '<|begin|>' }}"
    "{% for m in messages if m.role == 'system' %}{{ '<|system|>' + m.content + '<|end|>' }}{% endfor %}"
    "{% for d in documents or [] %}{{ '<|doc|>' ~ (d.id or d.doc_id or loop.index) ~ '\n' ~ (d.title ~ '\n' if d.title else '')"
    " ~ (d.text or d.content) ~ '<|/doc|>' }}{% endfor %}"
    "{% for m in messages if m.role != 'system' %}{{ ('<|user|>' if m.role == 'user' else '<|assistant|>') + m.content + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}")
VOCAB = 8192
ROW = 4096                                         # tokens of a training row
# Class of a token as a target; it selects the loss weight.
C_NONE, C_DOC, C_USER, C_ANSWER, C_LM, C_CITE, C_FIRST, C_VERDICT = range(8)
FREE = 1000                                        # documents with segment number >= FREE do not see the prefix
STALE = 4000                                       # added for tokens that a recomputed copy replaces for all but their own document
# What is recomputed of an example: the first tokens of every document, and stretches of so many (ROW: to the document's end).
HEADS, STRETCHES = [0, 1, 2, 2, 2, 2, 4, 8, 16], [1, 8, 16, 16, 16, 32, 64, ROW]
# How an example is encoded: (which tokens a document sees, where documents stand). In "seq" the prefix is seen as if it stood
# right before each document, which is how a document is kept; "repair" and "free-repair" are "seq" and "free-seq" of which some
# tokens are recomputed with everything before them in view.
MODES = {"causal": ("all", "flat"), "set": ("prefix", "same"), "free": ("self", "same"), "seq": ("prefix", "flat"), "free-seq": ("self", "flat")}


def train_tokenizer(books, path):
    """Byte-level BPE in which every number below 1,000, zero-padded or not, is one token."""
    from tokenizers import Regex, Tokenizer, decoders, models, trainers
    from tokenizers import pre_tokenizers as pre
    tok, r = Tokenizer(models.BPE()), random.Random(7)
    tok.pre_tokenizer = pre.Sequence([pre.Split(Regex(PATTERN), "isolated"), pre.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    numbers = " ".join(f.format(n) for n in range(1000) for f in ("{}", "{:02d}", "{:03d}"))

    def texts():
        for _ in range(1200):
            yield numbers
        for _ in range(3500):
            e = make_example(r, chars=1800, nq=6, books=books)
            yield "\n".join([t + "\n" + d for _, t, d in e.docs] + [t.q + "\n" + t.a for t in e.turns] + [e.system])
        yield from r.sample(books.passages, min(len(books.passages), 42000))
    tok.train_from_iterator(texts(), trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=SPECIAL, initial_alphabet=pre.ByteLevel.alphabet(), show_progress=False))
    for n in range(1000):
        for f in ("{}", "{:02d}", "{:03d}"):
            assert len(tok.encode(f.format(n)).ids) == 1, n
    tok.save(path)


def load_tokenizer(path):
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from tokenizers import Tokenizer
    tok = Tokenizer.from_file(path)
    tok.opening = {i for t, i in tok.get_vocab().items() if t.endswith("[")}
    tok.closing = {i for t, i in tok.get_vocab().items() if "]" in t}
    return tok


def _answer_classes(turn, enc, tok):
    """Loss classes of an answer's tokens: citations, the deciding first token, the verdict."""
    cls, inside = [C_ANSWER] * len(enc.ids), False
    if turn.kind == "copy":
        return cls
    for j, i in enumerate(enc.ids):
        inside = inside and i not in tok.closing
        if inside:
            cls[j] = C_CITE
        inside = inside or i in tok.opening
    for verdict in turn.verdicts:
        lo = turn.a.rfind(verdict)
        hi = lo + len(verdict)
        span = [j for j, (x, y) in enumerate(enc.offsets) if x < hi and y > lo]
        for j in span[:1] if turn.kind == "halfhop" else span:
            cls[j] = C_VERDICT
    if cls and turn.kind != "talk":
        cls[0] = C_FIRST
    return cls


class Item:
    """One encoded example: token ids, target classes, segment of each token (-1 prefix, 1.. documents, 0 the rest)."""

    def __init__(self, e, enc, tok):
        ids, cls, seg = [BEGIN], [C_NONE], [0 if e.lm else -1]
        self.doc_lens, self.turns, self.ordered = [], [], e.ordered

        def add(tokens, c, s):
            ids.extend(tokens)
            cls.extend(c if isinstance(c, list) else [c] * len(tokens))
            seg.extend([s] * len(tokens))
        if e.lm:
            add(next(enc).ids, C_LM, 0)
        elif e.system:
            add([SYS] + next(enc).ids + [END], C_NONE, -1)
        self.prefix = 0 if e.lm else len(ids)
        for k in range(len(e.docs)):
            d = next(enc).ids
            add([DOC], C_NONE, k + 1)
            add(d + [EDOC], C_DOC, k + 1)
            self.doc_lens.append(len(d) + 2)
        for t in e.turns:
            q, a = next(enc), next(enc)
            add([USER], C_NONE, 0)
            add(q.ids, C_USER, 0)
            add([END, ASSIST], C_NONE, 0)
            start = len(ids)
            add(a.ids + [END], _answer_classes(t, a, tok) + [C_ANSWER], 0)
            lo = t.a.rfind(t.val) if t.val else 0
            hi = lo + len(t.val) if t.val else len(t.a)
            self.turns.append((t, start, len(ids), [start + j for j, (x, y) in enumerate(a.offsets) if x < hi and y > lo]))
        self.ids, self.cls, self.seg = np.array(ids, np.uint16), np.array(cls, np.uint8), np.array(seg, np.int16)
        self.n = len(ids)

    def positions(self, mode):
        if MODES[mode][1] == "flat":
            return np.arange(self.n, dtype=np.int16)
        p, tail = self.prefix, self.n - self.prefix - sum(self.doc_lens)          # every document starts right after the prefix
        return np.concatenate([np.arange(p)] + [p + np.arange(n) for n in self.doc_lens] + [p + max(self.doc_lens, default=0) + np.arange(tail)]).astype(np.int16)

    def segments(self, mode):
        sees = MODES[mode][0]
        return np.zeros_like(self.seg) if sees == "all" else np.where(self.seg > 0, self.seg + FREE, self.seg) if sees == "self" else self.seg


def document_text(id_, title, text):
    return f"{id_}\n{title}\n{text}" if title else f"{id_}\n{text}"


def encode(examples, tok):
    texts = []
    for e in examples:
        texts += [e.lm] if e.lm else [e.system] if e.system else []
        texts += [document_text(*d) for d in e.docs] + [x for t in e.turns for x in (t.q, t.a)]
    enc = iter(tok.encode_batch(texts))
    return [Item(e, enc, tok) for e in examples]


def draw_mode(r, item, shares):
    """shares: list of (mode, share); the rest is causal. Order-dependent examples see the order or have some of it repaired."""
    if not item.doc_lens:
        return "causal"
    if item.ordered:
        shares = [(mode, 1.5 * share) for mode, share in shares if mode.endswith("repair")]
    x = r.random()
    for mode, share in shares:
        if x < share:
            return mode
        x -= share
    return "causal"


def draw_repaired(r, item):
    """Which tokens to recompute: the first of every document, and for most examples stretches of any length, from single
    tokens to whole documents, until a share of all is reached. True for those chosen. The first document stands where it was read."""
    chosen = np.zeros(item.n, bool)
    docs = np.array(item.doc_lens[1:])
    if not len(docs):
        return chosen
    starts = item.prefix + item.doc_lens[0] + np.concatenate([[0], docs.cumsum()[:-1]])
    begin, end, head = starts[0], starts[-1] + docs[-1], r.choice(HEADS)
    for at, length in zip(starts, docs):
        chosen[at:at + min(head, length)] = True
    if r.random() < .1:
        return chosen
    length, wanted = r.choice(STRETCHES), .02 * 35 ** r.random() * (end - begin)
    while chosen.sum() < wanted:
        at = r.randrange(begin, end)
        k = starts.searchsorted(at, "right") - 1
        chosen[at:min(at + length, starts[k] + docs[k])] = True
    return chosen


@dataclass
class Arranged:
    """An example as it is trained on: token ids, positions, segments and target classes, one entry a token; and the ids
    of its flat prompt, which ends with the same `tail` tokens."""
    tok: np.ndarray
    pos: np.ndarray
    seg: np.ndarray
    cls: np.ndarray
    flat: np.ndarray
    tail: int

    @property
    def n(self):
        return len(self.tok)

    def part(self, which, segment=0):
        """Some of its tokens, in segments with numbers higher by `segment`."""
        return replace(self, tok=self.tok[which], pos=self.pos[which], seg=(self.seg[which] + segment).astype(np.int16), cls=self.cls[which])


def arrange(item, mode, r):
    """The example under a mode. A token that is recomputed stands twice: as its document's own readers see it, and, before the
    first question, as everybody else does."""
    base = {"repair": "seq", "free-repair": "free-seq"}.get(mode, mode)
    tail = item.prefix + sum(item.doc_lens)
    whole = Arranged(item.ids, item.positions(base), item.segments(base), item.cls, item.ids, item.n - tail)
    chosen = draw_repaired(r, item) if base != mode else np.zeros(item.n, bool)
    parts = [whole.part(slice(0, item.prefix))]
    at = item.prefix
    for length in item.doc_lens:
        document = whole.part(slice(at, at + length), STALE * chosen[at:at + length])
        if base == "seq":                          # its own prefix; the common one is not seen
            document.seg += FREE
            parts.append(replace(parts[0], pos=(at - item.prefix + parts[0].pos).astype(np.int16),
                                 seg=np.full(item.prefix, document.seg.max() % STALE + STALE, np.int16), cls=np.full(item.prefix, C_NONE, np.uint8)))
        parts.append(document)
        at += length
    again = whole.part(chosen)
    parts += [replace(again, seg=np.zeros_like(again.seg), cls=np.full_like(again.cls, C_NONE)), whole.part(slice(tail, None))]
    if sum(p.n for p in parts) > ROW:
        return arrange(item, "causal", r)
    return replace(whole, **{k: np.concatenate([getattr(p, k) for p in parts]) for k in ("tok", "pos", "seg", "cls")})


def pack(items, r, rows):
    """One batch of Arranged examples: each row takes the longest waiting one that still fits, until none does. Returns token
    ids, positions, examples, segments and classes; then ids, positions and examples of the flat prompts, packed alike, and
    where in them the tokens behind the documents stand (-1 for the others)."""
    tok, pos = np.zeros((rows, ROW), np.uint16), np.zeros((rows, ROW), np.int16)
    seg, cls = np.zeros((rows, ROW), np.int16), np.zeros((rows, ROW), np.uint8)
    flat_tok, flat_pos = np.zeros_like(tok), np.zeros_like(pos)
    ex, flat_ex, match = (np.full((rows, ROW), -1, np.int16) for _ in range(3))
    items.sort(key=lambda i: i.n)
    for b in range(rows):
        used = flat = k = 0
        while fit := sum(i.n <= ROW - used for i in items):
            it = items.pop(fit - 1 if used else r.randrange(fit))
            s, f = slice(used, used + it.n), slice(flat, flat + len(it.flat))
            tok[b, s], pos[b, s], ex[b, s], seg[b, s], cls[b, s] = it.tok, it.pos, k, it.seg, it.cls
            flat_tok[b, f], flat_pos[b, f], flat_ex[b, f] = it.flat, np.arange(len(it.flat)), k
            match[b, s.stop - it.tail:s.stop] = np.arange(f.stop - it.tail, f.stop)
            used, flat, k = s.stop, f.stop, k + 1
    return tok, pos, ex, seg, cls, flat_tok, flat_pos, flat_ex, match

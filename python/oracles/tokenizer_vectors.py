#!/usr/bin/env python3
"""Trains small tokenizers of every kind and writes what Hugging Face tokenizers makes of awkward texts.

    tokenizer_vectors.py OUT_DIR

For the bundled model's tokenizer (pocket.jsonl only, with the sample documents as further texts) and for each of those trained
here: NAME.json (a tokenizer.json) and NAME.jsonl, one line a text: text, then ids and offsets (in bytes)
with added tokens found in the text ("special") and with all text plain ("plain", where that differs; the library is given
the same file without its added tokens; null where a text holds special tokens that are in the model's vocabulary too), and
what the ids decode to where that is not the text ("skipped": without special tokens, where that differs). "loose" marks
texts whose normal form differs, for kinds that may compose characters. The training text is made here from word lists, so everything can be written again from nothing.
"""
import itertools
import json
import random
import sys
import unicodedata
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = Path(__file__).resolve().parents[2]
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")

LINES = """The quick brown fox jumps over the lazy dog, doesn't it? We'll see what they've done; I'm sure he'd say so.
It's 12:45 on 3 March 2024, and 1,234,567.89 people (or 42%) paid $99 to ask "why?" -- then left...
Die Straße führt über die Brücke; Äpfel, Öl und Übermut gehören dazu. Größe ändert nichts.
Le cœur a ses raisons, où l'été naît déjà là-bas; garçon, où est la forêt ? L'œuvre s'achève.
El niño comió jalapeños en el jardín; ¿qué pasó después? ¡Nada!
Съешь же ещё этих мягких французских булок, да выпей чаю. Что это было?
Η γρήγορη αλεπού πηδάει πάνω από τον τεμπέλη σκύλο. Καλημέρα κόσμε!
זה טקסט בעברית עם ניקוד: שָׁלוֹם עֲלֵיכֶם. מה שלומך?
هذا نص باللغة العربية مع تشكيل: السَّلامُ عَلَيْكُمْ. كيف حالك؟ ١٢٣٤
नमस्ते दुनिया, यह हिन्दी में एक वाक्य है। क्या हाल है? १२३
我能吞下玻璃而不伤身体。今天天气很好，我们去公园吧！二〇二四年。
私はガラスを食べられます。それは私を傷つけません。カタカナとひらがな。
나는 유리를 먹을 수 있어요. 그래도 아프지 않아요. 안녕하세요 세계!
สวัสดีชาวโลก ฉันกินกระจกได้ แต่มันไม่ทำให้ฉันเจ็บ
Tôi có thể ăn thủy tinh mà không hại gì. Tiếng Việt có nhiều dấu.
def main(argv: list[str]) -> int:\n    for i, x in enumerate(argv[1:]):\n        print(f"{i:>3} {x!r}")\n    return 0
#include <vector>\nint main() {\n\tstd::vector<int> v{1, 2, 3};\n\tfor (auto& e : v) e *= 2;  // twice\n\treturn v.size() == 3u ? 0 : -1;\n}
{"name": "value", "list": [1, 2.5e-3, null, true], "nested": {"k": "v"}}
SELECT id, name FROM users WHERE age >= 18 AND name LIKE 'A%' ORDER BY id DESC LIMIT 10;
<div class="box"><p>Hello &amp; welcome</p></div> https://example.org/path?q=1&r=two#frag user@example.org""".replace("\\n", "\n").replace("\\t", "\t").split("\n\n")

AWKWARD = [
    "", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\r\n\r\n  \n", "\t", " \t \n \t ", "a", " a", "a ", "  a  b   c    d", "\n a", "a\n", "a\n\n\nb", "a \n b", "x  \n  y",
    "'s", "'S", "it'S", "IT'S HE'LL they'VE I'M we'D don'T", "’s it’s", "'", "''s", "can't've", "'llama", "\u017f 'ſ it'ſ",
    "0", "12", "123", "1234", "12345678901234567890", "1.5", "1,000,000", "v2.0.1", "x86_64", "3rd 4th", "½ ¾ ²³ Ⅷ ⅷ ①②", "١٢٣ १२३ ၁၂၃", "1a2b3c", "a1b2c3", "00 007",
    "!", "!!!", "?!?!", "...", "…", "-", "--", "---", "a-b", "a--b", "a_b", "__init__", "(a)", "[1]", "{x}", "<a>", "a/b/c", "C:\\dir\\file", "@user #tag $5 50% ^ & * = + ~ ` |", "# Heading\n\n* item\n* item\n",
    "🙂", "🙂🙂🙂", "👩‍👩‍👧‍👦", "👍🏽", "🇩🇪🇫🇷", "a🙂b", " 🙂 ", "🏳️‍🌈!", "☺️", "♥", "→ ← ↔",
    "e\u0301", "cafe\u0301 noe\u0308l", "\u0301", " \u0301a", "a\u0301\u0323", "a\u0323\u0301", "q\u0307\u0323", "A\u030a", "\u212b", "\u2126", "\uf900", "\ufb01 \ufb03", "\u1e9b\u0323", "\u0344", "\u0958", "ṩ s\u0323\u0307 s\u0307\u0323", "\u1100\u1161\u11a8", "\uac00\u11a8", "각 가각", "\u0cc6\u0cc2\u0cd5", "ป\u0e33", "नि षि", "\u3099か\u3099", "が",
    "\u00a0", "a\u00a0b", "\u2003x\u2003", "\u3000 \u3000a", "\u200b", "a\u200bb", "\u200d", "\ufeff", "\ufeffa", "\u180e x", "\u2028\u2029", "\u0085 a", "a\u0085\u0085b", "\u1680a", "\u202f1\u202f000", "\u2060",
    "\0", "a\0b", "\x01\x02\x03", "\x1b[31mred\x1b[0m", "\x7f", "\x1c\x1d\x1e\x1f", "\x0b\x0c", "a\x0bb\x0cc", "\ud7ff", "\ue000", "\uffff", "\U0001f4a9", "\U0010ffff", "\U00010000",
    "<|begin|>", "<|end|>", "<|begin|>Hello<|end|>", "a<|end|>b", "<|end|><|end|>", "<|end", "|end|>", "<|end|", "<<|end|>>", " <|end|> ", "<|END|>", "<|en<|end|>d|>", "<|endx|>", "<tool>", "a <tool> b", "<tool><tool>x", "<to", "<toolong>", "  <pad>  x", "\n<pad>\u3000y", "<pad><pad>", "é<tool>é", "<caf\u00e9>", "<cafe\u0301>", "<cafe\u0301\u0323>", "x<caf\u00e9>y",
    "ǅ ǆ Ǆ", "ßẞſ", "İıI", "ΑΣας", "ﬀﬁ", "ʰʷ ᴬ ⁿ", "ªº", "ـــ", "ー々〆", "a\u0300b\u0301c\u0302", "ABCdef GHIjkl", "camelCaseString XMLHttpRequest", "l'été aujourd'hui", "naïve façade", "Z\u0351\u036b\u0343\u036aa\u0300l\u0334g\u0323o\u0301",
    "a" * 40, "ab" * 200, "the" * 100, " " * 100, "\n" * 50, "ha" * 33 + "!", "x" + " " * 63 + "y", "1" * 64, "é" * 30, "字" * 60, "🙂" * 20, "\t" * 20 + "x", " \n" * 20, "=" * 79 + "\n", "a\u0301" * 20, "\u0301" * 40,
]


def training_text(draw):
    words = sorted({w for line in LINES for w in line.split()})
    for line in LINES:
        for _ in range(30):
            yield line
    for _ in range(400):
        yield " ".join(draw.choice(words) for _ in range(12))
    for _ in range(100):
        yield "    " * draw.randrange(4) + draw.choice(words) + "\n" * draw.randrange(1, 4) + str(draw.randrange(10 ** draw.randrange(1, 7)))


def texts(draw):
    yield from AWKWARD
    for line in LINES:
        yield line
        yield unicodedata.normalize("NFD", line)
    everything = [c for line in LINES + AWKWARD for c in line]
    for _ in range(120):  # random mixtures: few of them make sense, all of them must agree
        yield "".join(draw.choice(everything) for _ in range(draw.randrange(1, 60)))
    pieces = AWKWARD + [w for line in LINES for w in line.split(" ")]
    for _ in range(120):
        yield "".join(draw.choice(pieces) for _ in range(draw.randrange(2, 8)))
    code = ["\u0041", "\u00e9", "\u0301", "\u0323", "\u1100", "\u1161", "\u11a8", " ", "\n", "'s", "9", ".", "\u0930", "\u093c", "\u3099", "\u304b", "\U0001d15e", "\u0f73", "\u0f71\u0f72"]
    for _ in range(120):  # canonical reordering and composition
        yield "".join(draw.choice(code) for _ in range(draw.randrange(1, 14)))


def train(pre_tokenizer, vocab, draw, normalizer=None, special=("<|begin|>", "<|end|>")):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(vocab_size=vocab, special_tokens=list(special), show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(training_text(draw), trainer)
    return tokenizer


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def byte_level(prefix=False, regex=False):
    return pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=regex)


def tokenizers():
    sequence = pre_tokenizers.Sequence
    draw = random.Random(11)
    gpt2 = train(byte_level(regex=True), 600, draw)
    gpt2.post_processor = processors.ByteLevel(trim_offsets=False)
    yield "gpt2", gpt2

    prefix = train(byte_level(prefix=True, regex=True), 500, draw)
    yield "gpt2_prefix", prefix

    llama3 = train(sequence([split(LLAMA3), byte_level()]), 1200, draw)
    llama3.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("<pad>", lstrip=True, rstrip=True, normalized=False)])
    llama3.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", 0)])])
    definition = json.loads(llama3.to_str())
    definition["model"]["ignore_merges"] = True
    yield "llama3", Tokenizer.from_str(json.dumps(definition))

    qwen2 = train(sequence([split(QWEN2), byte_level()]), 1200, draw, normalizers.NFC())
    qwen2.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("<caf\u00e9>", normalized=True)])
    yield "qwen2", qwen2

    yield "o200k", train(sequence([split(O200K), byte_level()]), 800, draw)
    yield "digits", train(sequence([pre_tokenizers.Digits(individual_digits=True), byte_level(regex=True)]), 500, draw)
    yield "digit_runs", train(sequence([pre_tokenizers.Digits(individual_digits=False), byte_level(regex=True)]), 500, draw)
    for behavior in ["removed", "merged_with_previous", "merged_with_next", "contiguous"]:
        yield "split_" + behavior, train(sequence([split(r"[\s\-]", behavior), byte_level()]), 400, draw)
    yield "split_inverted", train(sequence([split(r"\w+", "removed", True), byte_level()]), 400, draw)
    yield "split_literal", train(sequence([pre_tokenizers.Split("  ", "isolated"), pre_tokenizers.Split(" ", "merged_with_next"), byte_level()]), 400, draw)
    yield "split_prefix", train(sequence([split(r"\p{N}|\n"), byte_level(prefix=True)]), 400, draw)


def vectors(tokenizer, text):
    starts = [0]
    for c in text:
        starts.append(starts[-1] + len(c.encode()))
    encoding = tokenizer.encode(text, add_special_tokens=False)
    return {"ids": encoding.ids, "offsets": [starts[k] for pair in encoding.offsets for k in pair]}


def decode(tokenizer, ids):
    """The library's text, but added tokens literally: it takes their characters for those of the byte alphabet."""
    added = tokenizer.get_added_tokens_decoder()
    text = ""
    for is_added, run in itertools.groupby(ids, lambda k: k in added):
        text += "".join(added[k].content for k in run) if is_added else tokenizer.decode(list(run), skip_special_tokens=False)
    return text


def write_kinds(out):
    import tokenizer_kinds
    total = 0
    for name, definition in tokenizer_kinds.kinds(list(training_text(random.Random(11))), 350):
        source = json.dumps(definition, ensure_ascii=False, separators=(",", ":"))
        (Path(out) / f"{name}.json").write_text(source + "\n", encoding="utf-8", newline="\n")
        tokenizer = Tokenizer.from_str(source)
        plain = Tokenizer.from_str(json.dumps(definition | {"added_tokens": []}))
        contents = [t["content"] for t in definition["added_tokens"]]
        with open(Path(out) / f"{name}.jsonl", "w", encoding="utf-8", newline="\n") as file:
            for text in list(texts(random.Random(3)))[::3]:
                record = {"text": text, "special": vectors(tokenizer, text)}
                if any(c in text for c in contents):
                    record["plain"] = None
                elif (other := vectors(plain, text)) != record["special"]:
                    record["plain"] = other
                if name in tokenizer_kinds.COMPOSING and tokenizer.normalizer.normalize_str(text) != text:
                    record["loose"] = True
                ids = record["special"]["ids"]
                total += len(ids)
                byte_level = definition["decoder"] and definition["decoder"]["type"] == "ByteLevel"
                try:
                    record["decoded"] = decode(tokenizer, ids) if byte_level else tokenizer.decode(ids, skip_special_tokens=False)
                    if not byte_level and (skipped := tokenizer.decode(ids)) != record["decoded"]:
                        record["skipped"] = skipped
                except BaseException as error:  # the library panics on some tokens that become empty
                    if type(error).__name__ != "PanicException":
                        raise
                    record["decoded"] = None
                file.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")
    print(total, "ids of other kinds")


def main(out):
    write_kinds(out)
    total = 0
    pocket = Tokenizer.from_file(str(ROOT / "models/pocket/tokenizer.json"))
    for name, tokenizer in itertools.chain(tokenizers(), [("pocket", pocket)]):
        definition = json.loads(tokenizer.to_str())
        if name in ("gpt2", "digits"):  # merges as older files write them
            definition["model"]["merges"] = [" ".join(pair) for pair in definition["model"]["merges"]]
        source = json.dumps(definition, ensure_ascii=False, separators=(",", ":"))
        if name != "pocket":
            (Path(out) / f"{name}.json").write_text(source + "\n", encoding="utf-8", newline="\n")
        tokenizer = Tokenizer.from_str(source)
        plain = Tokenizer.from_str(json.dumps(definition | {"added_tokens": []}))
        draw = random.Random(3)
        chosen = list(texts(draw))
        if name.startswith(("split_", "digit", "gpt2_", "o200k", "pocket")):
            chosen = chosen[::5]
        if name == "pocket":
            chosen += [path.read_text(encoding="utf-8") for path in sorted((ROOT / "examples/documents").iterdir())]
        with open(Path(out) / f"{name}.jsonl", "w", encoding="utf-8", newline="\n") as file:
            for text in chosen:
                record = {"text": text, "special": vectors(tokenizer, text)}
                other = vectors(plain, text)
                if other != record["special"]:
                    record["plain"] = other
                record["decoded"] = decode(tokenizer, record["special"]["ids"])
                if record["decoded"] == text:
                    del record["decoded"]
                total += len(record["special"]["ids"]) + len(other["ids"])
                file.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")
    print(total, "ids")


if __name__ == "__main__":
    main(*sys.argv[1:])

#!/usr/bin/env python3
"""Compares our tokenizers with Hugging Face tokenizers and llama.cpp over many awkward lines.

    tokenizer_bulk.py TOKENIZE_LINES BOOKS.jsonl.gz [--lines N] [--only NAME] [--gguf]

TOKENIZE_LINES is the program of that name (`scripts/build release tokenize_lines`). Tokenizers of every kind are trained on
the books and compared on N lines (20,000): prose, code, other scripts, emoji, runs of spaces, control characters and random
bytes (decoded with replacement). Ids, offsets and decoded text must agree; docs/formats/tokenizer.md tells where ours differ
on purpose. --gguf compares ids with llama.cpp instead (packages llama-cpp-python and gguf).
"""
import argparse
import gzip
import itertools
import json
import random
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

from tokenizers import Tokenizer

sys.path.insert(0, str(Path(__file__).parent))
import tokenizer_kinds as kinds_module
import tokenizer_vectors as vectors_module


def book_lines(path, n_bytes):
    total = 0
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            for paragraph in json.loads(line)["text"].split("\n\n"):
                yield paragraph
                total += len(paragraph)
            if total > n_bytes:
                return


def lines(books, n, draw):
    """Distinct texts of every sort."""
    prose = list(itertools.islice(books, n))
    code = (Path(__file__).parents[2] / "src/tokenizer/pipeline.cc").read_text().split("\n") + Path(__file__).read_text().split("\n")
    pieces = vectors_module.AWKWARD + [w for line in vectors_module.LINES for w in line.split(" ")]
    characters = [c for line in vectors_module.LINES + vectors_module.AWKWARD for c in line]
    spaces = [" ", "  ", "    ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u2581", " " * 17]
    for i in range(n):
        sort = i % 10
        if sort < 3:
            yield draw.choice(prose)[:400]
        elif sort == 3:
            yield "\n".join(code[(at := draw.randrange(len(code))):at + draw.randrange(1, 5)])
        elif sort == 4:
            yield "".join(draw.choice(pieces) for _ in range(draw.randrange(2, 9)))
        elif sort == 5:
            yield "".join(draw.choice(characters) for _ in range(draw.randrange(1, 80)))
        elif sort == 6:
            yield "".join(draw.choice(spaces) + draw.choice(pieces) for _ in range(draw.randrange(1, 7)))
        elif sort == 7:
            yield bytes(draw.randrange(256) for _ in range(draw.randrange(1, 60))).decode("utf-8", "replace")
        elif sort == 8:  # any character that all tables of Unicode in use agree on
            yield "".join(c for c in (chr(draw.choice([draw.randrange(0x3000), draw.randrange(0xd800), draw.randrange(0xf900, 0x20000)])) for _ in range(draw.randrange(1, 40)))
                          if unicodedata.ucd_3_2_0.category(c) != "Cn")
        else:
            yield draw.choice(vectors_module.LINES)[draw.randrange(20):] + draw.choice(["🙂", "👩‍👩‍👧", "🇩🇪", "☺️", "<|end|>", " <pad> ", "<tool>", "tool", "[SEP]"]) + draw.choice(pieces)


def ours(program, definition, texts):
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        file.write(definition)
        file.flush()
        return ours_of_file(program, file.name, texts)


def ours_of_file(program, path, texts):
    out = subprocess.run([program, path], input="".join(json.dumps(t) + "\n" for t in texts), capture_output=True, text=True, encoding="utf-8")
    if out.returncode:
        sys.exit(out.stderr)
    return [json.loads(line) for line in out.stdout.split("\n") if line]


def decoded_by(library, definition, ids, skip):
    """The library's text; None where it panics."""
    try:
        if definition["decoder"] and definition["decoder"]["type"] == "ByteLevel":
            return None if skip else vectors_module.decode(library, ids)
        return library.decode(ids, skip_special_tokens=skip)
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        return None


def compare(program, name, definition, texts):
    source = json.dumps(definition)
    library = Tokenizer.from_str(source)
    plain = Tokenizer.from_str(json.dumps(definition | {"added_tokens": []}))
    contents = [t["content"] for t in definition["added_tokens"]]
    counts = {"ids": 0, "plain ids": 0, "offsets": 0, "text": 0, "error": 0}
    shown, n_ids = 0, 0
    for text, got in zip(texts, ours(program, source, texts), strict=True):
        want = vectors_module.vectors(library, text)
        n_ids += len(want["ids"])
        wrong = []
        if "error" in got:
            wrong.append("error")
        else:
            loose = name in kinds_module.COMPOSING and library.normalizer.normalize_str(text) != text
            if got["special"]["ids"] != want["ids"]:
                wrong.append("ids")
            elif got["special"]["offsets"] != want["offsets"] and not loose:
                wrong.append("offsets")
            if not any(c in text for c in contents) and got["plain"]["ids"] != vectors_module.vectors(plain, text)["ids"]:
                wrong.append("plain ids")
            if "ids" not in wrong:
                for key, skip in (("decoded", False), ("skipped", True)):
                    if (text_wanted := decoded_by(library, definition, want["ids"], skip)) is not None and got[key] != text_wanted:
                        wrong.append("text")
                        break
        for kind in wrong:
            counts[kind] += 1
        if wrong and shown < 3:
            shown += 1
            print("  ", wrong, repr(text)[:300], "\n     ours", str(got)[:500], "\n     want", str(want)[:300])
    print(f"{name}: {len(texts)} lines, {n_ids} ids; differ: " + ", ".join(f"{v} {k}" for k, v in counts.items()), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("books")
    parser.add_argument("--lines", type=int, default=20000)
    parser.add_argument("--vocab", type=int, default=2000)
    parser.add_argument("--only")
    parser.add_argument("--gguf", action="store_true")
    parser.add_argument("--save", help="keep the trained tokenizers in this folder")
    options = parser.parse_args()
    draw = random.Random(5)
    books = list(book_lines(options.books, 3_000_000))
    texts = list(lines(iter(books), options.lines, draw))
    training = [t[:300] for t in books[:1500]] + list(vectors_module.training_text(random.Random(7)))
    if options.gguf:
        import tokenizer_gguf_bulk
        return tokenizer_gguf_bulk.run(options, training, texts)
    byte_level = ((name, json.loads(t.to_str())) for name, t in vectors_module.tokenizers())
    for name, definition in itertools.chain(kinds_module.kinds(training, options.vocab, None), byte_level):
        if options.only and name not in options.only.split(","):
            continue
        if options.save:
            (Path(options.save) / f"{name}.json").write_text(json.dumps(definition))
        compare(options.program, name, definition, texts)


if __name__ == "__main__":
    main()

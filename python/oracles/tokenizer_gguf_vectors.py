#!/usr/bin/env python3
"""Writes small GGUF vocabularies of every kind and what llama.cpp makes of awkward texts with them.

    tokenizer_gguf_vectors.py OUT_DIR

KIND.gguf (metadata only) and vectors.jsonl: file, pre-tokenizer where it is not the file's own, text, and ids with special tokens found in
the text. Texts that llama.cpp splits otherwise than the model's own tokenizer are left out (docs/formats/tokenizer.md).
"""
import json
import random
import sys
from pathlib import Path

import llama_cpp
import tokenizer_gguf_bulk as bulk
import tokenizer_kinds
import tokenizer_vectors


def main(out):
    texts = [t for t in list(tokenizer_vectors.texts(random.Random(3)))[::9] if t and "\0" not in t and len(t) <= 60]
    with open(Path(out) / "vectors.jsonl", "w", encoding="utf-8", newline="\n") as file:
        for name, vocabulary in bulk.vocabularies(list(tokenizer_vectors.training_text(random.Random(11))), 350):
            original = vocabulary.pop("original", None)
            if "charsmap_hex" in vocabulary:  # a small table
                vocabulary["charsmap_hex"] = tokenizer_kinds.charsmap(tokenizer_kinds.RULES).hex()
            kind, _, pre = name.partition(" ")
            path = Path(out) / f"{kind}.gguf"
            kept = path.read_bytes() if pre and pre != bulk.PRE_NAMES[0] else None
            bulk.write(vocabulary, str(path))
            llama = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
            for text in texts:
                ids = llama.tokenize(text.encode(), add_bos=False, special=True)
                if original and original.encode(text, add_special_tokens=False).ids != ids:
                    continue
                file.write(json.dumps({"file": kind, **({"pre": pre} if pre else {}), "text": text, "ids": ids}, ensure_ascii=False, separators=(",", ":")) + "\n")
            if kept:
                path.write_bytes(kept)


if __name__ == "__main__":
    main(*sys.argv[1:])

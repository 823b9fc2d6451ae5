"""Trains the tokenizer: python3 tokenizer.py BOOKS_DIR MODEL_DIR"""
import sys

import export
from books import Books
from encoding import train_tokenizer

if __name__ == "__main__":
    root, out = sys.argv[1:3]
    train_tokenizer(Books(root), f"{out}/tokenizer.json")
    export.write_configs(out)

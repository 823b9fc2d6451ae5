#!/usr/bin/env python3
"""Checks who includes whom: scripts/check_includes.py [ROOT]. Prints one line per offence and exits 1 if there is any.

A module (a folder of src/) may include itself and the modules of earlier levels, never another of its own level.
Tests that stand beside the code obey the same table; tests/ and fuzz/ may include anything.
"""
import re
import sys
from pathlib import Path

LEVELS = [
    ["base"],
    ["tensor"],
    ["kernels", "formats"],
    ["tokenizer", "kv", "model"],
    ["prompt", "decode", "retrieval"],
    ["sched"],
    ["engine"],
    ["rag"],
    ["server", "cli", "eval", "bench"],
]
# The program: its verbs start the other front ends.
EXTRA = {("cli", "server"), ("cli", "eval"), ("cli", "bench")}

# Headers that belong to one place: pattern, where they may be included, what they are.
CONFINED = [
    (re.compile(r"^(hwy/.*|\w*intrin\.h|arm_\w+\.h)$"), ["src/kernels/cpu/"], "vector intrinsics"),
    (re.compile(r"^(cuda\w*|cublas\w*|nccl|cub|thrust)(\.h|/.*)$"), ["src/kernels/cuda/", "src/tensor/device_cuda.cc"],
     "CUDA"),
]

LEVEL = {module: level for level, modules in enumerate(LEVELS) for module in modules}
SUFFIXES = {".h", ".cc", ".cu", ".cuh", ".inc"}
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"\n]+)"|<([^>\n]+)>)', re.MULTILINE)
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


def blank_comment(match):
    return "\n" * match.group().count("\n")


def offence(path, target, quoted):
    """Why `path` (relative to the root, with slashes) may not include `target`, or None."""
    for pattern, places, what in CONFINED:
        if pattern.match(target):
            if any(path.startswith(place) for place in places):
                return None
            return f"{what} belong in {' or '.join(places)}"
    if not quoted:
        if target.split("/")[0] == "spanwise" or target.split("/")[0] in LEVEL and "/" in target:
            return "our own headers are included in quotes"
        return None

    first = target.split("/")[0]
    if path.startswith("include/"):
        return None if first == "spanwise" else "public headers include only each other"
    if not path.startswith("src/"):
        return None
    if first == "spanwise":
        return None
    if "/" not in target or first not in LEVEL:
        return "begin with the module: \"module/header.h\""
    module = path.split("/")[1]
    if module not in LEVEL:
        return f"src/{module} is not in the table of scripts/check_includes.py"
    if first == module or LEVEL[first] < LEVEL[module] or (module, first) in EXTRA:
        return None
    if LEVEL[first] == LEVEL[module]:
        return f"{module} and {first} are of one level and do not include each other"
    return f"{module} comes before {first}"


def check_text(path, text):
    """Yields (line, target, reason) for each offence in one file's text."""
    text = COMMENT.sub(blank_comment, text)
    for match in INCLUDE.finditer(text):
        target = match.group(1) or match.group(2)
        reason = offence(path, target, match.group(1) is not None)
        if reason:
            yield text.count("\n", 0, match.start()) + 1, target, reason


def main(argv):
    root = Path(argv[1]) if len(argv) > 1 else Path(__file__).resolve().parent.parent
    files = sorted(p for folder in ("include", "src", "tests", "fuzz", "bench") for p in (root / folder).rglob("*")
                   if p.suffix in SUFFIXES)
    if not files:
        print(f"{root}: no sources found", file=sys.stderr)
        return 1
    n_offences = 0
    for file in files:
        path = file.relative_to(root).as_posix()
        for line, target, reason in check_text(path, file.read_text(encoding="utf-8")):
            print(f"{path}:{line}: includes {target}: {reason}", file=sys.stderr)
            n_offences += 1
    return 1 if n_offences else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))

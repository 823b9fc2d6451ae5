"""Answers in several parts from the command line: branches, joins, steps.

usage: parts_test.py --spanwise PROGRAM --root REPOSITORY
"""

import argparse
import json
import pathlib
import subprocess
import sys
import unittest

ARGS = argparse.Namespace(spanwise=None, root=None)


def run(*arguments):
    return subprocess.run([ARGS.spanwise, *map(str, arguments)], capture_output=True, text=True, timeout=300)


class PartsTest(unittest.TestCase):
    def setUp(self):
        self.model = ["--model", pathlib.Path(ARGS.root) / "models/pocket", "--quiet"]
        documents = pathlib.Path(ARGS.root) / "examples/documents"
        self.ask = ["ask", "Who leads Harlow Instruments?", "--doc", documents / "harlow-instruments.md",
                    "--doc", documents / "ilse-corvane.md", "--force", *self.model]

    def test_branches_in_every_mode(self):
        for mode in ("exact", "set", "ape", "repair"):
            parts = ["--compose", mode, "--branch", "One:", "--branch", "Two:", "--part-tokens", 5, "--max-tokens", 7]
            done = run(*self.ask, *parts, "--join", " So:", "--json")
            self.assertEqual(done.returncode, 0, done.stderr)
            out = json.loads(done.stdout)
            self.assertEqual([b["usage"]["completion_tokens"] for b in out["branches"]], [5, 5], mode)
            plain = run(*self.ask, *parts)
            self.assertEqual(plain.stdout, "".join(
                f"[branch {i + 1}] {text}{b['text']}\n"
                for i, (text, b) in enumerate(zip(("One:", "Two:"), out["branches"]))))

    def test_steps(self):
        done = run("generate", "The old house", "--step", " stood", "--step", " and", "--part-tokens", 2,
                   "--max-tokens", 4, "--json", *self.model)
        self.assertEqual(done.returncode, 0, done.stderr)
        out = json.loads(done.stdout)
        self.assertEqual([s["completion_tokens"] for s in out["steps"]], [2, 4])
        self.assertEqual(out["steps"][1]["text"], out["answer"])

    def test_wrong_use_is_said(self):
        for extra in (["--branch", "a", "--step", "b"], ["--join", "a"], ["--branch", "a", "--keep-subtasks", 1],
                      ["--keep-subtasks", -1]):
            self.assertEqual(run(*self.ask, *extra).returncode, 2, extra)
        done = run(*self.ask, "--branch", "")
        self.assertEqual(done.returncode, 1)
        self.assertIn("branches[0].prompt", done.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--spanwise", required=True)
    parser.add_argument("--root", required=True)
    ARGS, rest = parser.parse_known_args()
    unittest.main(argv=sys.argv[:1] + rest)

"""Runs the measuring verbs on a few questions, and what a calibration closes.

usage: eval_test.py --spanwise PROGRAM --root REPOSITORY
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

ARGS = argparse.Namespace(spanwise=None, root=None)


def run(*arguments):
    return subprocess.run([ARGS.spanwise, *map(str, arguments)], capture_output=True, text=True, timeout=300)


class EvalTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.model = self.folder / "model"
        self.model.mkdir()
        for file in (pathlib.Path(ARGS.root) / "models/pocket").iterdir():
            if file.name != "spanwise.json":
                (self.model / file.name).symlink_to(file.resolve())
        documents = [
            {"id": "1", "text": "The Velk lighthouse is in Norholm. The Velk lighthouse was built in 1871."},
            {"id": "2", "title": "Cawick T40", "text": "The Cawick T40 is a pump. The Cawick T40 weighs 12 kg."},
            {"id": "3", "text": "Ida Corvane leads Harlow Instruments. Ida Corvane was born in Seaxford."},
        ]
        record = {"kind": "single", "documents": documents, "question": "How much does the Cawick T40 weigh?",
                  "answer": "The Cawick T40 weighs 12 kg. [2]", "value": "12 kg", "citations": ["2"]}
        self.records = self.folder / "records.jsonl"
        self.records.write_text(json.dumps(record) + "\n")
        self.text = self.folder / "text.txt"
        self.text.write_text("The old house stood upon the hill, and nobody had lived there for many years.\n")

    def figures(self, *arguments):
        done = run(*arguments, "--json", "--model", self.model)
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        for line in lines:
            self.assertEqual(set(line), {"eval", "metric", "case", "value", "n"})
        return lines

    def refused(self, *arguments):
        done = run(*arguments)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertEqual(len(done.stderr.splitlines()), 1)
        return done.stderr

    def test_perplexity(self):
        lines = self.figures("eval", "perplexity", "--data", self.text, "--prefix", "<|begin|>", "--dtype", "q8",
                             "--reference-dtype", "bf16")
        values = {line["metric"]: line["value"] for line in lines}
        self.assertEqual(set(values), {"perplexity", "reference_perplexity", "kl", "kl_p99", "top1_agreement"})
        self.assertGreater(values["kl"], 0)
        self.assertEqual(lines[0]["case"]["dtype"], "q8_0")
        self.assertEqual(lines[0]["case"]["reference_dtype"], "bf16")
        lines = self.figures("eval", "perplexity", "--answers", self.records)
        self.assertEqual([line["metric"] for line in lines], ["perplexity"])
        self.assertLess(lines[0]["value"], 1.5)
        self.assertIn("--answers", self.refused("eval", "perplexity"))

    def test_fidelity(self):
        plot = self.folder / "plot.svg"
        lines = self.figures("eval", "fidelity", "--data", self.records, "--modes", "set", "--documents", "1,2,3",
                             "--plot", plot)
        kl = {(line["case"]["mode"], line["case"].get("documents")): line["value"]
              for line in lines if line["metric"] == "kl"}
        self.assertEqual(set(kl), {(mode, documents) for mode in ("exact", "set") for documents in ("1", "2", "3-4", None)})
        self.assertEqual(kl["exact", None], 0)
        self.assertGreater(kl["set", "3-4"], 0)
        self.assertTrue(xml.etree.ElementTree.parse(plot).getroot().tag.endswith("svg"))
        self.assertIn("is not one of", self.refused("eval", "fidelity", "--data", self.records, "--modes", "mix"))
        self.assertIn("no question records", self.refused("eval", "fidelity", "--data", self.records, "--kind", "x"))

    def test_what_calibration_closes_is_refused_unless_forced(self):
        ask = ["ask", "How much does the Cawick T40 weigh?", "--doc", self.text, "--model", self.model, "--compose",
               "set", "--max-tokens", 4, "--json"]
        calibrate = ["calibrate", "--data", self.records, "--modes", "set"]

        def compose(*more):
            done = run(*ask, *more)
            self.assertEqual(done.returncode, 0, done.stderr)
            return json.loads(done.stdout)["compose"]

        self.assertFalse(compose()["calibrated"])
        lines = self.figures(*calibrate)
        self.assertTrue(all(line["case"]["passes"] for line in lines))
        self.assertTrue(compose()["calibrated"])
        self.figures(*calibrate, "--most-kl", "0")
        message = self.refused(*ask)
        self.assertIn("mean KL to the flat prompt", message)
        self.assertIn("over 1 prompts", message)
        self.assertFalse(compose("--force")["calibrated"])
        done = run(*ask, "--dtype", "q8")
        self.assertEqual(done.returncode, 0)
        self.assertIn("is not used", done.stderr)

        file = self.model / "spanwise.json"
        file.write_text(file.read_text()[:-20])
        self.assertIn("spanwise.json", self.refused(*ask))
        self.figures(*calibrate)  # replaces what cannot be read
        self.assertTrue(compose()["calibrated"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--spanwise", required=True)
    parser.add_argument("--root", required=True)
    ARGS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], *rest])

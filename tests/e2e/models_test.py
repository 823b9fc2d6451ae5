"""Models as people have them: files, folders, begin tokens and sampling defaults, from the command line and over HTTP.

usage: models_test.py --spanwise PROGRAM --root REPOSITORY
"""

import argparse
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
import urllib.request

ARGS = argparse.Namespace(spanwise=None, root=None)


def run(*arguments):
    return subprocess.run([ARGS.spanwise, *map(str, arguments)], capture_output=True, text=True, errors="replace",
                          timeout=300)


class ModelsTest(unittest.TestCase):
    def setUp(self):
        root = pathlib.Path(ARGS.root)
        self.pocket, self.gguf = root / "models/pocket", root / "tests/golden/gguf/llama3-bf16.gguf"
        self.folder = tempfile.TemporaryDirectory(prefix="models-e2e-")
        self.addCleanup(self.folder.cleanup)

    def copy(self, name, source=None):
        to = pathlib.Path(self.folder.name) / name
        shutil.copytree(source or self.pocket, to)
        return to

    def output(self, *arguments):
        done = run(*arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_every_verb_takes_every_form_of_a_model(self):
        folder = pathlib.Path(self.folder.name) / "gguf"
        folder.mkdir()
        shutil.copy(self.gguf, folder / "m.gguf")
        for model in (self.gguf, folder, folder / "m.gguf"):
            tokens = json.loads(self.output("tokenize", "hello", "--model", model, "--json"))
            self.assertEqual(tokens["count"], 5)
            tokens = json.loads(self.output("tokenize", "hello", "--model", model, "--prompt", "--json"))
            self.assertEqual(tokens["texts"][0], "<|begin_of_text|>")
            self.assertEqual(tokens["offsets"][:2], [[0, 0], [0, 1]])
            self.assertEqual(json.loads(self.output("inspect", model, "--json"))["begin_tokens"], ["<|begin_of_text|>"])
            answer = json.loads(self.output("generate", "hello", "--model", model, "--max-tokens", 1, "--json"))
            self.assertEqual(answer["usage"]["prompt_tokens"], 6)
            text = pathlib.Path(self.folder.name) / "text.txt"
            text.write_text("hello")
            figure = json.loads(self.output("eval", "perplexity", "--data", text, "--model", model, "--json", "--quiet"))
            self.assertEqual(figure["n"], 5)  # the first one too, behind the begin token
            refused = run("quantize", model, pathlib.Path(self.folder.name) / "out")
            self.assertEqual(refused.returncode, 1)
            self.assertIn("GGUF files are used as they are", refused.stderr)
        shutil.copy(self.gguf, folder / "n.gguf")
        self.assertIn("name one of them: m.gguf, n.gguf", run("tokenize", "hello", "--model", folder).stderr)

    def test_the_bundled_model_begins_with_nothing(self):
        answer = json.loads(self.output("generate", "hello", "--model", self.pocket, "--max-tokens", 1, "--json"))
        tokens = json.loads(self.output("tokenize", "hello", "--model", self.pocket, "--json"))
        self.assertEqual(answer["usage"]["prompt_tokens"], tokens["count"])

    def test_files_recommend_how_to_sample(self):
        model = self.copy("warm")
        config = json.loads((model / "generation_config.json").read_text())
        config.update(do_sample=True, temperature=50.0, top_p=float("nan"))
        (model / "generation_config.json").write_text(json.dumps(config))
        inspected = json.loads(self.output("inspect", model, "--json"))
        self.assertEqual(inspected["sampling"], {"temperature": 50})
        self.assertIn("'top_p' is nan", inspected["warnings"][0])
        generate = ["generate", "The pump weighs", "--max-tokens", 8, "--quiet", "--model"]
        greedy = self.output(*generate, self.pocket)
        done = run(*generate, model, "--seed", 1)
        self.assertNotEqual(done.stdout, greedy)
        self.assertEqual(done.stderr.count("'top_p' is nan"), 1)
        self.assertEqual(self.output(*generate, model, "--temperature", 0), greedy)
        for folder, same in ((self.pocket, True), (model, False)):
            self.assertEqual(self.complete(folder) == greedy.strip(), same)

    # What /v1/completions makes of the prompt when nothing is said of sampling.
    def complete(self, model):
        server = subprocess.Popen([ARGS.spanwise, "serve", "--port", "0", "--quiet", "--model", str(model)],
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            url = re.search(r"http://\S+", server.stdout.readline()).group(0)
            body = json.dumps({"prompt": "The pump weighs", "max_tokens": 8, "seed": 1}).encode("utf-8-sig")
            request = urllib.request.Request(url + "/v1/completions", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)["choices"][0]["text"].strip()
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=60)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--spanwise", required=True)
    parser.add_argument("--root", required=True)
    ARGS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], *rest])

"""Conversations from outside: what a second question finds and cites, chat templates of many shapes, and conversations that
outgrow the context.

usage: chat_test.py --spanwise PROGRAM --root DIR
"""

import argparse
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import unittest
import urllib.error
import urllib.request

ARGS = argparse.Namespace(spanwise=None, root=None)

# Templates as published ones are built, with the tokens of the bundled model.
RAISE_ON_SYSTEM = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles "
    "must alternate user/assistant/user/assistant/...') }}{% endif %}{{ ('<|user|>' if m['role'] == 'user' else "
    "'<|assistant|>') + (m['content'] | trim) + '<|end|>' }}{% endfor %}{{ '<|assistant|>' }}")
LOSE_SYSTEM = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '<|user|>' + m['content'] + '<|end|>' }}"
    "{% elif m['role'] == 'assistant' %}{{ '<|assistant|>' + m['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{{ '<|assistant|>' }}")
WALK_PARTS = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' ~ m['role'] ~ '|>' }}{% for p in m['content'] %}{% if p['type'] == 'text' %}"
    "{{ p['text'] }}{% endif %}{% endfor %}{{ '<|end|>' }}{% endfor %}{{ '<|assistant|>' }}")
SHOW_NOTHING = "{{ bos_token }}{% for m in messages %}<|user|><|end|>{% endfor %}<|assistant|>"

# Questions one after another, what the last answer must say (None: it may say nothing that it cites from elsewhere), and the
# documents that may be cited for it.
CONVERSATIONS = [
    (["How much does the Cawick T40 weigh?", "How long is it under warranty?"], None, ["cawick-t40.md"]),
    (["How much does the Cawick T45 weigh?", "How long is it under warranty?"], "36 months", ["cawick-t45.md"]),
    (["How much does the Cawick T40 weigh?", "What does it cost?"], "340 crowns", ["cawick-t40.md"]),
    (["How much does the Cawick T40 weigh?", "Who makes it?"], "Harlow Instruments",
     ["cawick-t40.md", "harlow-instruments.md"]),
    (["How much does the Cawick T40 weigh?", "And the Cawick T45?"], "15 kg", ["cawick-t45.md"]),
    (["How much does the Cawick T40 weigh?", "Where was Ilse Corvane born?"], "Druvenby", ["ilse-corvane.md"]),
    (["How high is the Velk Lighthouse?", "When was it completed?"], "1868", ["velk-lighthouse.txt"]),
    (["How much does the Morrin D7 drone weigh?", "Which code resets it?"], None, ["morrin-d7-drone.md"]),
    (["How much is contract K-2203 worth?", "When does it expire?"], "31 December 2027", ["notice-contract-k2203"]),
    (["What is Vellorine used against?", "Who makes it?"], "Velloran Labs", ["vellorine.md", "velloran-labs.md"]),
    (["What temperature does the Pellar X9 scanner tolerate?", "What is the spare part for it?"], None,
     ["pellar-x9-scanner.md"]),
    (["When was Velloran Labs founded?", "Under which symbol does it trade?"], None, ["velloran-labs.md"]),
    (["When was Dunnick Brothers founded?", "Under which symbol does it trade?"], "DNBR", ["dunnick-brothers.md"]),
    (["Where was Anneke Torrow born?", "Which staff number does she have?"], None, ["anneke-torrow.md"]),
    (["Where was Petra Solvane born?", "Which instrument does she play?"], "fiddle", ["petra-solvane.md"]),
]


def spanwise(*arguments, stdin=""):
    return subprocess.run([ARGS.spanwise, *arguments], input=stdin, capture_output=True, text=True, timeout=300)


def model_with(folder, template):
    """The bundled model under another chat template, without its calibration."""
    bundled = pathlib.Path(ARGS.root) / "models/pocket"
    folder = pathlib.Path(folder)
    folder.mkdir()
    for file in bundled.iterdir():
        if file.name not in ("spanwise.json", "tokenizer_config.json"):
            os.symlink(file.resolve(), folder / file.name)
    config = json.loads((bundled / "tokenizer_config.json").read_text())
    config["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return str(folder)


class Server:
    def __init__(self, *arguments):
        self.process = subprocess.Popen([ARGS.spanwise, "serve", "--port", "0", *arguments], stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)
        self.url = re.search(r"http://\S+", self.process.stdout.readline()).group(0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=60)

    def post(self, body, path="/v1/chat/completions"):
        """Status and body of the answer."""
        request = urllib.request.Request(self.url + path, json.dumps({"temperature": 0} | body).encode(),
                                         {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=300) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


class ChatTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="chat_test_")
        cls.corpus = cls.folder.name + "/corpus"
        indexed = spanwise("index", str(pathlib.Path(ARGS.root) / "examples/documents"), "--corpus", cls.corpus)
        assert indexed.returncode == 0, indexed.stderr

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_a_second_question_is_answered_from_what_it_is_about(self):
        wrong = []
        with Server("--corpus", self.corpus) as server:
            for questions, value, documents in CONVERSATIONS:
                messages = []
                for question in questions:
                    messages.append({"role": "user", "content": question})
                    status, answer = server.post({"messages": messages, "max_tokens": 40, "spanwise": {"top_k": 3}})
                    self.assertEqual(status, 200, answer)
                    messages.append(answer["choices"][0]["message"])
                text = messages[-1]["content"]
                for citation in answer["citations"]:
                    self.assertIn(citation["document"].removeprefix("documents/"), documents, (questions, text, citation))
                if value and value not in text:
                    wrong.append((questions, text))
        self.assertLessEqual(len(wrong), 1, wrong)

    def test_chat_follows_a_conversation(self):
        run = spanwise("chat", "--corpus", self.corpus, "--json", "--temperature", "0", "--max-tokens", "64",
                       stdin="How much does the Cawick T40 weigh?\nHow long is it under warranty?\nWhat does it cost?\n")
        self.assertEqual(run.returncode, 0, run.stderr)
        weight, warranty, cost = [json.loads(line) for line in run.stdout.splitlines()]
        self.assertIn("12 kg", weight["answer"])
        self.assertEqual(weight["citations"][0]["document"], "documents/cawick-t40.md")
        self.assertNotIn("unsupported_citations", weight)
        self.assertNotIn("documents/cawick-t45.md", [c["document"] for c in warranty["citations"]])
        self.assertIn("340 crowns", cost["answer"])

    def test_documents_reach_models_whose_template_takes_no_system_message(self):
        pages = [("t40", "The Cawick T40 weighs 12 kg."), ("t45", "The Cawick T45 weighs 15 kg."),
                 ("x9", "The Pellar X9 scanner weighs 4 kg.")]
        documents = [{"id": name, "text": text} for name, text in pages]
        file = pathlib.Path(self.folder.name) / "t40.txt"
        file.write_text(pages[0][1])
        for name, template in (("raise", RAISE_ON_SYSTEM), ("lose", LOSE_SYSTEM), ("parts", WALK_PARTS)):
            with self.subTest(name):
                model = model_with(f"{self.folder.name}/{name}", template)
                question = "How much does the Cawick T40 weigh?"
                asked = spanwise("ask", question, "--doc", str(file), "--model", model, "--json", "--temperature", "0",
                                 "--max-tokens", "32", "--system", "Be brief.")
                self.assertEqual(asked.returncode, 0, asked.stderr)
                spans = json.loads(asked.stdout)["compose"]["spans"]
                self.assertEqual([s["document"] for s in spans], [None, "t40.txt", None])
                with Server("--model", model, "--corpus", self.corpus) as server:
                    ask = {"messages": [{"role": "user", "content": question}], "max_tokens": 4}
                    status, found = server.post(ask)
                    self.assertEqual(status, 200, found)
                    self.assertIn("documents/cawick-t40.md", [s["document"] for s in found["spanwise"]["spans"]])
                    plain = server.post(ask | {"spanwise": {"top_k": 0}})[1]["usage"]["prompt_tokens"]
                    longer = dict(ask, messages=[{"role": "user", "content": question + " And in pounds?"}])
                    self.assertGreater(server.post(longer | {"spanwise": {"top_k": 0}})[1]["usage"]["prompt_tokens"], plain)
                    for mode in ("exact", "ape", "repair", "set") if name == "raise" else ("set",):
                        given = ask | {"documents": documents, "logprobs": True, "spanwise": {"compose": mode}}
                        status, one = server.post(given)
                        self.assertEqual(status, 200, one)
                        turned = server.post(given | {"documents": documents[::-1]})[1]
                        if mode in ("set", "ape"):  # to the bit, and nothing of the documents is read again
                            self.assertEqual(one["choices"][0]["logprobs"], turned["choices"][0]["logprobs"])
                            self.assertEqual([s["cached_tokens"] for s in turned["spanwise"]["spans"]][1:4],
                                             [s["tokens"] for s in turned["spanwise"]["spans"]][1:4])
                    # Further turns leave the documents where they are.
                    first = ask["messages"] + [{"role": "assistant", "content": "12 kg."}]
                    later = server.post(given | {"messages": first + ask["messages"]})[1]["spanwise"]["spans"]
                    self.assertEqual([s["document"] for s in later], [None, "t40", "t45", "x9", None])
                    self.assertEqual([s["cached_tokens"] for s in later[:4]], [s["tokens"] for s in later[:4]])

    def test_a_template_that_shows_no_question_is_refused(self):
        model = model_with(self.folder.name + "/nothing", SHOW_NOTHING)
        run = spanwise("ask", "Q", "--doc", str(pathlib.Path(ARGS.root) / "examples/documents/vellorine.md"), "--model", model)
        self.assertEqual(run.returncode, 1)
        self.assertIn("leaves out what the user says", run.stderr)
        self.assertEqual(len(run.stderr.splitlines()), 1)

    def test_a_prompt_that_is_too_long(self):
        with Server() as server:
            long = "The pump is green. " * 1500
            for body, param, path, advice in (
                    ({"messages": [{"role": "user", "content": long}]}, "messages", "chat/completions", "shorten the message"),
                    ({"messages": [{"role": "user", "content": "Q"}], "documents": [long]}, "messages", "chat/completions",
                     "use fewer or shorter documents"),
                    ({"messages": [{"role": "user", "content": long}, {"role": "assistant", "content": "A"},
                                   {"role": "user", "content": "Q"}], "stream": True}, "messages", "chat/completions",
                     "leave out earlier turns"),
                    ({"prompt": long}, "prompt", "completions", "shorten the prompt")):
                status, answer = server.post(body, "/v1/" + path)
                self.assertEqual(status, 400)
                error = answer["error"]
                self.assertEqual((error["code"], error["param"], error["type"]),
                                 ("context_length_exceeded", param, "invalid_request_error"))
                self.assertRegex(error["message"], r"maximum context length is 4096 tokens, and the prompt has \d+ tokens")
                self.assertIn(advice, error["message"])

    def test_a_conversation_that_outgrows_the_context_goes_on(self):
        turn = "The green pump of the brigade stands in the yard. " * 80
        run = spanwise("chat", "--json", "--temperature", "0", "--max-tokens", "4", "--system", "Be brief.",
                       stdin=(turn + "\n") * 5)
        self.assertEqual(run.returncode, 0, run.stderr)
        answers = [json.loads(line) for line in run.stdout.splitlines()]
        self.assertEqual(len(answers), 5)
        self.assertTrue(all(a["usage"]["prompt_tokens"] <= 4096 for a in answers))
        self.assertRegex(run.stderr, r"outgrown the model's context of 4096 tokens: (its \d+ oldest turns are|its oldest turn is) left out")
        too_long = spanwise("chat", "--json", stdin="The pump is green. " * 1500 + "\n")
        self.assertEqual(too_long.returncode, 1)
        self.assertIn("shorten the message", too_long.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--spanwise", required=True)
    parser.add_argument("--root", required=True)
    ARGS, rest = parser.parse_known_args()
    unittest.main(argv=[__file__, *rest])

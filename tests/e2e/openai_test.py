"""Drives a running server with the openai client: what its users see.

usage: openai_test.py --fake PROGRAM [--server PROGRAM --model DIR]

--fake is spanwise_fake_server, whose answers are known; --server is spanwise itself, tried with a model when both are given.
Each is started on a free loopback port. Needs the openai package.
"""

import argparse
import json
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request

import openai

ARGS = argparse.Namespace(fake=None, server=None, model=None)


class Server:
    """A server process; its address is read from its first line, and what it logs is kept."""

    def __init__(self, command):
        self.errors = tempfile.NamedTemporaryFile("w")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.errors, text=True)
        line = self.process.stdout.readline()
        found = re.search(r"http://\S+", line)
        if not found:
            self.process.kill()
            raise RuntimeError(f"no address in {line!r}")
        self.url = found.group(0)
        # What else it prints must not fill the pipe.
        self.drain = threading.Thread(target=self.process.stdout.read, daemon=True)
        self.drain.start()

    def client(self, key="none"):
        return openai.OpenAI(base_url=self.url + "/v1", api_key=key, max_retries=0, timeout=60)

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=60) as response:
            return response.read().decode()

    def log(self):
        return pathlib.Path(self.errors.name).read_text()

    def logged(self, pattern):
        """The log's last line that has it; waits a little, for a line comes behind the answer that it tells of."""
        deadline = time.monotonic() + 15
        while True:
            found = [line for line in self.log().splitlines() if re.search(pattern, line)]
            if found or time.monotonic() > deadline:
                return found[-1] if found else f"no line with {pattern}"
            time.sleep(0.02)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout=60)
        self.drain.join()
        self.process.stdout.close()
        self.errors.close()
        return status


class FakeServerTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not ARGS.fake:
            raise unittest.SkipTest("no --fake program")
        cls.server = Server([ARGS.fake, "--per-token-ms", "5"])
        cls.client = cls.server.client()

    @classmethod
    def tearDownClass(cls):
        if hasattr(cls, "server"):
            assert cls.server.stop() == 0

    def test_models(self):
        models = self.client.models.list().data
        self.assertEqual([m.id for m in models], ["fake"])
        self.assertEqual(self.client.models.retrieve("fake").object, "model")

    def test_chat(self):
        answer = self.client.chat.completions.create(
            model="fake", messages=[{"role": "user", "content": "Hi grüß 🙂"}], seed=7, logprobs=True, top_logprobs=2)
        choice = answer.choices[0]
        self.assertEqual(choice.message.content, "You said: Hi grüß 🙂")
        self.assertEqual(choice.finish_reason, "stop")
        self.assertEqual(len(choice.logprobs.content), answer.usage.completion_tokens)
        self.assertEqual(choice.logprobs.content[0].token, "Y")
        self.assertEqual(len(choice.logprobs.content[0].top_logprobs), 2)
        self.assertGreater(answer.usage.prompt_tokens_details.cached_tokens, 0)
        self.assertEqual(answer.spanwise["seed"], 7)

    def test_streamed_chat(self):
        stream = self.client.chat.completions.create(
            model="fake", messages=[{"role": "user", "content": [{"type": "text", "text": "grüß 🙂 END more"}]}],
            stop=["END"], stream=True, stream_options={"include_usage": True})
        chunks = list(stream)
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        self.assertEqual(text, "You said: grüß 🙂 ")
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        self.assertEqual([c.choices[0].finish_reason for c in chunks if c.choices][-1], "stop")
        self.assertEqual(chunks[-1].choices, [])
        self.assertGreater(chunks[-1].usage.completion_tokens, 10)

    def test_documents(self):
        answer = self.client.chat.completions.create(
            model="fake", messages=[{"role": "user", "content": "How heavy?"}],
            extra_body={"documents": [{"id": "t40", "title": "T40", "text": "It weighs 12 kg."}], "spanwise": {"compose": "set"}})
        self.assertEqual(answer.choices[0].message.content, "It weighs 12 kg. [1]")
        self.assertEqual(answer.citations[0]["document"], "t40")
        self.assertEqual(answer.spanwise["mode"], "set")

    def test_completions(self):
        answer = self.client.completions.create(model="fake", prompt=["ab", "c"], echo=True, logprobs=1, max_tokens=2)
        self.assertEqual([c.text for c in answer.choices], ["ab..", "c.."])
        logprobs = answer.choices[0].logprobs
        self.assertEqual(logprobs.tokens, ["a", "b", ".", "."])
        self.assertEqual(logprobs.token_logprobs, [None, -0.5, -0.5, -0.5])
        self.assertEqual(logprobs.text_offset, [0, 1, 2, 3])
        self.assertEqual(answer.choices[0].finish_reason, "length")
        streamed = self.client.completions.create(model="fake", prompt=[97, 98], stream=True)
        self.assertEqual("".join(c.choices[0].text for c in streamed), "...")

    def test_errors(self):
        ask = self.client.chat.completions.create
        messages = [{"role": "user", "content": "Hi"}]
        with self.assertRaises(openai.NotFoundError) as caught:
            ask(model="gpt-4", messages=messages)
        self.assertEqual(caught.exception.code, "model_not_found")
        for parameters in ({"n": 2}, {"tools": [{"type": "function", "function": {"name": "f"}}]}, {"temperature": -1},
                           {"response_format": {"type": "json_object"}}, {"extra_body": {"guided_regex": "a*"}}):
            with self.assertRaises(openai.BadRequestError) as caught:
                ask(model="fake", messages=messages, **parameters)
            name = list(parameters.get("extra_body", parameters))[0]
            self.assertEqual(caught.exception.param, name)
            self.assertEqual(caught.exception.body["request_id"], caught.exception.request_id)
        with self.assertRaises(openai.InternalServerError):
            ask(model="fake", messages=[{"role": "user", "content": "FAIL"}])
        with self.assertRaises(openai.APIError):
            list(ask(model="fake", messages=[{"role": "user", "content": "FAIL"}], stream=True))
        with self.assertRaises(urllib.error.HTTPError) as caught:
            self.server.get("/v1/nothing")
        self.assertEqual(caught.exception.code, 404)
        caught.exception.close()

    def test_unknown_fields(self):
        ask = self.client.chat.completions.with_raw_response.create
        parameters = dict(
            model="fake", messages=[{"role": "user", "name": "Ann", "content": "Hi"}], metadata={"a": "b"}, store=True, user="u",
            service_tier="auto", parallel_tool_calls=False, reasoning_effort="low", verbosity="low", safety_identifier="s", n=1,
            logit_bias={}, tools=[], response_format={"type": "text"})
        self.assertNotIn("X-Spanwise-Ignored", ask(**parameters).headers)
        answer = ask(**parameters, extra_body={"foo": 1, "spanwise": {"bar": 2}})
        self.assertEqual(answer.headers["X-Spanwise-Ignored"], "spanwise.bar, foo")
        self.assertEqual(answer.parse().choices[0].message.content, "You said: Hi")
        with self.assertRaises(openai.BadRequestError) as caught:
            ask(**parameters, extra_body={"foo": 1}, extra_headers={"X-Spanwise-Strict": "1"})
        self.assertEqual((caught.exception.param, caught.exception.code), ("foo", "unknown_parameter"))

    def test_log(self):
        answer = self.client.chat.completions.with_raw_response.create(
            model="fake", messages=[{"role": "user", "content": "Hi"}], extra_headers={"X-Request-Id": "of-the-client"})
        self.assertEqual(answer.headers["X-Request-Id"], "of-the-client")
        self.assertRegex(self.server.logged("id=of-the-client"),
                         r"method=POST path=/v1/chat/completions status=200 prompt_tokens=2 cached_tokens=1 completion_tokens=12 "
                         r"first_token_ms=\S+ total_ms=\S+ peer=127.0.0.1$")
        stream = self.client.chat.completions.create(
            model="fake", messages=[{"role": "user", "content": "x" * 4000}], stream=True, max_tokens=4000,
            extra_headers={"X-Request-Id": "who-leaves"})
        next(iter(stream))
        stream.close()
        self.assertRegex(self.server.logged("id=who-leaves"), "status=499 error=client_left stream=true first_token_ms=")
        with self.assertRaises(urllib.error.HTTPError) as caught:
            self.server.get("/no%0Asuch?key=secret")
        caught.exception.close()
        self.assertRegex(self.server.logged("no%0Asuch"), "path=/no%0Asuch status=404 error=unknown_url")
        self.assertNotIn("secret", self.server.log())

    def test_leaving_cancels(self):
        def cancelled():
            return int(re.search(r"^spanwise_requests_cancelled_total (\d+)", self.server.get("/metrics"), re.M).group(1))

        before = cancelled()
        stream = self.client.chat.completions.create(
            model="fake", messages=[{"role": "user", "content": "x" * 4000}], stream=True, max_tokens=4000)
        next(iter(stream))
        stream.close()
        deadline = time.monotonic() + 15
        while cancelled() == before and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertEqual(cancelled(), before + 1)

    def test_keys(self):
        with tempfile.NamedTemporaryFile("w", suffix=".keys") as keys:
            keys.write("# keys\nsecret\n")
            keys.flush()
            server = Server([ARGS.fake, "--api-key-file", keys.name])
            try:
                with self.assertRaises(openai.AuthenticationError):
                    server.client("wrong").models.list()
                self.assertEqual(server.client("secret").models.list().data[0].id, "fake")
                self.assertEqual(json.loads(server.get("/health"))["status"], "ok")
            finally:
                self.assertEqual(server.stop(), 0)

    def test_page(self):
        self.assertIn("<title>", self.server.get("/"))


class ModelServerTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not ARGS.server or not ARGS.model or not pathlib.Path(ARGS.model, "config.json").exists():
            raise unittest.SkipTest("no --server program with a model")
        cls.server = Server([ARGS.server, "serve", "--port", "0", "--model", ARGS.model])
        cls.client = cls.server.client()
        cls.name = cls.client.models.list().data[0].id

    @classmethod
    def tearDownClass(cls):
        if hasattr(cls, "server"):
            assert cls.server.stop() == 0

    def ask(self, **parameters):
        return self.client.chat.completions.create(
            model=self.name, messages=[{"role": "user", "content": "How much does the Cawick T40 weigh?"}], max_tokens=24,
            extra_body={"documents": [
                {"id": "t40", "title": "Cawick T40", "text": "The Cawick T40 is a lathe. It weighs 12 kg."},
                {"id": "t45", "title": "Cawick T45", "text": "The Cawick T45 is a lathe. It weighs 19 kg."}],
                "spanwise": {"compose": "set"}}, **parameters)

    def test_warm_equals_cold_equals_streamed(self):
        cold = self.ask(temperature=0, logprobs=True)
        warm = self.ask(temperature=0, logprobs=True)
        self.assertTrue(cold.choices[0].message.content)
        self.assertEqual(cold.choices[0].message.content, warm.choices[0].message.content)
        self.assertEqual([t.logprob for t in cold.choices[0].logprobs.content],
                         [t.logprob for t in warm.choices[0].logprobs.content])
        self.assertGreater(warm.usage.prompt_tokens_details.cached_tokens, 0)
        self.assertEqual({s["document"] for s in warm.spanwise["spans"] if s["document"]}, {"t40", "t45"})
        streamed = self.ask(temperature=0, stream=True)
        text = "".join(c.choices[0].delta.content or "" for c in streamed if c.choices)
        self.assertEqual(text, cold.choices[0].message.content)

    def test_a_seed_decides(self):
        first = self.ask(temperature=1.5, seed=3)
        self.assertEqual(first.choices[0].message.content, self.ask(temperature=1.5, seed=3).choices[0].message.content)
        self.assertEqual(first.spanwise["seed"], 3)

    def test_echo_reports_the_prompt(self):
        answer = self.client.completions.create(model=self.name, prompt="The lathe weighs", echo=True, logprobs=2, max_tokens=1)
        choice = answer.choices[0]
        self.assertTrue(choice.text.startswith("The lathe weighs"))
        self.assertIsNone(choice.logprobs.token_logprobs[0])
        self.assertTrue(all(p <= 0 for p in choice.logprobs.token_logprobs[1:]))
        self.assertGreaterEqual(len(choice.logprobs.tokens), answer.usage.prompt_tokens)

    def test_tokens(self):
        def post(path, body):
            request = urllib.request.Request(self.server.url + path, json.dumps(body).encode())
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)

        info = json.loads(self.server.get("/tokenizer_info"))
        eos = post("/tokenize", {"prompt": info["eos_token"], "add_special_tokens": False})["tokens"]
        self.assertEqual(len(eos), 1)
        self.assertEqual(post("/detokenize", {"tokens": eos})["prompt"], info["eos_token"])
        self.assertIn("messages", info["chat_template"])
        messages = [{"role": "user", "content": "How heavy?"}]
        rendered = post("/tokenize", {"messages": messages, "return_token_strs": True})
        self.assertIn("How heavy?", "".join(rendered["token_strs"]))
        usage = self.client.chat.completions.create(model=self.name, messages=messages, max_tokens=1).usage
        self.assertEqual(usage.prompt_tokens, rendered["count"])
        usage = self.client.completions.create(model=self.name, prompt="How heavy?", max_tokens=1).usage
        self.assertEqual(usage.prompt_tokens, post("/tokenize", {"prompt": "How heavy?"})["count"])

    def test_refusals_name_their_field(self):
        for parameters, param in (({"prompt": [1, 99999999]}, "prompt"), ({"prompt": ""}, "prompt"),
                                  ({"prompt": "a", "logit_bias": {"99999999": 1}}, "logit_bias")):
            with self.assertRaises(openai.BadRequestError) as caught:
                self.client.completions.create(model=self.name, **parameters)
            self.assertEqual(caught.exception.param, param)

    def test_documents_of_other_tools(self):
        answer = self.client.chat.completions.create(
            model=self.name, messages=[{"role": "user", "content": "How much does the Cawick T40 weigh?"}], max_tokens=24,
            temperature=0, extra_body={"documents": [
                {"id": None, "metadata": {"source": "t40.md"}, "page_content": "The Cawick T40 weighs 12 kg.", "type": "Document"},
                {"id": 45, "content": "The Cawick T45 weighs 19 kg."}]})
        self.assertIn("12 kg", answer.choices[0].message.content)
        self.assertEqual({s["document"] for s in answer.spanwise["spans"] if s["document"]}, {"1", "45"})

    def test_log_levels(self):
        self.client.models.list()
        self.server.get("/health")
        self.assertRegex(self.server.logged("path=/v1/models "), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info id=req-\w+ method=GET ")
        self.assertNotIn("/health", self.server.log())
        for option, expected in (("--quiet", 0), ("--log-level=warning", 0), ("--log-level=debug", 1)):
            server = Server([ARGS.server, "serve", "--port", "0", "--model", ARGS.model, option])
            try:
                server.get("/health")
                server.client().models.list()
                if expected:
                    self.assertIn("status=200", server.logged("path=/v1/models "))
                self.assertEqual(server.log().count(" debug id=req-"), expected)
                self.assertEqual(server.log().count(" info id=req-"), expected)
            finally:
                self.assertEqual(server.stop(), 0)

    def test_a_prompt_that_does_not_fit(self):
        with self.assertRaises(openai.BadRequestError):
            self.client.completions.create(model=self.name, prompt="word " * 100000, max_tokens=1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--fake")
    parser.add_argument("--server")
    parser.add_argument("--model")
    ARGS, rest = parser.parse_known_args()
    unittest.main(argv=sys.argv[:1] + rest, verbosity=2)

"""A server under test."""
import json
import subprocess
import urllib.request


class Server:
    """`spanwise serve` with some options, on a port of its own, from entering to leaving a `with`."""

    def __init__(self, program, *options):
        self.process = subprocess.Popen([program, "serve", "--port", "0", *options], stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().split(" at ")[-1].strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=60)

    def ask(self, question, documents, max_tokens, **spanwise):
        """The answer to a question about documents, as the server gives it."""
        body = {"messages": [{"role": "user", "content": question}], "documents": documents, "temperature": 0,
                "max_tokens": max_tokens, "spanwise": spanwise}
        request = urllib.request.Request(self.url + "/v1/chat/completions", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=300) as response:
            return json.load(response)

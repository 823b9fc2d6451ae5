"""Other engines behind the same two calls, and a process of its own for the one that is measured.

A class says which package it needs and which types of weights it holds. An object keeps one model in memory:
    prefill(ids)              reads ids with nothing kept, up to the logits of the last
    decode(ids, n_tokens)     seconds of n_tokens single steps after reading ids
Apart from threads, engines run with their defaults.
"""
import importlib.metadata
import importlib.util
import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path


class LlamaCpp:
    name, module, package = "llama.cpp", "llama_cpp", "llama-cpp-python"
    dtypes = ("bf16", "q8", "q4")
    batch_tokens = 512

    def __init__(self, folder, dtype, threads, max_tokens):
        import llama_cpp
        self.lib = llama_cpp
        self.quiet = llama_cpp.llama_log_callback(lambda *_: None)  # must outlive the model
        llama_cpp.llama_log_set(self.quiet, None)
        llama_cpp.llama_backend_init()
        path = folder / f"{dtype}.gguf"
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
        if not self.model:
            raise RuntimeError(f"cannot load {path}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = max_tokens
        params.n_batch = params.n_ubatch = self.batch_tokens
        params.n_threads = params.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        if not self.context:
            raise RuntimeError(f"cannot make a context of {max_tokens} tokens")

    def feed(self, ids):
        tokens = (self.lib.llama_token * len(ids))(*ids)
        # A batch of this kind continues the sequence and asks for the logits of its last token.
        if self.lib.llama_decode(self.context, self.lib.llama_batch_get_one(tokens, len(ids))) != 0:
            raise RuntimeError("llama_decode failed")
        self.lib.llama_synchronize(self.context)

    def prefill(self, ids):
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)
        for i in range(0, len(ids), self.batch_tokens):
            self.feed(ids[i:i + self.batch_tokens])

    def decode(self, ids, n_tokens):
        self.prefill(ids)
        start = time.perf_counter()
        for token in range(n_tokens):
            self.feed([token])
        return time.perf_counter() - start


class Transformers:
    name, module, package = "transformers", "transformers", "transformers"
    dtypes = ("bf16",)

    def __init__(self, folder, dtype, threads, max_tokens):
        import torch
        import transformers
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self.torch = torch
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            folder / "hf", dtype=torch.bfloat16, local_files_only=True).eval()

    def feed(self, ids, cache):
        out = self.model(input_ids=self.torch.tensor([ids]), past_key_values=cache, use_cache=True, logits_to_keep=1)
        return out.past_key_values

    def prefill(self, ids):
        return self.feed(ids, None)

    def decode(self, ids, n_tokens):
        cache = self.prefill(ids)
        start = time.perf_counter()
        for token in range(n_tokens):
            cache = self.feed([token], cache)
        return time.perf_counter() - start


class CTranslate2:
    """int8 with a scale for each row, the nearest that it has to q8."""

    name, module, package = "ctranslate2", "ctranslate2", "ctranslate2"
    dtypes = ("q8",)

    def __init__(self, folder, dtype, threads, max_tokens):
        import ctranslate2
        path = folder / "ctranslate2-int8"
        if not path.exists():
            self.convert(folder / "hf", path)
        self.generator = ctranslate2.Generator(str(path), device="cpu", compute_type="int8", intra_threads=threads)
        self.vocabulary = json.loads((path / "vocabulary.json").read_text())

    @staticmethod
    def convert(source, path):
        import transformers
        from ctranslate2.converters import TransformersConverter
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        part = path.with_name(path.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        TransformersConverter(str(source), low_cpu_mem_usage=True).convert(str(part), quantization="int8")
        part.rename(path)

    def generate(self, ids, n_tokens):
        """The time of each token."""
        times = []
        self.generator.generate_batch(
            [[self.vocabulary[i] for i in ids]], beam_size=1, sampling_topk=1, max_length=n_tokens, min_length=n_tokens,
            include_prompt_in_result=False, callback=lambda _: times.append(time.perf_counter()))
        if len(times) != n_tokens:
            raise RuntimeError(f"generated {len(times)} tokens, not {n_tokens}")
        return times

    def prefill(self, ids):
        self.generate(ids, 1)

    def decode(self, ids, n_tokens):
        times = self.generate(ids, n_tokens + 1)
        return times[-1] - times[0]


class OpenVino:
    """Reads the same GGUF files."""

    name, module, package = "openvino", "openvino_genai", "openvino-genai"
    dtypes = ("q8", "q4")

    def __init__(self, folder, dtype, threads, max_tokens):
        import numpy
        import openvino
        import openvino_genai
        self.numpy, self.openvino, self.genai = numpy, openvino, openvino_genai
        self.pipeline = openvino_genai.LLMPipeline(str(folder / f"{dtype}.gguf"), "CPU", INFERENCE_NUM_THREADS=threads)

    def generate(self, ids, n_tokens):
        config = self.genai.GenerationConfig(max_new_tokens=n_tokens, ignore_eos=True)
        tokens = self.pipeline.generate(self.openvino.Tensor(self.numpy.array([ids], dtype=self.numpy.int64)), config)
        times = tokens.perf_metrics.raw_metrics.m_new_token_times
        if len(times) != n_tokens:
            raise RuntimeError(f"generated {len(times)} tokens, not {n_tokens}")
        return times

    def prefill(self, ids):
        self.generate(ids, 1)

    def decode(self, ids, n_tokens):
        times = self.generate(ids, n_tokens + 1)
        return (times[-1] - times[0]) / 1000


PEERS = {peer.name: peer for peer in (LlamaCpp, Transformers, CTranslate2, OpenVino)}


def version(peer):
    """None if it is not installed."""
    if importlib.util.find_spec(peer.module) is None:
        return None
    return importlib.metadata.version(peer.package)


class PeerError(Exception):
    """What went wrong, in one line."""


def _serve(connection, name, threads, *model):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    os.dup2(2, 1)  # results alone go to standard output
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        folder, dtype, max_tokens = model
        engine = PEERS[name](folder, dtype, threads, max_tokens)
        connection.send((True, None))
        while True:
            call, *arguments = connection.recv()
            start = time.perf_counter()
            took = getattr(engine, call)(*arguments)
            connection.send((True, took if call == "decode" else time.perf_counter() - start))
    except EOFError:
        pass
    except Exception as error:  # whatever an engine throws is an answer
        connection.send((False, f"{type(error).__name__}: {' '.join(str(error).split())}"))


class Running:
    """A peer that holds a model, in a process of its own: closing it frees its memory and ends its threads.

    prefill(ids) and decode(ids, n_tokens) give seconds. PeerError when the engine cannot.
    """

    def __init__(self, peer, folder, dtype, threads, max_tokens):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, daemon=True,
                                       args=(theirs, peer.name, threads, folder, dtype, max_tokens))
        self.process.start()
        theirs.close()
        self._receive()

    def prefill(self, ids):
        return self._call("prefill", ids)

    def decode(self, ids, n_tokens):
        return self._call("decode", ids, n_tokens)

    def cpu_ticks(self):
        """Clock ticks of CPU time that the process has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    def close(self):
        self.connection.close()
        self.process.join(10)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def _call(self, *message):
        try:
            self.connection.send(message)
        except OSError:
            pass  # it has ended, which shows below
        return self._receive()

    def _receive(self):
        try:
            done, value = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            raise PeerError(f"its process ended with status {self.process.exitcode}") from None
        if not done:
            self.close()
            raise PeerError(value)
        return value

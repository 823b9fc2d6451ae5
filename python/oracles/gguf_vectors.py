#!/usr/bin/env python3
"""Writes small GGUF files and what the gguf package, transformers and llama.cpp make of them.

    gguf_vectors.py MODELS_DIR OUT_DIR

MODELS_DIR holds the models of logit_vectors.py, whose weights most files take. Needs the packages gguf and
llama-cpp-python. tests/golden/README.md describes the files.
"""
import ctypes
import hashlib
import importlib.metadata
import json
import math
import sys
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType as T
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from logit_vectors import draw

PROMPT_LENGTHS = [1, 7, 80]
CONTINUATION = 12
# The lead of the best logit, as a share of the largest, over the whole continuation in both implementations. llama.cpp
# rounds activations to 8 bits for block types and to the weights' type for 16-bit ones, so it needs room.
MARGIN = 0.03

ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}

# A Llama whose rows fit blocks of 256.
WIDE = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": 256,
        "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
        "head_dim": 32, "vocab_size": 64, "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": True, "eos_token_id": 2}

# type: of a matrix by the part of its GGUF name before ".weight"; "" for all others.
FILES = {
    "llama3-bf16": dict(model="llama3", types={"": T.BF16}, vocabulary=True),
    "qwen2-q8_0": dict(model="qwen2", types={"": T.Q8_0, "attn_v": T.F16, "ffn_gate": T.Q4_0, "ffn_up": T.Q4_0}),
    "qwen3-q4_0": dict(model="qwen3", types={"": T.Q4_0, "token_embd": T.Q8_0}, split=8),
    "wide-k": dict(model=None, types={"": T.Q4_K, "ffn_up": T.Q5_K, "ffn_down": T.Q6_K, "attn_k": T.Q5_K,
                                      "attn_v": T.Q6_K, "attn_output": T.Q8_0, "token_embd": T.Q6_K}),
    "nemo-q5_0": dict(model="mistral_nemo", types={"": T.Q5_0, "attn_q": T.Q5_1, "ffn_up": T.Q4_1, "ffn_down": T.Q5_1,
                                                 "output": T.Q4_1}),
    "qwen3-q4_1": dict(model="qwen3", types={"": T.Q4_1, "attn_v": T.Q5_0, "ffn_down": T.Q5_0, "token_embd": T.Q5_1}),
}

LAYER_NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
OTHER_NAMES = {"model.embed_tokens": "token_embd", "lm_head": "output", "model.norm": "output_norm"}


def ggml():
    """ggml's own library, which comes with llama-cpp-python: only it makes K types."""
    library = ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib" / "libggml-base.so"))
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    library.ggml_quantize_chunk.argtypes = [ctypes.c_int, pointer, pointer, size, size, size, pointer]
    return library


def encode(values, kind):
    """The bytes of a matrix of float32 in a type: [rows, bytes]."""
    values = np.ascontiguousarray(values, dtype=np.float32)
    if kind not in (T.Q4_K, T.Q5_K, T.Q6_K):
        return gguf.quants.quantize(values, kind)
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    rows, columns = values.shape
    out = np.zeros((rows, columns // elements * size), dtype=np.uint8)
    ggml().ggml_quantize_chunk(int(kind), values.ctypes.data, out.ctypes.data, 0, rows, columns, None)
    return out


def gguf_name(name):
    stem, part = name.rsplit(".", 1)
    if stem in OTHER_NAMES:
        return f"{OTHER_NAMES[stem]}.{part}"
    _, _, layer, rest = stem.split(".", 3)
    return f"blk.{layer}.{LAYER_NAMES[rest]}.{part}"


def heads_of(name, config):
    """How many heads' rows llama.cpp wants interleaved."""
    if ARCHITECTURES[config["model_type"]] != "llama":
        return 0
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    return heads.get(name.split(".")[-2], 0)


def interleave(values, heads):
    """Row i of each half of a head to 2 i and 2 i + 1."""
    shape = values.shape
    return values.reshape(heads, 2, shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(shape)


def separate(values, heads):
    shape = values.shape
    return values.reshape(heads, shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(shape)


def byte_vocabulary():
    """256 byte-level tokens, of which some give way to control tokens and one to a merge of two."""
    letters = [*range(33, 127), *range(161, 173), *range(174, 256)]
    extra = iter(range(256, 512))
    tokens = [chr(b) if b in letters else chr(next(extra)) for b in range(256)]
    types = [int(gguf.TokenType.NORMAL)] * 256
    for i, text in {1: "<|begin_of_text|>", 3: "<|end_of_text|>", 7: "<|eom_id|>", 9: "<|eot_id|>"}.items():
        tokens[i], types[i] = text, int(gguf.TokenType.CONTROL)
    tokens[2] = "ab"
    return tokens, types


def write_metadata(writer, config, vocabulary):
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    if not vocabulary:
        writer.add_tokenizer_model("no_vocab")
        return
    tokens, types = byte_vocabulary()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(9)
    writer.add_add_bos_token(True)
    writer.add_chat_template("{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}<|eot_id|>{% endfor %}"
                             "{% if add_generation_prompt %}assistant: {% endif %}")


def write_file(path, config, weights, types, vocabulary=False, split=0):
    """The file, and the weights under their own names as float32 again."""
    writer = gguf.GGUFWriter(str(path), ARCHITECTURES[config["model_type"]], split_max_tensors=split)
    write_metadata(writer, config, vocabulary)
    found = {}
    for name, tensor in weights.items():
        values, heads = tensor.to(torch.float32).numpy(), heads_of(name, config)
        stored = interleave(values, heads) if heads else values
        target = gguf_name(name)
        if values.ndim == 1:
            writer.add_tensor(target, stored)
            found[name] = tensor.to(torch.float32)
            continue
        kind = types.get(target.rsplit(".", 1)[0].split(".")[-1], types[""])
        data = encode(stored, kind)
        if kind == T.F16:
            writer.add_tensor(target, stored.astype(np.float16))
        else:
            writer.add_tensor(target, data, raw_dtype=kind)
        back = gguf.quants.dequantize(data, kind).astype(np.float32).reshape(values.shape)
        found[name] = torch.from_numpy(np.ascontiguousarray(separate(back, heads) if heads else back))
    scaling = config.get("rope_scaling") or {}
    if scaling.get("rope_type") == "llama3":
        rotary = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config)).model.rotary_emb
        head_dim = config["head_dim"]
        plain = config["rope_theta"] ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
        writer.add_tensor("rope_freqs.weight", (plain / rotary.inv_freq.double()).float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return found


class LlamaCpp:
    """Logits of llama.cpp for token ids."""

    def __init__(self, path):
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
        if not self.model:
            raise RuntimeError(f"llama.cpp does not load {path}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_threads, params.n_threads_batch = 256, 256, 1, 1
        params.type_k = params.type_v = int(T.F32)
        params.flash_attn_type = 0
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def __call__(self, ids):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        tokens = (llama_cpp.llama_token * len(ids))(*ids)
        if llama_cpp.llama_decode(self.context, llama_cpp.llama_batch_get_one(tokens, len(ids))) != 0:
            raise RuntimeError("llama.cpp cannot decode")
        return torch.from_numpy(np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self.context, -1),
                                                      shape=(self.n_vocab,)).copy())

    def close(self):
        llama_cpp.llama_free(self.context)
        llama_cpp.llama_model_free(self.model)


def greedy(logits_of, prompt):
    """The continuation, its smallest relative margin, and the logits after the prompt and after all of it."""
    ids, margin, first = list(prompt), math.inf, None
    for _ in range(CONTINUATION):
        row = logits_of(ids)
        first = row if first is None else first
        best = torch.topk(row, 2).values
        margin = min(margin, float((best[0] - best[1]) / row.abs().max()))
        ids.append(int(row.argmax()))
    return ids[len(prompt):], margin, [first, logits_of(ids)]


def model_of(name, config, weights):
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), attn_implementation="eager").eval().float()
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if unexpected or [m for m in missing if m != "lm_head.weight" or not config.get("tie_word_embeddings")]:
        raise RuntimeError(f"{name}: missing {missing}, unexpected {unexpected}")
    model.tie_weights()
    return model


@torch.no_grad()
def vectors(name, paths, config, model, seed):
    """What transformers and llama.cpp compute: the entry of vectors.json, and rows of logits."""

    def reference(ids):
        return model(torch.tensor([ids]), use_cache=False).logits[0, -1]

    other = LlamaCpp(paths[0])
    generator = torch.Generator().manual_seed(seed)
    prompts, rows, errors, differ = [], [], [], 0
    for length in PROMPT_LENGTHS:
        for _ in range(400):
            prompt = torch.randint(config["vocab_size"], (length,), generator=generator).tolist()
            continuation, margin, logits = greedy(reference, prompt)
            if margin < MARGIN:
                continue
            theirs, _, their_logits = greedy(other, prompt)
            differ += theirs != continuation
            if theirs == continuation:
                break
        else:
            raise RuntimeError(f"{name}: no prompt of {length} tokens has a clear continuation")
        errors += [float((a - b).abs().max() / b.abs().max()) for a, b in zip(their_logits, logits)]
        rows += logits
        prompts.append({"ids": prompt, "continuation": continuation, "margin": float(f"{margin:.3g}"),
                        "llama_cpp_top": [[[int(i), round(float(v), 4)] for v, i in zip(*torch.topk(row, 5))]
                                          for row in their_logits]})
    other.close()
    size = sum(path.stat().st_size for path in paths)
    print(f"{name:12} {size:7} bytes  llama.cpp against transformers {max(errors):.1e}  "
          f"margin {min(p['margin'] for p in prompts):.1e}  clear continuations that differ {differ}")
    info = {"files": [p.name for p in paths], "seed": seed, "vocab_size": config["vocab_size"],
            "llama_cpp_error": float(f"{max(errors):.3g}"), "prompts": prompts}
    return info, torch.stack(rows).numpy().astype("<f4")


def read_model(folder):
    weights = {k: v for path in sorted(folder.glob("*.safetensors")) for k, v in load_file(path).items()}
    config = json.loads((folder / "config.json").read_text())
    config.pop("use_sliding_window", None)  # GGUF files of Qwen do not say which layers have a window
    return config, weights


def wide_model():
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(AutoConfig.for_model(**WIDE))
    generator = torch.Generator().manual_seed(3000)
    return WIDE, {name: draw(name, p.shape, WIDE, generator).float()
                  for name, p in empty.named_parameters() if name != "lm_head.weight"}


def write_blocks(path, seed):
    """Random bytes as blocks of every type, and blocks of quantised data, with what the gguf package widens them to."""
    rng = np.random.default_rng(seed)
    out = {}
    for kind in (T.Q8_0, T.Q4_0, T.Q4_K, T.Q5_K, T.Q6_K, T.Q4_1, T.Q5_0, T.Q5_1):
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = rng.integers(0, 256, (6 if size > 100 else 12, size), dtype=np.uint8)
        # Scales of random bits are often infinite; most blocks get an ordinary one.
        at = {T.Q6_K: [208]}.get(kind, [0, 2] if kind in (T.Q4_K, T.Q5_K, T.Q4_1, T.Q5_1) else [0])
        for i in range(1, len(blocks)):
            for offset in at:
                blocks[i, offset:offset + 2] = np.float16(rng.normal()).reshape(1).view(np.uint8)
        with np.errstate(all="ignore"):
            wide = gguf.quants.dequantize(blocks, kind)
            blocks = blocks[np.isfinite(wide).all(axis=1)]
        data = encode(rng.normal(size=(2, elements)).astype(np.float32), kind)
        blocks = np.concatenate([blocks, data])
        wide = gguf.quants.dequantize(blocks, kind).astype("<f4")
        out[kind.name.lower()] = {"widened_sha256": hashlib.sha256(wide.tobytes()).hexdigest(),
                                  "first": [float(v) for v in wide[0][:8]], "blocks": blocks.tobytes().hex()}
    path.write_text(json.dumps(out, indent=1) + "\n")


def prepare():
    """One thread and no chatter; the result must stay alive."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    quiet = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(quiet, None)
    return quiet


def write_vectors(out, models):
    """vectors.json and logits.f32. models: name -> function that gives source, entry and rows."""
    index = {"gguf": importlib.metadata.version("gguf"), "llama_cpp_python": llama_cpp.__version__,
             "transformers": transformers.__version__}
    entries, rows = [], []
    for name, make in models.items():
        source, info, logits = make()
        info = {"source": source, "first_value": sum(map(len, rows))} | info
        entries.append(f"{json.dumps(name)}: {json.dumps(info)}")
        rows.append(logits.reshape(-1))
    (out / "logits.f32").write_bytes(np.concatenate(rows).tobytes())
    text = ",\n ".join(entries)
    (out / "vectors.json").write_text(json.dumps(index)[:-1] + ', "models": {\n ' + text + "\n}}\n")


def make(name, spec, models, out, seed):
    config, weights = wide_model() if spec["model"] is None else read_model(models / spec["model"])
    for old in out.glob(f"{name}*.gguf"):
        old.unlink()
    widened = write_file(out / f"{name}.gguf", config, weights, spec["types"], spec.get("vocabulary", False),
                         spec.get("split", 0))
    paths = sorted(out.glob(f"{name}*.gguf"))
    return spec["model"], *vectors(name, paths, config, model_of(name, config, widened), seed)


def main(argv):
    if len(argv) != 3:
        sys.exit(__doc__)
    quiet = prepare()
    models, out = Path(argv[1]), Path(argv[2])
    out.mkdir(parents=True, exist_ok=True)
    write_vectors(out, {name: (lambda i=i, name=name, spec=spec: make(name, spec, models, out, 2000 + i))
                        for i, (name, spec) in enumerate(FILES.items())})
    write_blocks(out / "blocks.json", seed=4000)
    del quiet


if __name__ == "__main__":
    main(sys.argv)

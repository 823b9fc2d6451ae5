"""A Llama model of random weights, written in every form that the engines of compare.py read.

FOLDER/hf        config.json, model.safetensors in bf16, tokenizer.json
FOLDER/bf16.gguf, q8.gguf, q4.gguf

All files hold the same weights, rounded to bf16 and then to the file's type. As in `spanwise --dtype q4`, the embedding
table and the head of q4.gguf are Q8_0. The vocabulary has the bytes and otherwise names that no text contains.
"""
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

SEED = 1
NAMED_SHAPES = {"1b": "16x2048x8192x32x8", "8b": "32x4096x14336x32x8"}
MAX_POSITIONS = 131072
NORM_EPSILON = 1e-5
ROPE_THETA = 10000.0
BOS, EOS = 257, 258


@dataclass
class Shape:
    name: str
    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    vocab: int

    @property
    def head_dim(self):
        return self.hidden // self.heads


def parse_shape(name):
    """ValueError says what is wrong."""
    try:
        numbers = [int(part) for part in NAMED_SHAPES.get(name, name).split("x")]
    except ValueError:
        numbers = []
    if len(numbers) != 5 or min(numbers) <= 0:
        raise ValueError(f"shape {name!r} is not 1b, 8b or LAYERSxHIDDENxFFNxHEADSxKVHEADS")
    shape = Shape(name, *numbers, vocab=128256 if name == "8b" else 32000)
    if shape.hidden % shape.heads or shape.heads % shape.kv_heads or shape.head_dim % 2:
        raise ValueError(f"shape {name!r}: heads must divide the width, KV heads the heads; head sizes are even")
    if shape.hidden % 32 or shape.ffn % 32:
        raise ValueError(f"shape {name!r}: the width and the FFN width must be multiples of 32, the size of a block")
    return shape


@dataclass
class Tensor:
    hf_name: str
    gguf_name: str
    shape: tuple
    heads: int = 0  # whose rows llama.cpp wants interleaved


def tensors_of(shape):
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    layer = [("input_layernorm", "attn_norm", (shape.hidden,), 0),
             ("self_attn.q_proj", "attn_q", (q, shape.hidden), shape.heads),
             ("self_attn.k_proj", "attn_k", (kv, shape.hidden), shape.kv_heads),
             ("self_attn.v_proj", "attn_v", (kv, shape.hidden), 0),
             ("self_attn.o_proj", "attn_output", (shape.hidden, q), 0),
             ("post_attention_layernorm", "ffn_norm", (shape.hidden,), 0),
             ("mlp.gate_proj", "ffn_gate", (shape.ffn, shape.hidden), 0),
             ("mlp.up_proj", "ffn_up", (shape.ffn, shape.hidden), 0),
             ("mlp.down_proj", "ffn_down", (shape.hidden, shape.ffn), 0)]
    yield Tensor("model.embed_tokens.weight", "token_embd.weight", (shape.vocab, shape.hidden))
    for i in range(shape.layers):
        for hf_name, gguf_name, size, heads in layer:
            yield Tensor(f"model.layers.{i}.{hf_name}.weight", f"blk.{i}.{gguf_name}.weight", size, heads)
    yield Tensor("model.norm.weight", "output_norm.weight", (shape.hidden,))
    yield Tensor("lm_head.weight", "output.weight", (shape.vocab, shape.hidden))


def draw(tensor, index):
    """Values of a tensor as bf16 bits: gains of 1, and matrices that keep the size of what they multiply."""
    if len(tensor.shape) == 1:
        values = np.ones(tensor.shape, dtype=np.float32)
    else:
        values = np.random.default_rng([SEED, index]).standard_normal(tensor.shape, dtype=np.float32)
        values *= np.float32(tensor.shape[1] ** -0.5)
    bits = values.view(np.uint32)
    bits += 0x7FFF + ((bits >> 16) & 1)
    return (bits >> 16).astype(np.uint16)


def widen(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def interleave(values, heads):
    """Row i of each half of a head to 2 i and 2 i + 1."""
    shape = values.shape
    return values.reshape(heads, 2, shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(shape)


def vocabulary(size):
    """Byte-level tokens, one merge, the control tokens BOS and EOS, and names."""
    letters = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    bytes_ = [chr(b) if b in letters else chr(next(others)) for b in range(256)]
    return [*bytes_, "ab", "<s>", "</s>", *(f"<token-{i}>" for i in range(259, size))]


def config_of(shape):
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16", "hidden_act": "silu",
        "hidden_size": shape.hidden, "intermediate_size": shape.ffn, "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads, "head_dim": shape.head_dim,
        "vocab_size": shape.vocab, "max_position_embeddings": MAX_POSITIONS, "rms_norm_eps": NORM_EPSILON,
        "rope_theta": ROPE_THETA, "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": False,
        "bos_token_id": BOS, "eos_token_id": EOS}


def write_tokenizer(folder, shape):
    tokens = vocabulary(shape.vocab)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    special = [{"id": i, "content": tokens[i], "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": True} for i in (BOS, EOS)]
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
             "vocab": {token: i for i, token in enumerate(tokens)}, "merges": ["a b"]}
    whole = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
             "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level, "model": model}
    (folder / "tokenizer.json").write_text(json.dumps(whole))
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": tokens[BOS], "eos_token": tokens[EOS]}))


class SafetensorsFile:
    """bf16 tensors in the order in which they are written."""

    def __init__(self, path, tensors):
        header, at = {"__metadata__": {"format": "pt"}}, 0
        for tensor in tensors:
            end = at + 2 * int(np.prod(tensor.shape))
            header[tensor.hf_name] = {"dtype": "BF16", "shape": tensor.shape, "data_offsets": [at, end]}
            at = end
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        self.file = open(path, "wb")
        self.file.write(len(text).to_bytes(8, "little") + text)

    def write(self, bits):
        bits.tofile(self.file)

    def close(self):
        self.file.close()


class GgufFile:
    """Tensors in the order in which they are written: gains in float32, both ends in `ends`, others in `type`."""

    def __init__(self, path, shape, tensors, type, ends):
        self.type, self.ends = type, ends
        self.writer = gguf.GGUFWriter(str(path), "llama")
        self.add_metadata(shape)
        for tensor in tensors:
            kind = self.type_of(tensor)
            elements, block_bytes = gguf.GGML_QUANT_SIZES[kind]
            n_bytes = int(np.prod(tensor.shape)) // elements * block_bytes
            self.writer.add_tensor_info(tensor.gguf_name, tensor.shape, np.dtype(np.float32), n_bytes, raw_dtype=kind)
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_ti_data_to_file()

    def type_of(self, tensor):
        if len(tensor.shape) == 1:
            return T.F32
        return self.ends if tensor.gguf_name in ("token_embd.weight", "output.weight") else self.type

    def add_metadata(self, shape):
        w, tokens = self.writer, vocabulary(shape.vocab)
        w.add_name(f"random Llama {shape.name}")
        w.add_file_type({T.BF16: gguf.LlamaFileType.MOSTLY_BF16, T.Q8_0: gguf.LlamaFileType.MOSTLY_Q8_0,
                         T.Q4_0: gguf.LlamaFileType.MOSTLY_Q4_0}[self.type])
        w.add_block_count(shape.layers)
        w.add_context_length(MAX_POSITIONS)
        w.add_embedding_length(shape.hidden)
        w.add_feed_forward_length(shape.ffn)
        w.add_head_count(shape.heads)
        w.add_head_count_kv(shape.kv_heads)
        w.add_key_length(shape.head_dim)
        w.add_value_length(shape.head_dim)
        w.add_rope_dimension_count(shape.head_dim)
        w.add_rope_freq_base(ROPE_THETA)
        w.add_layer_norm_rms_eps(NORM_EPSILON)
        w.add_vocab_size(shape.vocab)
        w.add_tokenizer_model("gpt2")
        w.add_tokenizer_pre("llama-bpe")
        w.add_token_list(tokens)
        w.add_token_types([int(gguf.TokenType.CONTROL if i in (BOS, EOS) else gguf.TokenType.NORMAL)
                           for i in range(shape.vocab)])
        w.add_token_merges(["a b"])
        w.add_bos_token_id(BOS)
        w.add_eos_token_id(EOS)
        w.add_add_bos_token(False)

    def write(self, tensor, values):
        self.writer.write_tensor_data(gguf.quants.quantize(values, self.type_of(tensor)))

    def close(self):
        self.writer.close()


def write_model(folder, shape, progress):
    hf = folder / "hf"
    hf.mkdir(parents=True)
    (hf / "config.json").write_text(json.dumps(config_of(shape), indent=1) + "\n")
    write_tokenizer(hf, shape)
    tensors = list(tensors_of(shape))
    plain = SafetensorsFile(hf / "model.safetensors", tensors)
    quantised = [GgufFile(folder / f"{name}.gguf", shape, tensors, type, ends)
                 for name, type, ends in (("bf16", T.BF16, T.BF16), ("q8", T.Q8_0, T.Q8_0), ("q4", T.Q4_0, T.Q8_0))]
    for i, tensor in enumerate(tensors):
        bits = draw(tensor, i)
        plain.write(bits)
        values = widen(bits)
        values = np.ascontiguousarray(interleave(values, tensor.heads)) if tensor.heads else values
        for file in quantised:
            file.write(tensor, values)
        progress(i + 1, len(tensors))
    for file in (plain, *quantised):
        file.close()


def make_model(models, shape, progress):
    """The folder of the model under `models`, written if it is not there yet."""
    folder = Path(models) / shape.name
    if not folder.exists():
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        write_model(part, shape, progress)
        part.rename(folder)
    return folder

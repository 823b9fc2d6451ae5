#!/usr/bin/env python3
"""Writes a float32 GGUF file of every supported family, and vectors like those of gguf_vectors.py, for a wider check.

    gguf_families.py MODELS_DIR OUT_DIR
    SPANWISE_GGUF_VECTORS=OUT_DIR gguf_golden_test

MODELS_DIR holds the models of logit_vectors.py. Nothing of this is kept in the repository: the files are large.
"""
import json
import math
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import load_file

import gguf_vectors as base
from logit_vectors import load

# What a GGUF file cannot say, or llama.cpp does not do, is taken out of config.json.
FAMILIES = {
    "llama2": {}, "llama_bias": {}, "llama_linear": {}, "llama_mqa": {}, "yarn": {}, "mistral_nemo": {}, "qwen25": {},
    "qwen3": {}, "gemma2": {"query_pre_attn_scalar": 24}, "gemma3": {"query_pre_attn_scalar": 24},
    "phi3": {"sliding_window": None}, "phi4_mini": {}, "olmo2": {}, "smollm3": {"no_rope_layer_interval": 4},
    "granite": {}, "qwen3_moe": {}, "mixtral": {},
}
ARCHITECTURES = {"gemma2": "gemma2", "gemma3_text": "gemma3", "phi3": "phi3", "olmo2": "olmo2", "smollm3": "smollm3",
                 "granite": "granite", "qwen3_moe": "qwen3moe", "mixtral": "llama"}
INTERLEAVED = {"llama", "mistral", "mixtral", "smollm3", "granite"}
BOTH_SIDES = {"post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
              "post_feedforward_layernorm": "post_ffw_norm"}
MORE_NAMES = {"gemma2": BOTH_SIDES, "gemma3_text": BOTH_SIDES, "olmo2": BOTH_SIDES,
              "phi3": {"self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up"},
              "qwen3_moe": {"mlp.gate": "ffn_gate_inp"}, "mixtral": {"block_sparse_moe.gate": "ffn_gate_inp"}}
EXPERT_NAMES = {"gate_proj": "ffn_gate_exps", "up_proj": "ffn_up_exps", "down_proj": "ffn_down_exps",
                "w1": "ffn_gate_exps", "w3": "ffn_up_exps", "w2": "ffn_down_exps"}


def add_scaling(writer, config):
    scaling = config.get("rope_scaling") or {}
    kind = scaling.get("rope_type", scaling.get("type"))
    if kind in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
        writer.add_rope_scaling_factor(scaling["factor"])
    if kind == "yarn":
        writer.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
    if kind == "longrope":
        original, longest = config["original_max_position_embeddings"], config["max_position_embeddings"]
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(longest / original) / math.log(original)))
        for name in ("long", "short"):
            writer.add_tensor(f"rope_factors_{name}.weight", np.array(scaling[f"{name}_factor"], dtype=np.float32))


def add_metadata(writer, config):
    base.write_metadata(writer, config, vocabulary=False)
    rows = [("sliding_window", writer.add_sliding_window), ("attn_logit_softcapping", writer.add_attn_logit_softcapping),
            ("final_logit_softcapping", writer.add_final_logit_softcapping), ("logits_scaling", writer.add_logit_scale),
            ("embedding_multiplier", writer.add_embedding_scale), ("residual_multiplier", writer.add_residual_scale),
            ("attention_multiplier", writer.add_attention_scale), ("num_experts", writer.add_expert_count),
            ("num_local_experts", writer.add_expert_count), ("num_experts_per_tok", writer.add_expert_used_count),
            ("moe_intermediate_size", writer.add_expert_feed_forward_length),
            ("sliding_window_pattern", writer.add_sliding_window_pattern),
            ("rope_local_base_freq", writer.add_rope_freq_base_swa)]
    windowless = config["model_type"] in ("qwen2", "qwen3")
    for key, add in rows:
        if config.get(key) is not None and not (windowless and key == "sliding_window"):
            add(config[key])
    if "partial_rotary_factor" in config:
        head_dim = config["hidden_size"] // config["num_attention_heads"]
        key = gguf.Keys.Rope.DIMENSION_COUNT.format(arch=writer.arch)
        writer.kv_data[0][key].value = int(head_dim * config["partial_rotary_factor"])
    add_scaling(writer, config)


def add_tensors(writer, config, weights):
    kind = config["model_type"]
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    names, experts = base.LAYER_NAMES | MORE_NAMES.get(kind, {}), {}
    for name, tensor in weights.items():
        stem, part = name.rsplit(".", 1)
        values = tensor.to(torch.float32).numpy()
        if kind.startswith("gemma") and stem.endswith("norm"):
            values = values + 1
        if ".experts." in stem:
            layer, number, which = stem.split(".")[2], int(stem.split(".")[-2]), stem.split(".")[-1]
            experts.setdefault(f"blk.{layer}.{EXPERT_NAMES[which]}.weight", {})[number] = values
            continue
        if kind in INTERLEAVED and stem.split(".")[-1] in heads:
            values = base.interleave(values, heads[stem.split(".")[-1]])
        if stem in base.OTHER_NAMES:
            target = base.OTHER_NAMES[stem]
        else:
            _, _, layer, rest = stem.split(".", 3)
            target = f"blk.{layer}.{names[rest]}"
        writer.add_tensor(f"{target}.{part}", values)
    for target, matrices in experts.items():
        writer.add_tensor(target, np.stack([matrices[i] for i in range(len(matrices))]))


def write_family(name, changes, models, out):
    folder = models / name
    config = json.loads((folder / "config.json").read_text()) | changes
    weights = {k: v for path in sorted(folder.glob("*.safetensors")) for k, v in load_file(path).items()}
    path = out / f"{name}.gguf"
    writer = gguf.GGUFWriter(str(path), (base.ARCHITECTURES | ARCHITECTURES)[config["model_type"]])
    add_metadata(writer, config)
    add_tensors(writer, config, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with tempfile.TemporaryDirectory() as changed:
        (Path(changed) / "config.json").write_text(json.dumps(config))
        for file in folder.glob("*.safetensors*"):
            (Path(changed) / file.name).symlink_to(file.resolve())
        model = load(changed, torch.float32)
    return base.vectors(name, [path], config, model, seed=5000)


def main(argv):
    if len(argv) != 3:
        sys.exit(__doc__)
    quiet = base.prepare()
    models, out = Path(argv[1]), Path(argv[2])
    out.mkdir(parents=True, exist_ok=True)
    base.write_vectors(out, {name: (lambda n=name, c=changes: (None, *write_family(n, c, models, out)))
                             for name, changes in FAMILIES.items()})
    del quiet


if __name__ == "__main__":
    main(sys.argv)

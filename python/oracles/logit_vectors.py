#!/usr/bin/env python3
"""Writes small random models of every supported family and what Hugging Face transformers computes with them.

    logit_vectors.py OUT_DIR [NAME]...

tests/golden/README.md describes the files. Weights are drawn so that attention is far from uniform and logits well apart:
the default initialisation gives nearly uniform attention, which would hide an error in positions.
"""
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

PROMPT_LENGTHS = [1, 5, 67, 200]
CONTINUATION = 64
MAX_POSITIONS = 512
# The runner-up's logit stays below the best one by at least this share of the largest logit, so that no rounding of a
# correct float32 implementation changes the greedy continuation.
MARGIN = 1e-3

BASE = {"hidden_act": "silu", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 256, "max_position_embeddings": MAX_POSITIONS,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False}
LLAMA = BASE | {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "eos_token_id": 2}
MISTRAL = BASE | {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "eos_token_id": 2}
QWEN2 = BASE | {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "rms_norm_eps": 1e-6}
QWEN3 = BASE | {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "rms_norm_eps": 1e-6}
GEMMA = {k: v for k, v in BASE.items() if k != "hidden_act"} | {
    "hidden_activation": "gelu_pytorch_tanh", "head_dim": 24, "query_pre_attn_scalar": 20, "sliding_window": 32,
    "num_hidden_layers": 4, "hidden_size": 48, "intermediate_size": 64, "num_attention_heads": 3, "num_key_value_heads": 1,
    "rms_norm_eps": 1e-6, "tie_word_embeddings": True, "eos_token_id": 1}
PHI3 = BASE | {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "eos_token_id": 2, "pad_token_id": 0,
               "original_max_position_embeddings": MAX_POSITIONS}
QWEN3_MOE = BASE | {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 48, "head_dim": 16,
                    "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "decoder_sparse_step": 1}


def yarn(**more):
    return {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64} | more


# config: config.json as published models write it. seed: of weights and prompts, such that no token of a mixture stands so
# near the border between two experts that rounding to bfloat16 sends it to the other. stored: dtype of the weights' file. eos: generation_config.json's.
MODELS = {
    "llama2": dict(config=LLAMA | {"hidden_size": 48, "intermediate_size": 80, "num_attention_heads": 3,
                                   "num_key_value_heads": 3}, stored="float32"),
    "llama3": dict(config=LLAMA | {"rope_theta": 500000.0, "eos_token_id": [3, 7, 9], "head_dim": 16, "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64}}, eos=[3, 7, 9], stored="bfloat16"),
    "llama_bias": dict(config=LLAMA | {"attention_bias": True, "mlp_bias": True}, stored="float16"),
    "llama_linear": dict(config=LLAMA | {"rope_scaling": {"type": "linear", "factor": 2.5}}, stored="bfloat16"),
    "llama_mqa": dict(config=LLAMA | {"hidden_size": 72, "intermediate_size": 100, "num_attention_heads": 3,
                                      "num_key_value_heads": 1, "vocab_size": 211, "tie_word_embeddings": True},
                      stored="bfloat16", shard_bytes=60_000),
    "yarn": dict(config=LLAMA | {"rope_scaling": yarn()}, stored="bfloat16"),
    "yarn_factor": dict(config=LLAMA | {"rope_scaling": yarn(attention_factor=0.8, beta_fast=16.0, beta_slow=2.0)},
                        stored="bfloat16"),
    "yarn_mscale": dict(config=QWEN2 | {"rope_scaling": yarn(mscale=1.0, mscale_all_dim=0.5, truncate=False)},
                        stored="bfloat16"),
    "mistral": dict(config=MISTRAL | {"sliding_window": 32}, eos=[2, 5], stored="bfloat16"),
    "mistral_nemo": dict(config=MISTRAL | {"sliding_window": None, "head_dim": 24, "rope_theta": 1000000.0},
                         stored="bfloat16"),
    "qwen2": dict(config=QWEN2 | {"num_hidden_layers": 3, "use_sliding_window": True, "sliding_window": 24,
                                  "max_window_layers": 1, "rope_theta": 1000000.0}, stored="bfloat16"),
    "qwen25": dict(config=QWEN2 | {"intermediate_size": 72, "tie_word_embeddings": True, "use_sliding_window": False,
                                   "sliding_window": 24, "max_window_layers": 1, "eos_token_id": 11}, eos=[11, 12], stored="float32"),
    "qwen3": dict(config=QWEN3 | {"head_dim": 32, "tie_word_embeddings": True, "rope_theta": 1000000.0,
                                  "eos_token_id": 11}, stored="bfloat16"),
    # As transformers 5 writes it: rope_parameters instead of rope_theta and rope_scaling, layer_types spelled out.
    "qwen3_v5": dict(config=QWEN3 | {
        "head_dim": 16, "attention_bias": True, "rope_theta": None, "rope_parameters": yarn(rope_theta=1000000.0),
        "use_sliding_window": True, "sliding_window": 40, "max_window_layers": 1,
        "layer_types": ["full_attention", "sliding_attention"]}, stored="bfloat16"),
    "gemma2": dict(config=GEMMA | {"architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2",
                                   "attn_logit_softcapping": 5.0, "final_logit_softcapping": 6.0}, stored="bfloat16"),
    "gemma3": dict(config=GEMMA | {"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text",
                                   "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0, "sliding_window_pattern": 3,
                                   "rope_scaling": {"rope_type": "linear", "factor": 8.0}}, stored="bfloat16"),
    "phi3": dict(config=PHI3 | {"sliding_window": 40}, stored="bfloat16"),
    # Phi-4-mini's ways: a part of each head turns, and the longrope factors of the original length.
    "phi4_mini": dict(config=PHI3 | {"partial_rotary_factor": 0.75, "tie_word_embeddings": True,
                                     "original_max_position_embeddings": 384, "rope_scaling": {
        "type": "longrope", "short_factor": [1.0, 1.05, 1.2, 1.5, 2.0, 3.0], "long_factor": [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]}},
        stored="bfloat16"),
    "olmo2": dict(config=BASE | {"architectures": ["Olmo2ForCausalLM"], "model_type": "olmo2", "rope_theta": 500000.0,
                                 "rms_norm_eps": 1e-6, "eos_token_id": 5}, stored="bfloat16"),
    "smollm3": dict(config=BASE | {"architectures": ["SmolLM3ForCausalLM"], "model_type": "smollm3", "num_hidden_layers": 4,
                                   "hidden_size": 48, "num_attention_heads": 3, "num_key_value_heads": 1, "eos_token_id": 3,
                                   "rope_theta": 5000000.0, "tie_word_embeddings": True, "no_rope_layer_interval": 2,
                                   "pad_token_id": 0}, stored="bfloat16"),
    "granite": dict(config=BASE | {"architectures": ["GraniteForCausalLM"], "model_type": "granite", "attention_bias": True,
                                   "embedding_multiplier": 2.5, "residual_multiplier": 0.8, "attention_multiplier": 0.3,
                                   "logits_scaling": 2.0, "tie_word_embeddings": True, "eos_token_id": 0}, stored="bfloat16"),
    "qwen3_moe": dict(config=QWEN3_MOE | {"norm_topk_prob": True, "mlp_only_layers": [], "eos_token_id": 11}, stored="bfloat16"),
    "qwen3_moe_mixed": dict(config=QWEN3_MOE | {"norm_topk_prob": False, "mlp_only_layers": [1], "num_hidden_layers": 3,
                                                "hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1},
                            stored="bfloat16", seed=2000),
    "mixtral": dict(config=BASE | {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_size": 48,
                                   "intermediate_size": 64, "num_attention_heads": 3, "num_key_value_heads": 1,
                                   "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None,
                                   "eos_token_id": 2}, stored="bfloat16"),
}


def draw(name, shape, config, generator):
    """Random weights of one tensor, scaled by what it does."""
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    gemma = config["model_type"].startswith("gemma")
    if name.endswith("norm.weight"):                # Gemma stores gains less 1, and multiplies embeddings by sqrt(hidden)
        return 0.2 * noise + (1 if not gemma else 2 if "post_" in name else 0)
    if name.endswith(".bias"):
        return 0.3 * noise
    # Tied embeddings also make the logits; layers outweigh them there, or every token would predict itself.
    tied = config.get("tie_word_embeddings")
    if "embed_tokens" in name:
        return noise * (0.25 if gemma else 0.5 if tied else 1.0)
    layer_gain = 2.0 if tied else 1.0
    gain = {"o_proj": layer_gain, "down_proj": layer_gain, "w2": layer_gain, "lm_head": 4.0}.get(name.split(".")[-2], 1.0)
    if name.endswith((".mlp.gate.weight", "moe.gate.weight")):  # a router: experts chosen with a clear lead
        gain = 3.0
    return noise * gain / math.sqrt(shape[1])


def published(model, config):
    """{name: shape} of the tensors as published files have them: transformers keeps the experts of a layer in one."""
    mixtral = config["model_type"] == "mixtral"
    for name, p in model.named_parameters():
        if mixtral:
            name = name.replace(".mlp.", ".block_sparse_moe.")
        if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            yield name, p.shape
            continue
        stem, last = name.rsplit(".", 1)
        both = last == "gate_up_proj"
        for e in range(p.shape[0]):
            for part in ("w1", "w3") if both and mixtral else ("gate_proj", "up_proj") if both else ("w2",) if mixtral else ("down_proj",):
                yield f"{stem}.{e}.{part}.weight", (p.shape[1] // (2 if both else 1), p.shape[2])


def write_model(folder, config, eos, stored, shard_bytes, seed):
    """config.json, generation_config.json and the weights, sharded when shard_bytes is given."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {k: v for k, v in config.items() if k != "rope_theta" or v is not None}
    version_key = "dtype" if "rope_parameters" in config else "torch_dtype"
    (folder / "config.json").write_text(json.dumps(config | {version_key: stored}, indent=2) + "\n")
    if eos:
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": eos}) + "\n")

    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    generator = torch.Generator().manual_seed(seed)
    tied = config.get("tie_word_embeddings")
    tensors = {name: draw(name, shape, config, generator).to(getattr(torch, stored))
               for name, shape in published(empty, config) if not (tied and name == "lm_head.weight")}
    if not shard_bytes:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    shards, size = [{}], 0
    for name, tensor in tensors.items():
        if size + tensor.nbytes > shard_bytes and shards[-1]:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    weight_map = {}
    for i, shard in enumerate(shards):
        file = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        weight_map |= {name: file for name in shard}
    index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


def load(folder, dtype):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager", experts_implementation="eager")
    return model.eval()


@torch.no_grad()
def logits_of(model, ids):
    """[n_tokens, vocab]: row p is what follows ids[0..p]. Recomputed from nothing, without a KV cache."""
    return model(torch.tensor([ids]), use_cache=False).logits[0]


def greedy(model, prompt):
    """The greedy continuation (end tokens are tokens like others) and its smallest relative margin."""
    ids, margin = list(prompt), math.inf
    for _ in range(CONTINUATION):
        row = logits_of(model, ids)[-1]
        best = torch.topk(row, 2).values
        margin = min(margin, float((best[0] - best[1]) / row.abs().max()))
        ids.append(int(row.argmax()))
    return ids[len(prompt):], margin


def relative_error(found, expected):
    """Over rows: the largest difference as a share of the row's largest logit."""
    found, expected = found.double(), expected.double()
    return float(((found - expected).abs().amax(-1) / expected.abs().amax(-1)).max())


def chosen_positions(n_prompt, n_total):
    return sorted({p for p in (0, 1, 4, 23, 24, 31, 32, 40, 63, 64, n_prompt // 2, n_prompt - 2, n_prompt - 1)
                   if 0 <= p < n_prompt} | {n_total - 2, n_total - 1})


def write_vectors(folder, seed):
    exact = load(folder, torch.float32)
    double, half = load(folder, torch.float64), load(folder, torch.bfloat16)
    vocab = exact.config.vocab_size
    generator = torch.Generator().manual_seed(seed + 1)
    prompts, rows, errors64, errors16 = [], [], [], []
    for length in PROMPT_LENGTHS:
        for _ in range(100):
            prompt = torch.randint(vocab, (length,), generator=generator).tolist()
            continuation, margin = greedy(exact, prompt)
            if margin > MARGIN:
                break
        else:
            raise RuntimeError(f"{folder.name}: no prompt of {length} tokens has a clear greedy continuation")
        ids = prompt + continuation
        logits = logits_of(exact, ids)
        if not torch.equal(logits, logits_of(exact, ids)):
            raise RuntimeError(f"{folder.name}: transformers is not deterministic")
        positions = chosen_positions(length, len(ids))
        prompts.append({"ids": prompt, "continuation": continuation, "positions": positions,
                        "margin": float(f"{margin:.3g}")})
        rows.append(logits[positions])
        errors64.append(relative_error(logits[positions], logits_of(double, ids)[positions]))
        errors16.append(relative_error(logits_of(half, ids)[positions], logits[positions]))
    expected = torch.cat(rows).numpy().astype("<f4")
    (folder / "logits.f32").write_bytes(np.ascontiguousarray(expected).tobytes())
    stated = [json.loads(p.read_text()).get("eos_token_id")
              for p in (folder / "generation_config.json", folder / "config.json") if p.exists()][0]
    info = {
        "seed": seed, "transformers": transformers.__version__, "torch": torch.__version__.split("+")[0],
        "vocab_size": vocab, "n_rows": len(expected), "eos_ids": stated if isinstance(stated, list) else [] if stated is None else [stated],
        "hf_float32_error": float(f"{max(errors64):.3g}"), "hf_bfloat16_error": float(f"{max(errors16):.3g}"),
    }
    text = json.dumps(info, indent=1)[:-2] + ',\n "prompts": [\n  ' + ",\n  ".join(map(json.dumps, prompts)) + "\n ]\n}\n"
    (folder / "vectors.json").write_text(text)
    print(f"{folder.name:14} rows {len(expected):3}  logits std {expected.std():.2f}  float32 against float64 "
          f"{max(errors64):.1e}  bfloat16 against float32 {max(errors16):.1e}  "
          f"margin {min(p['margin'] for p in prompts):.1e}  distinct tokens continued "
          f"{[len(set(p['continuation'])) for p in prompts]}")


def main(argv):
    if len(argv) < 2:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for i, (name, spec) in enumerate(MODELS.items()):
        if len(argv) > 2 and name not in argv[2:]:
            continue
        folder = Path(argv[1], name)
        seed = spec.get("seed", 1000 + i)
        write_model(folder, spec["config"], spec.get("eos"), spec["stored"], spec.get("shard_bytes"), seed)
        write_vectors(folder, seed)


if __name__ == "__main__":
    main(sys.argv)

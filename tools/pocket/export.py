"""Writing the model as a Hugging Face folder: configuration files, tokenizer, weight shards."""
from __future__ import annotations

import json
import os

from encoding import ROW, TEMPLATE, VOCAB

SHAPE = dict(vocab=VOCAB, dim=512, layers=8, heads=8, kv=4, hd=64, ffn=896, theta=100000.0, ctx=ROW, eps=1e-5)
SHARDS = 3
NAMES = dict(n1="input_layernorm", n2="post_attention_layernorm", wq="self_attn.q_proj", wk="self_attn.k_proj", wv="self_attn.v_proj",
             wo="self_attn.o_proj", wg="mlp.gate_proj", wu="mlp.up_proj", wd="mlp.down_proj")


def _write(path, data):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(data, f, indent=1)
        f.write("\n")


def write_configs(out, c=SHAPE):
    os.makedirs(out, exist_ok=True)
    ids = dict(bos_token_id=1, eos_token_id=2, pad_token_id=0)
    _write(f"{out}/generation_config.json", dict(ids, do_sample=False))
    _write(f"{out}/config.json", dict(
        ids, architectures=["LlamaForCausalLM"], model_type="llama", vocab_size=c["vocab"], hidden_size=c["dim"], intermediate_size=c["ffn"],
        num_hidden_layers=c["layers"], num_attention_heads=c["heads"], num_key_value_heads=c["kv"], head_dim=c["hd"], hidden_act="silu",
        rms_norm_eps=c["eps"], rope_theta=c["theta"], rope_scaling=None, max_position_embeddings=c["ctx"], tie_word_embeddings=True,
        attention_bias=False, mlp_bias=False, torch_dtype="bfloat16"))
    _write(f"{out}/tokenizer_config.json", dict(
        tokenizer_class="PreTrainedTokenizerFast", bos_token="<|begin|>", eos_token="<|end|>", pad_token="<|pad|>", model_max_length=c["ctx"],
        clean_up_tokenization_spaces=False, chat_template=TEMPLATE))


def tensors(model):
    """Parameters under their Hugging Face names, in bfloat16 on the CPU."""
    import torch
    p = {"model.embed_tokens.weight": model.emb, "model.norm.weight": model.n}
    p.update({f"model.layers.{i}.{name}.weight": getattr(b, k) for i, b in enumerate(model.blocks) for k, name in NAMES.items()})
    return {k: v.detach().to(torch.bfloat16).cpu().contiguous() for k, v in p.items()}


def write_weights(model, out):
    from safetensors.torch import save_file
    os.makedirs(out, exist_ok=True)
    p = tensors(model)
    total, parts, size, index = sum(v.numel() * 2 for v in p.values()), [{}], 0, {}
    for k, v in p.items():
        if size + v.numel() * 2 > total / SHARDS + 2 ** 18 and len(parts) < SHARDS:
            parts, size = parts + [{}], 0
        parts[-1][k], size = v, size + v.numel() * 2
    for i, part in enumerate(parts):
        name = f"model-{i + 1:05d}-of-{len(parts):05d}.safetensors"
        save_file(part, os.path.join(out, name), metadata={"format": "pt"})
        index.update({k: name for k in part})
    _write(f"{out}/model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": index})


def read_weights(model, folder):
    """Loads a folder written by write_weights."""
    import torch
    from safetensors.torch import load_file
    with open(f"{folder}/model.safetensors.index.json", encoding="utf-8") as f:
        files = sorted(set(json.load(f)["weight_map"].values()))
    p = {k: v for name in files for k, v in load_file(f"{folder}/{name}").items()}
    with torch.no_grad():
        model.emb.copy_(p["model.embed_tokens.weight"])
        model.n.copy_(p["model.norm.weight"])
        for i, b in enumerate(model.blocks):
            for k, name in NAMES.items():
                getattr(b, k).copy_(p[f"model.layers.{i}.{name}.weight"])

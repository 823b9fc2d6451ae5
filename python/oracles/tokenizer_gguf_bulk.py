"""The --gguf part of tokenizer_bulk.py: ids of our tokenizers from GGUF files against llama.cpp's.

Where llama.cpp only approximates a model's own tokenizer (bert, and the splits of tekken and gpt-4o), lines that differ are compared
with that tokenizer, in the Hugging Face library, too: "not the original either" must be 0.
"""
import json
import sys
import tempfile
from pathlib import Path

import gguf
import llama_cpp
import tokenizer_kinds as kinds_module
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
PRE_NAMES = ["default", "gpt-2", "llama-bpe", "qwen2", "qwen35", "deepseek-llm", "deepseek-coder", "deepseek-v3", "deepseek-r1-qwen", "falcon", "starcoder", "refact", "smollm", "mpt", "olmo",
             "dbrx", "tekken", "command-r", "stablelm2", "gpt-4o", "chatglm-bpe", "viking", "bloom", "bailingmoe", "seed-coder", "exaone-moe", "minicpm5", "laguna"]
WORDS = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+{c}|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*{c}"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
ORIGINAL = {"tekken": WORDS.replace("{c}", "") + r"|\p{N}" + REST, "gpt-4o": WORDS.replace("{c}", "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?") + r"|\p{N}{1,3}" + REST}


def sentencepiece_vocabularies(training, vocab):
    import io
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as pb
    for model_type, name in [("bpe", "llama"), ("unigram", "t5")]:
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(t.replace("\n", " ")[:2000] for t in training if t), model_writer=model, vocab_size=vocab + 300,
                                                 model_type=model_type, byte_fallback=name == "llama", character_coverage=0.98, minloglevel=2, hard_vocab_limit=False,
                                                 normalization_rule_name="identity" if name == "llama" else "nmt_nfkc", remove_extra_whitespaces=name != "llama")
        proto = pb.ModelProto()
        proto.ParseFromString(model.getvalue())
        # The numbers of SentencePiece's types are those of GGUF.
        out = {"model": name, "tokens": [p.piece for p in proto.pieces], "scores": [p.score for p in proto.pieces], "types": [p.type for p in proto.pieces],
               "unk_id": 0, "bos_id": 1, "eos_id": 2, "add_space_prefix": True}
        if name == "t5":
            out["charsmap_hex"] = proto.normalizer_spec.precompiled_charsmap.hex()
            out["remove_extra_whitespaces"] = True
        yield name, out


def vocabularies(training, vocab):
    yield from sentencepiece_vocabularies(training, vocab)

    bert = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    d = next(d for name, d in kinds_module.kinds(training, vocab, kinds_module.RULES) if name == "bert")
    tokens = sorted(d["model"]["vocab"], key=d["model"]["vocab"].get)
    phantom = [t if t in bert or t.startswith("[") and t.endswith("]") or t.startswith("<|") else t[2:] if t.startswith("##") and len(t) > 2 else "\u2581" + t for t in tokens]
    seen, types = set(), []
    for i, t in enumerate(phantom):  # a piece may come out twice: of those one is left
        while t in seen:
            t += "\u2581"
        phantom[i] = t
        seen.add(t)
        types.append(CONTROL if t in ("[CLS]", "[SEP]", "<|begin|>", "<|end|>") else UNKNOWN if t == "[UNK]" else NORMAL)
    d["added_tokens"] = [t for t in d["added_tokens"] if t["special"]]
    d["model"]["max_input_chars_per_word"] = 10 ** 9
    yield "bert", {"original": Tokenizer.from_str(json.dumps(d)), "model": "bert", "tokens": phantom, "types": types, "unk_id": phantom.index("[UNK]"), "bos_id": phantom.index("[CLS]"), "sep_id": phantom.index("[SEP]")}

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(kinds_module.Regex(r" ?\p{L}+|\p{N}{1,3}|\s+(?!\S)| ?[^\s\p{L}\p{N}]+|\s+"), "isolated"),
                                                      pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.train_from_iterator(training, trainers.BpeTrainer(vocab_size=vocab, special_tokens=["<|begin|>", "<|end|>"], show_progress=False,
                                                                initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    for pre in PRE_NAMES:
        original = None
        if pre in ORIGINAL:
            d = json.loads(tokenizer.to_str())
            d["model"]["ignore_merges"] = pre == "tekken"
            d["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": ORIGINAL[pre]}
            original = Tokenizer.from_str(json.dumps(d))
        yield "gpt2 " + pre, {"original": original, "model": "gpt2", "pre": pre, "tokens": tokens, "types": [CONTROL, CONTROL] + [NORMAL] * (len(tokens) - 2), "merges": [" ".join(m) for m in model["merges"]],
                              "bos_id": 0, "eos_id": 1}


def write(vocabulary, path):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(vocabulary["model"])
    if "pre" in vocabulary:
        writer.add_tokenizer_pre(vocabulary["pre"])
    writer.add_token_list(vocabulary["tokens"])
    if "scores" in vocabulary:
        writer.add_token_scores(vocabulary["scores"])
    if "types" in vocabulary:
        writer.add_token_types(vocabulary["types"])
    if "merges" in vocabulary:
        writer.add_token_merges(vocabulary["merges"])
    if "charsmap_hex" in vocabulary:
        writer.add_precompiled_charsmap(bytes.fromhex(vocabulary["charsmap_hex"]))
    for key, add in [("unk_id", writer.add_unk_token_id), ("bos_id", writer.add_bos_token_id), ("eos_id", writer.add_eos_token_id), ("sep_id", writer.add_sep_token_id),
                     ("add_space_prefix", writer.add_add_space_prefix), ("remove_extra_whitespaces", writer.add_remove_extra_whitespaces)]:
        if key in vocabulary:
            add(vocabulary[key])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def run(options, training, texts):
    from tokenizer_bulk import ours_of_file
    texts = [t for t in texts if t and "\0" not in t]
    for name, vocabulary in vocabularies(training, options.vocab):
        if options.only and name not in options.only.split(","):
            continue
        original = vocabulary.pop("original", None)
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(options.save or folder) / f"{name.replace(' ', '_')}.gguf")
            write(vocabulary, path)
            llama = llama_cpp.Llama(path, vocab_only=True, verbose=False)
            counts, shown, n_ids = {"special": 0, "plain": 0, "error": 0, "not the original either": 0}, 0, 0
            for text, got in zip(texts, ours_of_file(options.program, path, texts), strict=True):
                if "error" in got:
                    counts["error"] += 1
                    continue
                for key in ("special", "plain"):
                    want = llama.tokenize(text.encode(), add_bos=False, special=key == "special")
                    n_ids += len(want)
                    if got[key]["ids"] == want:
                        continue
                    counts[key] += 1
                    if original and key == "special":
                        want = original.encode(text, add_special_tokens=False).ids
                        if got[key]["ids"] == want:
                            continue
                        counts["not the original either"] += 1
                    elif original:
                        continue
                    if shown < 3:
                        shown += 1
                        at = next((i for i, (a, b) in enumerate(zip(got[key]["ids"], want)) if a != b), min(len(want), len(got[key]["ids"])))
                        print("  ", key, repr(text)[:200], "\n     at", at, "ours", [vocabulary["tokens"][i] for i in got[key]["ids"][at - 2 if at > 1 else 0:at + 5]], "want",
                              [vocabulary["tokens"][i] for i in want[at - 2 if at > 1 else 0:at + 5]])
            print(f"{name}: {len(texts)} lines, {n_ids} ids; differ: " + ", ".join(f"{v} {k}" for k, v in counts.items()), flush=True)

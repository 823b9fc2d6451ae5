"""The --gguf part of tokenizer_bulk.py: ids of our tokenizers from GGUF vocabularies against llama.cpp's."""
import json
import sys
import tempfile
import unicodedata
from pathlib import Path

import gguf
import llama_cpp
import tokenizer_kinds as kinds_module
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
PRE_NAMES = ["default", "gpt-2", "llama-bpe", "qwen2", "qwen35", "deepseek-llm", "deepseek-coder", "deepseek-v3", "deepseek-r1-qwen", "falcon", "starcoder", "refact", "smollm", "mpt", "olmo",
             "dbrx", "tekken", "command-r", "stablelm2", "gpt-4o", "chatglm-bpe", "viking", "bloom"]


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
    yield "bert", {"model": "bert", "tokens": phantom, "types": types, "unk_id": phantom.index("[UNK]"), "bos_id": phantom.index("[CLS]"), "sep_id": phantom.index("[SEP]")}

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(kinds_module.Regex(r" ?\p{L}+|\p{N}{1,3}|\s+(?!\S)| ?[^\s\p{L}\p{N}]+|\s+"), "isolated"),
                                                      pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.train_from_iterator(training, trainers.BpeTrainer(vocab_size=vocab, special_tokens=["<|begin|>", "<|end|>"], show_progress=False,
                                                                initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    for pre in PRE_NAMES:
        yield "gpt2 " + pre, {"model": "gpt2", "pre": pre, "tokens": tokens, "types": [CONTROL, CONTROL] + [NORMAL] * (len(tokens) - 2), "merges": [" ".join(m) for m in model["merges"]],
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
    from tokenizer_bulk import ours
    texts = [t for t in texts if t and "\0" not in t]
    everything = texts
    for name, vocabulary in vocabularies(training, options.vocab):
        if options.only and name not in options.only.split(","):
            continue
        # llama.cpp decomposes a Hangul syllable, and a letter with marks, to its first character only.
        texts = [t for t in everything if name != "bert" or all(unicodedata.normalize("NFD", c)[1:] == "" for c in t)]
        if options.save:
            (Path(options.save) / f"gguf_{name.replace(' ', '_')}.json").write_text(json.dumps(vocabulary))
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "vocab.gguf")
            write(vocabulary, path)
            llama = llama_cpp.Llama(path, vocab_only=True, verbose=False)
            counts, shown, n_ids = {"special": 0, "plain": 0, "error": 0}, 0, 0
            for text, got in zip(texts, ours(options.program, json.dumps(vocabulary), texts), strict=True):
                if "error" in got:
                    counts["error"] += 1
                    continue
                for key in ("special", "plain"):
                    want = llama.tokenize(text.encode(), add_bos=False, special=key == "special")
                    n_ids += len(want)
                    if got[key]["ids"] == want:
                        continue
                    counts[key] += 1
                    if shown < 3:
                        shown += 1
                        at = next((i for i, (a, b) in enumerate(zip(got[key]["ids"], want)) if a != b), min(len(want), len(got[key]["ids"])))
                        print("  ", key, repr(text)[:200], "\n     at", at, "ours", [vocabulary["tokens"][i] for i in got[key]["ids"][at - 2 if at > 1 else 0:at + 5]], "want",
                              [vocabulary["tokens"][i] for i in want[at - 2 if at > 1 else 0:at + 5]])
            print(f"{name}: {len(texts)} lines, {n_ids} ids; differ: " + ", ".join(f"{v} {k}" for k, v in counts.items()), flush=True)

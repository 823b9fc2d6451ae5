"""Small tokenizers of every kind but byte-level BPE, trained from nothing, for tokenizer_vectors.py and tokenizer_bulk.py."""
import base64
import io
import json
import tempfile
from pathlib import Path

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

BYTES = [f"<0x{b:02X}>" for b in range(256)]
SPECIAL = ["<unk>", "<|begin|>", "<|end|>"]
DEEPSEEK = [
    pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), "isolated"),
    pre_tokenizers.Split(Regex("[一-龥぀-ゟ゠-ヿ]+"), "isolated"),
    pre_tokenizers.Split(Regex("[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
                               "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"), "isolated"),
    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
RULES = {"\u2460": "1", "\u2461": "2", "\uff21": "A", "\uff41": "a", "\ufb01": "fi", "\ufb03": "ffi", "\u00bd": "1/2", "\u00a0": " ", "\u3000": " ", "\u200b": " ", "\t": " ", "\n": " ",
         "\r": " ", "\u00ad": "", "\ufeff": "", "e\u0301": "\u00e9", "o\u0308": "\u00f6", "\u2126": "\u03a9", "\u00b2": "2", "\uff0c": ",", "\uff01": "!", "\u2026": "...", "\u304b\u3099": "\u304c"}


def charsmap(rules=None):
    """SentencePiece's compiled normalisation table: of these rules, or its whole NFKC table."""
    with tempfile.TemporaryDirectory() as folder:
        options = {"normalization_rule_name": "nmt_nfkc"}
        if rules:
            path = Path(folder) / "rules.tsv"
            hexes = lambda text: " ".join(f"{ord(c):X}" for c in text)
            path.write_text("".join(f"{hexes(a)}\t{hexes(b)}\n" for a, b in sorted(rules.items())))
            options = {"normalization_rule_tsv": str(path)}
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(["some words to train on", "and a few more of them"] * 20),
                                                 model_writer=model, vocab_size=40, hard_vocab_limit=False, minloglevel=2, **options)
        from sentencepiece import sentencepiece_model_pb2 as pb
        proto = pb.ModelProto()
        proto.ParseFromString(model.getvalue())
        return proto.normalizer_spec.precompiled_charsmap


def normal(name, *members, **options):
    return {"type": name, **options} if not members else {"type": "Sequence", "normalizers": list(members)}


def sequence(kind, *members):
    return {"type": "Sequence", kind: list(members)}


def train(trainer_type, model, lines, vocab, normalizer=None, pre_tokenizer=None, special=SPECIAL, with_bytes=False, **options):
    """A trained model's definition: its special tokens first, then the bytes."""
    tokenizer = Tokenizer(model)
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokens = list(special) + (BYTES if with_bytes else [])
    tokenizer.train_from_iterator(lines, trainer_type(vocab_size=vocab + len(tokens), special_tokens=tokens, show_progress=False, **options))
    definition = json.loads(tokenizer.to_str())
    definition["added_tokens"] = [t for t in definition["added_tokens"] if t["content"] not in BYTES]
    return definition


def add(definition, content, **flags):
    vocab = definition["model"]["vocab"]
    ids = [t["id"] for t in definition["added_tokens"]] + [len(vocab) - 1]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False} | flags
    definition["added_tokens"].append({"id": max(ids) + 1, "content": content, **flags})


def kinds(lines, vocab, rules=RULES):
    """(name, definition) for each kind; `rules`: of the Precompiled normaliser, None for SentencePiece's own."""
    space, n = "\u2581", normalizers
    metaspace_decoder = {"type": "Metaspace", "replacement": space, "prepend_scheme": "always", "split": True}

    d = train(trainers.BpeTrainer, models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"), lines, vocab, n.Sequence([n.Prepend(space), n.Replace(" ", space)]),
              pre_tokenizers.Split(space, "merged_with_next"), with_bytes=True, limit_alphabet=150)
    d["pre_tokenizer"] = None
    d["decoder"] = sequence("decoders", {"type": "Replace", "pattern": {"String": space}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
                            {"type": "Strip", "content": " ", "start": 1, "stop": 0})
    add(d, "<tool>")
    add(d, "<pad>", lstrip=True, rstrip=True)
    yield "llama2", d

    d = json.loads(json.dumps(d))
    d["normalizer"] = None
    d["pre_tokenizer"] = {"type": "Metaspace", "replacement": space, "prepend_scheme": "first", "split": False}
    yield "metaspace_first", d

    d = train(trainers.BpeTrainer, models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"), lines, vocab, n.Replace(" ", space),
              pre_tokenizers.Split(space, "merged_with_next"), with_bytes=True, limit_alphabet=100)
    d["pre_tokenizer"] = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    d["decoder"] = sequence("decoders", {"type": "Replace", "pattern": {"String": space}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"})
    add(d, "<tool>", normalized=True)
    yield "gemma", d

    d = train(trainers.BpeTrainer, models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"), lines, vocab, n.Sequence([n.NFC(), n.Replace(Regex(r"\s+"), " "), n.Lowercase()]),
              pre_tokenizers.Split(Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), "removed", True), end_of_word_suffix="</w>", limit_alphabet=120)
    d["decoder"] = {"type": "BPEDecoder", "suffix": "</w>"}
    d["post_processor"] = {"type": "RobertaProcessing", "sep": ["<|end|>", 2], "cls": ["<|begin|>", 1], "trim_offsets": False, "add_prefix_space": False}
    yield "clip", d

    d = train(trainers.BpeTrainer, models.BPE(unk_token="<unk>", continuing_subword_prefix="##", fuse_unk=False), lines, vocab, None, pre_tokenizers.Whitespace(),
              continuing_subword_prefix="##", limit_alphabet=100)
    d["decoder"] = {"type": "WordPiece", "prefix": "##", "cleanup": False}
    yield "bpe_prefix", d

    d = train(trainers.UnigramTrainer, models.Unigram(), lines, vocab, n.NFKC(), pre_tokenizers.Metaspace(), unk_token="<unk>")
    d["normalizer"] = normal("", {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap(rules)).decode()},
                             {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    d["pre_tokenizer"] = sequence("pretokenizers", {"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": space, "prepend_scheme": "always", "split": True})
    d["decoder"] = metaspace_decoder
    d["post_processor"] = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|begin|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                           {"SpecialToken": {"id": "<|end|>", "type_id": 0}}], "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
                           "special_tokens": {t: {"id": t, "ids": [i], "tokens": [t]} for i, t in enumerate(SPECIAL) if i}}
    add(d, "<mask>", lstrip=True, special=True)
    yield "xlmr", d

    d = train(trainers.UnigramTrainer, models.Unigram(), lines, vocab, None, pre_tokenizers.Metaspace(), unk_token="<unk>", with_bytes=True)
    d["model"]["byte_fallback"] = True
    for i, (token, score) in enumerate(d["model"]["vocab"]):
        if token in BYTES:
            d["model"]["vocab"][i][1] = -20.0
    d["normalizer"] = normal("", {"type": "Nmt"}, {"type": "NFKC"}, {"type": "Strip", "strip_left": False, "strip_right": True})
    d["decoder"] = sequence("decoders", {"type": "ByteFallback"}, metaspace_decoder)
    yield "unigram_bytes", d

    d = train(trainers.UnigramTrainer, models.Unigram(), lines, vocab, None, pre_tokenizers.ByteLevel(add_prefix_space=True), unk_token="<unk>",
              initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    d["decoder"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    yield "unigram_byte_level", d

    bert = ["[UNK]", "[CLS]", "[SEP]", "<|begin|>", "<|end|>"]
    d = train(trainers.WordPieceTrainer, models.WordPiece(unk_token="[UNK]"), lines, vocab, n.BertNormalizer(), pre_tokenizers.BertPreTokenizer(), special=bert, limit_alphabet=150)
    d["decoder"] = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    d["post_processor"] = {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]}
    add(d, "tool", single_word=True)
    add(d, "Mix", normalized=True, single_word=True)
    yield "bert", d

    d = train(trainers.WordPieceTrainer, models.WordPiece(unk_token="[UNK]"), lines, vocab, n.BertNormalizer(lowercase=False, strip_accents=False), pre_tokenizers.BertPreTokenizer(),
              special=bert, limit_alphabet=150)
    d["model"]["max_input_chars_per_word"] = 12
    d["decoder"] = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    yield "bert_cased", d

    d = train(trainers.WordLevelTrainer, models.WordLevel(unk_token="<unk>"), lines, vocab, n.Sequence([n.NFKD(), n.StripAccents(), n.Lowercase(), n.Strip()]),
              pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("merged_with_previous"), pre_tokenizers.Digits(False)]))
    yield "word_level", d

    d = train(trainers.WordLevelTrainer, models.WordLevel(unk_token="<unk>"), lines, vocab, n.NFD(), pre_tokenizers.Sequence([pre_tokenizers.CharDelimiterSplit("e"), pre_tokenizers.Whitespace()]))
    d["decoder"] = sequence("decoders", {"type": "Replace", "pattern": {"Regex": "[aeiou]"}, "content": "*"}, {"type": "Fuse"}, {"type": "Replace", "pattern": {"String": "**"}, "content": "+"},
                            {"type": "Strip", "content": "*", "start": 2, "stop": 0})
    yield "delimiter", d

    d = train(trainers.BpeTrainer, models.BPE(), lines, vocab, n.ByteLevel(), None, max_token_length=12, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    d["decoder"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    yield "byte_normalizer", d

    d = train(trainers.BpeTrainer, models.BPE(), lines, vocab, None, pre_tokenizers.Sequence(DEEPSEEK), initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    d["decoder"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    yield "deepseek3", d


# Kinds whose normaliser may make characters of several: there our offsets cover all of them, the library's one.
COMPOSING = {"clip", "xlmr", "unigram_bytes", "bert", "word_level", "delimiter", "qwen2"}

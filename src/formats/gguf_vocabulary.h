// What a GGUF file says about its tokenizer: a plain, checked copy of the tokenizer.* metadata.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "spanwise/status.h"

namespace spanwise {

class GgufFile;

struct GgufVocabulary {
  // The numbers are those of the file.
  enum class TokenType : uint8_t {
    kUndefined = 0,
    kNormal = 1,
    kUnknown = 2,
    kControl = 3,      // begin, end, turn markers: not text
    kUserDefined = 4,  // added text, matched whole before any splitting
    kUnused = 5,
    kByte = 6,  // "<0xE2>": one byte, of vocabularies with byte fallback
  };

  std::string model;  // "llama" (SentencePiece BPE), "gpt2" (byte-level BPE), "bert", "t5", "no_vocab", ...
  std::string pre;    // name of the pre-tokenizer ("llama-bpe", "qwen2"); empty when the file is silent
  std::vector<std::string> tokens;  // by id; at least one unless model is "no_vocab"; any bytes, not always UTF-8
  std::vector<float> scores;        // one per token, or empty; never NaN
  std::vector<TokenType> types;     // one per token, or empty
  std::vector<std::string> merges;  // "left right" in order of rank; the space at index >= 1 parts the two; often empty

  // Each one is an index of `tokens`. Others than begin and end that the file states and that are none are absent.
  std::optional<int32_t> bos_id, eos_id, eot_id, eom_id, unk_id, sep_id, pad_id, cls_id, mask_id;

  // Absent when the file is silent; what that means depends on the model.
  std::optional<bool> add_bos, add_eos, add_sep, add_space_prefix, remove_extra_whitespaces;
  std::optional<bool> lowercase, strip_accents;  // what "bert" does to text

  std::string precompiled_charsmap;                   // SentencePiece's normalisation table, binary; often empty
  std::optional<std::string> chat_template;           // Jinja, UTF-8
  std::map<std::string, std::string> chat_templates;  // named ones ("tool_use"), UTF-8; often empty

  std::vector<std::string> warnings;  // what was wrong and passed over, one line each, without the file's name
};

// Corruption or InvalidArgument names the key, not the file: missing tokens, scores or types that are not one per
// token, a type out of range, a begin or end that is no token, a merge without its space, a template that is not UTF-8.
Result<GgufVocabulary> ReadGgufVocabulary(const GgufFile& file);

}  // namespace spanwise

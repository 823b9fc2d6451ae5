// How GGUF files name their pre-tokenizers.
#pragma once

#include <string_view>

#include "spanwise/status.h"
#include "tokenizer/pretokenizer.h"

namespace spanwise {

struct GgufSplits {
  PreTokenizer pre_tokenizer;
  bool ignore_merges = false;  // a word that is a token is not merged
  bool begins = false;         // a prompt begins with the begin token where the file does not say
};

// The splitting steps of tokenizer.ggml.pre = `name` (empty: a file from before there were names). Unimplemented names
// one that is not known.
Result<GgufSplits> SplitsOfGguf(std::string_view name);

}  // namespace spanwise

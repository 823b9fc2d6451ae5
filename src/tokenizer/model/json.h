// The "model" of tokenizer.json.
#pragma once

#include "base/json.h"
#include "spanwise/status.h"
#include "tokenizer/definition.h"
#include "tokenizer/pipeline.h"

namespace spanwise {

Result<int32_t> ReadTokenId(const json::value& value);

struct ModelTraits {
  bool reads_bytes = false;         // wants the text's bytes, not their characters of the byte-level alphabet
  bool cuts_before_spaces = false;  // gives the same tokens when the text is cut before runs of U+2581
};

// Fills tokens and model of `out`, whose added tokens and token_bytes are read already, and adds what they are to
// `digest`. `bytes_may_stay`: the pre-tokenizer ends in ByteLevel, which can be left to the model.
Result<ModelTraits> ReadModel(const json::object& model, bool bytes_may_stay, PipelineTokenizer::Definition* out,
                              DefinitionDigest* digest);

}  // namespace spanwise

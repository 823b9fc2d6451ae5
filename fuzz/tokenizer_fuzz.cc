// tokenizer.json, or a GGUF vocabulary as JSON, and after a NUL a text: whatever is accepted encodes within bounds,
// covers the text in order, and decodes the same at once and piece by piece, as ids in any order do.
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/json.h"
#include "base/str.h"
#include "gguf_vocabulary_json.h"
#include "tokenizer/tokenizer.h"

namespace {

// Decoded at once, piece by piece and token by token.
void CheckDecoding(const spanwise::Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  SW_CHECK(spanwise::IsValidUtf8(tokenizer.Decode(ids, true)));
  spanwise::StreamDecoder stream(tokenizer);
  std::string streamed;
  for (const int32_t id : ids) {
    const std::string piece = stream.Push(id);
    SW_CHECK(spanwise::IsValidUtf8(piece));
    streamed += piece;
    if (tokenizer.IsSpecial(id)) SW_CHECK(tokenizer.TokenBytes(id).empty());
    (void)tokenizer.TokenBytes(id, true);
  }
  SW_CHECK(streamed + stream.Finish() == tokenizer.Decode(ids));
  SW_CHECK(stream.Finish().empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t cut = input.find('\0');
  const std::string_view text =
      cut == std::string_view::npos ? "It's 12 o'clock <s> \u00e9\u0301!" : input.substr(cut + 1);
  const std::string_view source = input.substr(0, cut);
  const auto root = spanwise::ParseJson(source, "fuzz");
  const auto tokenizer =
      root.ok() && spanwise::IsGgufVocabularyJson(*root)
          ? spanwise::Tokenizer::FromGguf(spanwise::GgufVocabularyFromJson(root->get_object()), "fuzz")
          : spanwise::Tokenizer::FromJson(source, "fuzz");
  if (!tokenizer.ok()) return 0;
  for (const bool parse_special : {true, false}) {
    const auto tokens = (*tokenizer)->EncodeWithOffsets(text, parse_special);
    const auto ids = (*tokenizer)->Encode(text, parse_special);
    SW_CHECK(tokens.ok() == ids.ok());
    if (!tokens.ok()) continue;
    SW_CHECK(tokens->size() == ids->size());
    uint32_t begin = 0;
    for (size_t i = 0; i < tokens->size(); ++i) {
      const spanwise::EncodedToken& token = (*tokens)[i];
      SW_CHECK(token.id == (*ids)[i] && token.id >= 0 && token.id < (*tokenizer)->vocab_size());
      SW_CHECK(token.begin >= begin && token.begin < token.end && token.end <= text.size());
      begin = token.begin;
    }
    CheckDecoding(**tokenizer, *ids);
  }
  // Ids in an order that no text gives, and some that the vocabulary lacks.
  std::vector<int32_t> ids = {-1, (*tokenizer)->vocab_size()};
  for (size_t i = 0; i < std::min<size_t>(text.size(), 256); ++i)
    ids.push_back(static_cast<uint8_t>(text[i]) * 37 % (*tokenizer)->vocab_size());
  CheckDecoding(**tokenizer, ids);
  for (const auto* around : {&(*tokenizer)->around().before, &(*tokenizer)->around().after})
    for (const int32_t id : *around) SW_CHECK(id >= 0 && id < (*tokenizer)->vocab_size());
  size_t covered = 0;
  for (const auto& piece : (*tokenizer)->SplitAtSpecials(text)) {
    SW_CHECK(!piece.text.empty() && piece.text.data() == text.data() + covered);
    covered += piece.text.size();
  }
  SW_CHECK(covered == text.size());
  return 0;
}

// A text, encoded with each published kind of splitting: decoding gives it back, and special tokens come from parsing
// only.
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/json.h"
#include "base/str.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/tokenizer.h"

namespace {

using spanwise::Tokenizer;

std::shared_ptr<const Tokenizer> Make(std::string_view splits, bool nfc) {
  spanwise::json::object vocab;
  for (int byte = 0; byte < 256; ++byte)
    vocab[spanwise::SymbolsOfBytes(std::string(1, static_cast<char>(byte)))] = byte;
  for (const char* token : {"th", "the", "ab", "abab", "\u00c3\u00a9", "\u0120a", "11"}) vocab[token] = vocab.size();
  return Tokenizer::FromJson(
             spanwise::StrFormat(
                 R"({{"added_tokens":[{{"id":900,"content":"<s>","special":true,"normalized":false}},)"
                 R"({{"id":901,"content":" <x>","lstrip":true,"rstrip":true,"special":true,"normalized":{}}}],"normalizer":{},)"
                 R"("decoder":{{"type":"ByteLevel"}},"pre_tokenizer":{{"type":"Sequence","pretokenizers":[{}]}},"model":{{"vocab":{},)"
                 R"("merges":["t h","th e","a b","ab ab","Ã ©","Ġ a","1 1"]}}}})",
                 nfc, nfc ? R"({"type":"NFC"})" : "null", splits, spanwise::json::serialize(vocab)),
             "fuzz")
      .value();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::vector<std::pair<std::shared_ptr<const Tokenizer>, bool>> tokenizers = {
      {Make(R"({"type":"ByteLevel","add_prefix_space":false})", false), true},
      {Make(R"({"type":"Digits","individual_digits":true},{"type":"ByteLevel","add_prefix_space":true})", false),
       false},
      {Make(
           R"({"type":"Split","behavior":"Isolated","pattern":{"Regex":"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},{"type":"ByteLevel","add_prefix_space":false,"use_regex":false})",
           true),
       false},
  };
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const auto& [tokenizer, lossless] : tokenizers) {
    for (const bool parse_special : {true, false}) {
      const auto ids = tokenizer->Encode(text, parse_special);
      const auto tokens = tokenizer->EncodeWithOffsets(text, parse_special);
      SW_CHECK(ids.ok() == spanwise::IsValidUtf8(text));
      if (!ids.ok()) continue;
      SW_CHECK(tokens.ok() && tokens->size() == ids->size());
      if (lossless && !parse_special) SW_CHECK(tokenizer->Decode(*ids) == text);
      spanwise::StreamDecoder stream(*tokenizer);
      std::string streamed;
      for (size_t i = 0; i < ids->size(); ++i) {
        SW_CHECK(parse_special || !tokenizer->IsSpecial((*ids)[i]));
        SW_CHECK((*tokens)[i].id == (*ids)[i] && (*tokens)[i].begin < (*tokens)[i].end && (*tokens)[i].end <= size);
        streamed += stream.Push((*ids)[i]);
      }
      SW_CHECK(streamed + stream.Finish() == tokenizer->Decode(*ids));
    }
  }
  return 0;
}

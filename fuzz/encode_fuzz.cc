// A text, encoded with each published kind of splitting and of model: decoding gives it back, and special tokens come
// from parsing only.
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

// The other models with the steps that their files have.
std::shared_ptr<const Tokenizer> MakeWith(std::string_view normalizer, std::string_view pre_tokenizer,
                                          std::string_view decoder, std::string_view model) {
  return Tokenizer::FromJson(
             spanwise::StrFormat(
                 R"({{"added_tokens":[{{"id":900,"content":"<s>","special":true,"normalized":false}}],"normalizer":{},)"
                 R"("pre_tokenizer":{},"decoder":{},"model":{}}})",
                 normalizer, pre_tokenizer, decoder, model),
             "fuzz")
      .value();
}

// SentencePiece's BPE and Unigram: any byte is a token, and a space is U+2581.
std::shared_ptr<const Tokenizer> MakeSentencePiece(bool unigram) {
  spanwise::json::object vocab = {{"<unk>", 0}};
  spanwise::json::array list = {{"<unk>", 0}};
  for (const char* token : {"a", "b", "t", "h", "e", "\u2581", "th", "the", "\u2581the", "ab", "\u00e9"}) {
    vocab[token] = vocab.size();
    list.push_back({token, -static_cast<double>(list.size() % 5)});
  }
  for (int byte = 0; byte < 256; ++byte) {
    const std::string token = spanwise::TokenOfByte(static_cast<uint8_t>(byte));
    vocab[token] = vocab.size();
    list.push_back({token, -9.0});
  }
  const std::string model =
      unigram
          ? spanwise::StrFormat(R"({{"type":"Unigram","unk_id":0,"byte_fallback":true,"vocab":{}}})",
                                spanwise::json::serialize(list))
          : spanwise::StrFormat(R"({{"type":"BPE","unk_token":"<unk>","fuse_unk":true,"byte_fallback":true,"vocab":{},)"
                                R"("merges":["t h","th e","\u2581 the","a b"]}})",
                                spanwise::json::serialize(vocab));
  return MakeWith(R"({"type":"Replace","pattern":{"String":" "},"content":"\u2581"})",
                  unigram ? R"({"type":"Metaspace","replacement":"\u2581","prepend_scheme":"first"})" : "null",
                  R"({"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"\u2581"},"content":" "},)"
                  R"({"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]})",
                  model);
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
      {MakeSentencePiece(false), false},
      {MakeSentencePiece(true), false},
      {MakeWith(
           R"({"type":"BertNormalizer"})", R"({"type":"BertPreTokenizer"})", R"({"type":"WordPiece","prefix":"##"})",
           R"({"type":"WordPiece","unk_token":"?","vocab":{"?":0,"the":1,"##n":2,"a":3,"##b":4,".":5,"'":6,"e":7}})"),
       false},
      {MakeWith(R"({"type":"NFKD"})", R"({"type":"Whitespace"})", "null",
                R"({"type":"WordLevel","unk_token":"?","vocab":{"?":0,"the":1,"a":2}})"),
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
      std::string streamed, bytes;
      uint32_t begin = 0;
      for (size_t i = 0; i < ids->size(); ++i) {
        SW_CHECK(parse_special || !tokenizer->IsSpecial((*ids)[i]));
        SW_CHECK((*tokens)[i].id == (*ids)[i] && (*tokens)[i].begin < (*tokens)[i].end && (*tokens)[i].end <= size);
        SW_CHECK((*tokens)[i].begin >= begin);
        begin = (*tokens)[i].begin;
        bytes += tokenizer->TokenBytes((*ids)[i]);
        streamed += stream.Push((*ids)[i]);
      }
      SW_CHECK(streamed + stream.Finish() == tokenizer->Decode(*ids));
      if (lossless && !parse_special) SW_CHECK(bytes == text);
    }
  }
  return 0;
}

// Text to token ids and back, as a Hugging Face tokenizer.json or a GGUF file's vocabulary defines it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "spanwise/status.h"

namespace spanwise {

struct GgufVocabulary;

struct EncodedToken {
  int32_t id = 0;
  uint32_t begin = 0, end = 0;  // bytes of the input this token covers; adjacent tokens may share a character's bytes
};

// The tokens that a file says belong before and after a single text.
struct TokensAround {
  std::vector<int32_t> before, after;
};

// Text as tokens come; see StreamDecoder. Thread-compatible.
class DecoderStream {
 public:
  virtual ~DecoderStream() = default;
  virtual std::string Push(int32_t id, bool keep_special) = 0;
  virtual std::string Finish() = 0;  // at most once
};

// Immutable after loading; thread-safe.
class Tokenizer {
 public:
  // `tokenizer_json` is the file's text. Unimplemented names a component this engine does not do
  // (docs/formats/tokenizer.md lists what it does); InvalidArgument/Corruption name what is wrong. `where` begins every
  // message.
  static Result<std::shared_ptr<const Tokenizer>> FromJson(std::string_view tokenizer_json, std::string_view where);
  // The same from a GGUF file's metadata. Unimplemented names a kind of model or pre-tokenizer that is not done.
  static Result<std::shared_ptr<const Tokenizer>> FromGguf(const GgufVocabulary& vocabulary, std::string_view where);
  virtual ~Tokenizer() = default;

  // With parse_special, special and other added tokens that occur literally in the text become their ids; without it
  // they are plain text, as text from users and documents must be. Invalid UTF-8 is InvalidArgument naming the byte,
  // and so is a character that the vocabulary has no token for. No BOS or other template token is ever added here.
  virtual Result<std::vector<int32_t>> Encode(std::string_view text, bool parse_special) const = 0;
  virtual Result<std::vector<EncodedToken>> EncodeWithOffsets(std::string_view text, bool parse_special) const = 0;

  // The bytes of one token (it may be a part of a character) as it stands between others; empty for a special token
  // unless `keep_special`, and for ids that the vocabulary does not have.
  virtual std::string TokenBytes(int32_t id, bool keep_special = false) const = 0;
  // The text of tokens that begin a text: some decoders drop the space that encoding puts in front.
  virtual std::string Decode(const std::vector<int32_t>& ids, bool keep_special = false) const = 0;

  virtual int vocab_size() const = 0;                                     // largest id + 1
  virtual std::optional<int32_t> IdOf(std::string_view token) const = 0;  // special and added tokens by content
  virtual bool IsSpecial(int32_t id) const = 0;
  // Splits text at literal special tokens: alternating pieces in order. Used to cut a rendered template. Text that is
  // not UTF-8 is one plain piece, which Encode refuses.
  struct Piece {
    std::string_view text;
    std::optional<int32_t> special;  // set: `text` is this token's content
  };
  virtual std::vector<Piece> SplitAtSpecials(std::string_view text) const = 0;

  // As the tokenizer's own file has them; Encode never adds these.
  virtual const TokensAround& around() const = 0;

  // SHA-256 over all that decides which ids a text gets: part of every SpanKey.
  virtual const std::string& digest() const = 0;

 private:
  friend class StreamDecoder;
  virtual std::unique_ptr<DecoderStream> StartDecoding() const = 0;
};

// The text of streamed tokens, released as soon as it is certain: in whole characters, and all of it together the same
// as Decode gives for all tokens at once. The tokenizer must outlive it. Thread-compatible; movable.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer);
  std::string Push(int32_t id);  // the text that became certain, possibly empty
  std::string Finish();          // what is left, invalid bytes as U+FFFD; later calls give nothing

 private:
  std::unique_ptr<DecoderStream> stream_;
};

}  // namespace spanwise

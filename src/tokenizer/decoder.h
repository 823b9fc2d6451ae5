// Turns tokens back into text, one after another: the decoder of tokenizer.json.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "spanwise/status.h"
#include "tokenizer/regex.h"

namespace spanwise {

// One step of a decoder. Immutable, thread-safe.
class DecoderStep {
 public:
  // Where a step puts what it is done with. After a step that joins all tokens, each Push is a part of the one token
  // that is left.
  class Run {
   public:
    virtual ~Run() = default;
    virtual void Push(std::string token) = 0;
    virtual void Finish() = 0;  // no more tokens; at most once
  };

  virtual ~DecoderStep() = default;
  // A pass that puts its results to `next`, which must outlive it. `joined`: what comes are parts of one token.
  virtual std::unique_ptr<Run> Start(Run* next, bool joined) const = 0;
  virtual bool joins() const { return false; }        // whether one token comes out
  virtual bool reads_bytes() const { return false; }  // whether it turns "<0xE2>" into a byte
};

// Steps in order. Immutable, thread-safe.
class Decoder {
 public:
  // The steps' text as it grows. Thread-compatible; movable.
  class Run {
   public:
    explicit Run(const Decoder& decoder);
    ~Run();
    Run(Run&&) noexcept;
    std::string Push(std::string token);  // the text that became certain: whole characters, possibly none
    std::string Finish();                 // the rest

   private:
    class Output;
    std::unique_ptr<Output> output_;
    std::vector<std::unique_ptr<DecoderStep::Run>> runs_;  // the first step is the last element
    DecoderStep::Run* first_;
  };

  Decoder() = default;  // the tokens themselves, with nothing between
  explicit Decoder(std::vector<std::shared_ptr<const DecoderStep>> steps) : steps_(std::move(steps)) {}

  // `definition` is the value of "decoder"; null puts spaces between tokens. Where `bytes_given` is set to true, the
  // first step is ByteLevel, and it wants tokens as bytes, not written in the byte-level alphabet. Unimplemented names
  // a type that is not done.
  static Result<Decoder> FromJson(const json::value& definition, bool* bytes_given);

  bool reads_bytes() const;

 private:
  std::vector<std::shared_ptr<const DecoderStep>> steps_;
};

// One file or paragraph for each of these in decoder/.
std::shared_ptr<const DecoderStep> MakeByteLevelDecoder(bool bytes_given);
std::shared_ptr<const DecoderStep> MakeByteFallbackDecoder();
std::shared_ptr<const DecoderStep> MakeMetaspaceDecoder(std::string replacement, bool strips_first);
std::shared_ptr<const DecoderStep> MakeWordPieceDecoder(std::string prefix, bool cleanup);
std::shared_ptr<const DecoderStep> MakeSuffixDecoder(std::string suffix);  // BPEDecoder
std::shared_ptr<const DecoderStep> MakeReplaceTextDecoder(std::string text, std::string with);
std::shared_ptr<const DecoderStep> MakeReplaceRegexDecoder(std::shared_ptr<const Regex> regex, std::string with);
std::shared_ptr<const DecoderStep> MakeStripDecoder(std::string content, size_t n_left, size_t n_right);
std::shared_ptr<const DecoderStep> MakeFuseDecoder();
std::shared_ptr<const DecoderStep> MakeSpacesBetween();

}  // namespace spanwise

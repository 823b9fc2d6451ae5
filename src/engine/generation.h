// One request from logits to text: sampling, stop conditions, log-probabilities, streaming.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "decode/copier.h"
#include "decode/sampler.h"
#include "decode/stop.h"
#include "spanwise/engine.h"
#include "tokenizer/tokenizer.h"

namespace spanwise {

// Feed it logits; it says which token to feed the model next, until finished. Thread-compatible.
class Generation {
 public:
  // What Submit has already checked.
  struct Setup {
    SamplingParams sampling;
    std::vector<int32_t> prompt = {};  // for the repetition penalty
    std::vector<int32_t> eos_ids;
    std::vector<int32_t> forced_tokens = {};  // chosen in this order, max_tokens of them; empty: chosen by the sampler
    uint32_t stream = 0;  // which of the request's choices this is: each draws its own noise from one seed
    int max_tokens = 0;   // as far as the context reaches
    // The text is a stretch of one of these; null: any text.
    std::shared_ptr<const std::vector<decode::CopySource>> copy_of = nullptr;
  };
  static Result<Generation> Create(const Tokenizer& tokenizer, int vocab_size, Setup setup,
                                   const RequestObserver& observer);

  // Reports a token that was given, not generated (an echoed prompt). `logits` are those that predicted it, empty for
  // the first.
  Status Echo(int32_t token, std::span<const float> logits);

  // Chooses the next token. nullopt: the answer is finished.
  Result<std::optional<int32_t>> Next(std::span<const float> logits);

  // Releases held text and moves what was produced into the answer.
  void Finish(Answer* answer);

  int n_generated() const { return n_generated_; }
  // The last token where it was part of the text but never given out to be fed.
  std::optional<int32_t> unread() const { return unread_; }

 private:
  Generation(const Tokenizer& tokenizer, Setup setup, decode::Sampler sampler, const RequestObserver& observer);
  Result<decode::SampledToken> Choose(std::span<const float> logits);
  bool Ends(int32_t token) const;
  TokenReport Report(const decode::SampledToken& token) const;
  void Emit(const std::string& text, std::optional<TokenReport> report);

  const Tokenizer* tokenizer_;
  Setup setup_;
  decode::Sampler sampler_;
  StreamDecoder decoder_;
  decode::StopMatcher stop_;
  std::optional<decode::Copier> copier_;
  const RequestObserver* observer_;
  std::string text_;
  std::vector<TokenReport> reports_;
  size_t n_reported_ = 0;  // reports already streamed
  int n_generated_ = 0;
  std::optional<int32_t> unread_;
  FinishReason reason_ = FinishReason::kLength;
};

}  // namespace spanwise

// From a row of logits to the next token. The chain, its order and the noise are documented in docs/sampling.md.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "decode/noise.h"
#include "spanwise/sampling.h"
#include "spanwise/status.h"

namespace spanwise::decode {

struct TokenLogprob {
  int32_t id = 0;
  float logprob = 0.0f;  // natural logarithm, of the raw logits' softmax: before bias, penalties and truncation
};

struct SampledToken {
  int32_t id = 0;
  std::optional<float> logprob;            // with SamplingParams::logprobs
  std::vector<TokenLogprob> alternatives;  // the most probable tokens, best first, ties by lower id
};

// InvalidArgument naming the first field that is out of range, its value, and the range.
Status ValidateSampling(const SamplingParams& params, int vocab_size);

// The log-probability of `token` and of the n_alternatives most probable tokens under softmax(logits), in double with a
// fixed order of summation: the same bits for the same logits on every machine. Internal for a logit that is not
// finite. REQUIRES: 0 <= token < logits.size(). Thread-safe.
Result<SampledToken> LogprobsOf(std::span<const float> logits, int32_t token, int n_alternatives);

// The sampler of one sequence. Thread-compatible; copyable.
class Sampler {
 public:
  struct Sequence {
    int vocab_size = 0;
    std::vector<int32_t> eos_ids = {};     // banned before min_tokens unless ignore_eos
    std::span<const int32_t> prompt = {};  // counted for the repetition penalty; not kept
    uint32_t stream = 0;                   // which of the request's choices this is
  };

  // ValidateSampling's error, or a sampler. A seed that is absent is drawn from the operating system.
  static Result<Sampler> Create(const SamplingParams& params, const Sequence& sequence);

  // Chooses the token at output position out_pos (0: the first after the prompt), given the tokens accepted so far.
  // logits: one finite float for each token of the vocabulary; anything else is Internal. Changes nothing but scratch
  // memory: the same arguments give the same token. With `allowed`, ascending, it is one of those; log-probabilities
  // stay those of the whole vocabulary.
  Result<SampledToken> Sample(std::span<const float> logits, int out_pos, std::span<const int32_t> allowed = {});

  // Counts `token` as output. Rewind drops all but the first n_accepted.
  void Accept(int32_t token);
  void Rewind(size_t n_accepted);

  uint64_t seed() const { return seed_; }

 private:
  struct Counts {
    bool in_prompt = false;
    int in_output = 0;
  };
  struct Candidate {
    double weight;  // e^((logit - best) / temperature): 1 for the best
    int32_t id;
  };

  Sampler(const SamplingParams& params, const Sequence& sequence, uint64_t seed);
  // Into edited_; false: nothing to change.
  bool EditLogits(std::span<const float> logits, int out_pos, std::span<const int32_t> allowed);
  int32_t Race(std::span<const float> scores, float best, uint32_t out_pos);
  int32_t RaceAll(uint32_t out_pos) const;
  void KeepTopP(double total);

  SamplingParams params_;
  int vocab_size_;
  std::vector<int32_t> eos_ids_;
  uint64_t seed_;
  Noise noise_;
  bool penalised_;
  std::unordered_map<int32_t, Counts> counts_;
  std::vector<int32_t> accepted_;
  std::vector<float> edited_;
  std::vector<double> weights_;
  std::vector<Candidate> candidates_;
};

}  // namespace spanwise::decode

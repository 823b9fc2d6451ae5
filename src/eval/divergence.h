// How far one reading of a text is from another, token by token, from whole next-token distributions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "spanwise/engine.h"
#include "spanwise/status.h"

namespace spanwise::eval {

// What a model said before each of n scored tokens.
struct Reading {
  int vocab_size = 0;
  std::vector<int32_t> tokens;  // [n]
  std::vector<float> logits;    // [n, vocab_size]
  Answer answer;                // of the request that was read

  std::span<const float> row(size_t i) const {
    const auto width = static_cast<size_t>(vocab_size);
    return std::span(logits).subspan(i * width, width);
  }
};

// Runs a request and keeps the logits of every token that it scores: of its forced tokens, and of its prompt when it is
// echoed.
Result<Reading> Read(Engine& engine, Request request);

// One token under two distributions. Natural logarithms, in double, sums in the order of the vocabulary.
struct TokenDivergence {
  double kl = 0;                              // KL(reference || other)
  bool same_top = true;                       // both have the same most probable token, ties to the lowest id
  double reference_logprob = 0, logprob = 0;  // of the token itself
};

// The logarithm of softmax(logits) at `token`. Internal: a logit is not finite. REQUIRES: token is one of them.
Result<double> LogProb(std::span<const float> logits, int32_t token);

// Internal: a logit is not finite. REQUIRES: as many logits on both sides, and token is one of them.
Result<TokenDivergence> Compare(std::span<const float> reference, std::span<const float> other, int32_t token);

// One for each token of two readings. InvalidArgument: they are not readings of the same tokens.
Result<std::vector<TokenDivergence>> CompareReadings(const Reading& reference, const Reading& other);

// Over n tokens.
struct Divergence {
  size_t n = 0;
  double kl = 0, kl_p99 = 0;          // mean, and the value that 99 % do not exceed (nearest rank)
  double agreement = 0;               // share of tokens with the same most probable one
  double reference_nll = 0, nll = 0;  // mean negative log-likelihood of the tokens

  double reference_perplexity() const;
  double perplexity() const;
};

Divergence Summarise(std::span<const TokenDivergence> tokens);

}  // namespace spanwise::eval

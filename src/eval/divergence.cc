#include "eval/divergence.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/str.h"

namespace spanwise::eval {
namespace {

// log(sum(e^x)) split into the largest x, which goes first so that nothing overflows, and the rest.
struct LogTotal {
  float best;
  double rest;

  double LogOf(float logit) const { return (static_cast<double>(logit) - best) - rest; }
};

Result<LogTotal> TotalOf(std::span<const float> logits) {
  for (size_t i = 0; i < logits.size(); ++i)
    if (!std::isfinite(logits[i])) return Internal(StrFormat("the logit of token {} is {}", i, logits[i]));
  const float best = *std::ranges::max_element(logits);
  double total = 0;
  for (const float x : logits) total += std::exp(static_cast<double>(x) - best);
  return LogTotal{best, std::log(total)};
}

}  // namespace

Result<Reading> Read(Engine& engine, Request request) {
  Reading reading;
  reading.vocab_size = engine.model().vocab_size;
  RequestObserver observer;
  observer.on_logits = [&](int32_t token, std::span<const float> logits) {
    reading.tokens.push_back(token);
    reading.logits.insert(reading.logits.end(), logits.begin(), logits.end());
  };
  SW_ASSIGN_OR_RETURN(reading.answer, engine.Run(std::move(request), std::move(observer)));
  return reading;
}

Result<double> LogProb(std::span<const float> logits, int32_t token) {
  SW_CHECK(token >= 0 && static_cast<size_t>(token) < logits.size());
  SW_ASSIGN_OR_RETURN(const LogTotal total, TotalOf(logits));
  return total.LogOf(logits[static_cast<size_t>(token)]);
}

Result<TokenDivergence> Compare(std::span<const float> reference, std::span<const float> other, int32_t token) {
  SW_CHECK(reference.size() == other.size() && token >= 0 && static_cast<size_t>(token) < other.size());
  SW_ASSIGN_OR_RETURN(const LogTotal p, TotalOf(reference));
  SW_ASSIGN_OR_RETURN(const LogTotal q, TotalOf(other));
  double kl = 0;
  for (size_t i = 0; i < reference.size(); ++i) {
    const double log_p = p.LogOf(reference[i]);
    kl += std::exp(log_p) * (log_p - q.LogOf(other[i]));
  }
  const auto top = [](std::span<const float> logits) { return std::ranges::max_element(logits) - logits.begin(); };
  const auto at = static_cast<size_t>(token);
  return TokenDivergence{.kl = std::max(kl, 0.0),  // below only by rounding
                         .same_top = top(reference) == top(other),
                         .reference_logprob = p.LogOf(reference[at]),
                         .logprob = q.LogOf(other[at])};
}

Result<std::vector<TokenDivergence>> CompareReadings(const Reading& reference, const Reading& other) {
  if (reference.vocab_size != other.vocab_size)
    return InvalidArgument(StrFormat("the vocabularies of the two models differ: {} and {} tokens",
                                     reference.vocab_size, other.vocab_size));
  if (reference.tokens != other.tokens) return InvalidArgument("the two models cut the text into different tokens");
  std::vector<TokenDivergence> out;
  out.reserve(other.tokens.size());
  for (size_t i = 0; i < other.tokens.size(); ++i) {
    SW_ASSIGN_OR_RETURN(const TokenDivergence d, Compare(reference.row(i), other.row(i), other.tokens[i]));
    out.push_back(d);
  }
  return out;
}

double Divergence::reference_perplexity() const { return std::exp(reference_nll); }
double Divergence::perplexity() const { return std::exp(nll); }

Divergence Summarise(std::span<const TokenDivergence> tokens) {
  Divergence d;
  d.n = tokens.size();
  if (tokens.empty()) return d;
  std::vector<double> kls;
  for (const TokenDivergence& t : tokens) {
    kls.push_back(t.kl);
    d.kl += t.kl;
    d.agreement += t.same_top;
    d.reference_nll -= t.reference_logprob;
    d.nll -= t.logprob;
  }
  for (double* sum : {&d.kl, &d.agreement, &d.reference_nll, &d.nll}) *sum /= static_cast<double>(d.n);
  std::ranges::sort(kls);
  d.kl_p99 = kls[(d.n * 99 + 99) / 100 - 1];
  return d;
}

}  // namespace spanwise::eval

#include "decode/sampler.h"

#include <sys/random.h>

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "base/str.h"
#include "decode/fixed_math.h"

namespace spanwise {

SamplingParams WithDefaults(SamplingParams params, const SamplingDefaults& defaults) {
  params.temperature = defaults.temperature.value_or(params.temperature);
  params.top_k = defaults.top_k.value_or(params.top_k);
  params.top_p = defaults.top_p.value_or(params.top_p);
  params.min_p = defaults.min_p.value_or(params.min_p);
  params.repetition_penalty = defaults.repetition_penalty.value_or(params.repetition_penalty);
  return params;
}

}  // namespace spanwise

namespace spanwise::decode {

namespace {

constexpr size_t kMaxStops = 64, kMaxStopBytes = 4096;
constexpr float kBanned = -std::numeric_limits<float>::infinity();
constexpr size_t kLanes = 8;  // the fixed association of every sum over the vocabulary; wide enough for any vector unit

template <typename T>
Status OutOfRange(std::string_view field, T value, std::string_view expected) {
  return InvalidArgument(StrFormat("{} is {}, expected {}", field, value, expected));
}

// Written so that NaN fails.
bool Within(float value, float low, float high) { return value >= low && value <= high; }

bool IsFinite(float x) { return (std::bit_cast<uint32_t>(x) & 0x7F800000u) != 0x7F800000u; }

float Max(std::span<const float> values) {
  float lanes[kLanes];
  std::fill_n(lanes, kLanes, -std::numeric_limits<float>::infinity());
  const size_t whole = values.size() / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes)
    for (size_t lane = 0; lane < kLanes; ++lane)
      lanes[lane] = values[i + lane] > lanes[lane] ? values[i + lane] : lanes[lane];
  for (size_t i = whole; i < values.size(); ++i) lanes[0] = std::max(lanes[0], values[i]);
  return *std::max_element(lanes, lanes + kLanes);
}

// Internal naming the first logit that is not finite.
Status CheckFinite(std::span<const float> logits) {
  uint32_t bad = 0;
  for (const float x : logits) bad |= IsFinite(x) ? 0u : 1u;
  if (!bad) return Status::Ok();
  const size_t at = static_cast<size_t>(std::find_if_not(logits.begin(), logits.end(), IsFinite) - logits.begin());
  return Internal(StrFormat("the logit of token {} is {}, expected a finite number", at, logits[at]));
}

// e^((logits[i] - best) / temperature) into *out where it is not null; returns their sum.
double Weigh(std::span<const float> logits, float best, double temperature, std::vector<double>* out) {
  constexpr size_t kBlock = 512;
  static_assert(kBlock % kLanes == 0);
  double block[kBlock], lanes[kLanes] = {};
  if (out) out->resize(logits.size());
  for (size_t begin = 0; begin < logits.size(); begin += kBlock) {
    const size_t n = std::min(kBlock, logits.size() - begin);
    const float* const in = logits.data() + begin;
    for (size_t i = 0; i < n; ++i) block[i] = FixedExp((double{in[i]} - double{best}) / temperature);
    if (out) std::copy_n(block, n, out->begin() + static_cast<ptrdiff_t>(begin));
    std::fill(block + n, block + (n + kLanes - 1) / kLanes * kLanes, 0.0);
    for (size_t i = 0; i < n; i += kLanes)
      for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += block[i + lane];
  }
  double total = 0.0;
  for (const double lane : lanes) total += lane;
  return total;
}

// The ids of the n largest values, best first, ties by lower id.
std::vector<int32_t> Largest(std::span<const float> values, size_t n) {
  const auto better = [&](int32_t a, int32_t b) { return values[a] > values[b] || (values[a] == values[b] && a < b); };
  std::vector<int32_t> heap;  // the worst of the kept in front
  n = std::min(n, values.size());
  if (n == 0) return heap;
  heap.reserve(n);
  for (int32_t id = 0; id < static_cast<int32_t>(values.size()); ++id) {
    if (heap.size() == n) {
      if (!(values[id] > values[heap.front()])) continue;
      std::pop_heap(heap.begin(), heap.end(), better);
      heap.pop_back();
    }
    heap.push_back(id);
    std::push_heap(heap.begin(), heap.end(), better);
  }
  std::sort_heap(heap.begin(), heap.end(), better);
  return heap;
}

}  // namespace

Status ValidateSampling(const SamplingParams& p, int vocab_size) {
  if (p.max_tokens < 0) return OutOfRange("max_tokens", p.max_tokens, "0 or more");
  if (p.min_tokens < 0 || p.min_tokens > p.max_tokens)
    return OutOfRange("min_tokens", p.min_tokens, StrFormat("0 to max_tokens, which is {}", p.max_tokens));
  if (!Within(p.temperature, 0.0f, 100.0f)) return OutOfRange("temperature", p.temperature, "0 to 100");
  if (p.top_k < 0) return OutOfRange("top_k", p.top_k, "0 (off) or more");
  if (!Within(p.top_p, 0.0f, 1.0f)) return OutOfRange("top_p", p.top_p, "0 to 1");
  if (!Within(p.min_p, 0.0f, 1.0f)) return OutOfRange("min_p", p.min_p, "0 to 1");
  if (!Within(p.repetition_penalty, 0.01f, 100.0f))
    return OutOfRange("repetition_penalty", p.repetition_penalty, "0.01 to 100");
  if (!Within(p.presence_penalty, -2.0f, 2.0f)) return OutOfRange("presence_penalty", p.presence_penalty, "-2 to 2");
  if (!Within(p.frequency_penalty, -2.0f, 2.0f)) return OutOfRange("frequency_penalty", p.frequency_penalty, "-2 to 2");
  for (const auto& [id, bias] : p.logit_bias) {
    if (id < 0 || id >= vocab_size)
      return OutOfRange("a token of logit_bias", id, StrFormat("0 to {}, the vocabulary", vocab_size - 1));
    if (!Within(bias, -100.0f, 100.0f)) return OutOfRange(StrFormat("logit_bias of token {}", id), bias, "-100 to 100");
  }
  if (p.stop.size() > kMaxStops)
    return OutOfRange("the number of stop strings", p.stop.size(), StrFormat("at most {}", kMaxStops));
  for (const std::string& stop : p.stop) {
    if (stop.empty() || stop.size() > kMaxStopBytes)
      return OutOfRange("the length of a stop string", stop.size(), StrFormat("1 to {} bytes", kMaxStopBytes));
    if (!IsValidUtf8(stop)) return InvalidArgument(StrFormat("the stop string {} is not valid UTF-8", Quoted(stop)));
  }
  if (p.logprobs && (*p.logprobs < 0 || *p.logprobs > vocab_size))
    return OutOfRange("logprobs", *p.logprobs, StrFormat("0 to {}, the vocabulary's size", vocab_size));
  return Status::Ok();
}

Result<SampledToken> LogprobsOf(std::span<const float> logits, int32_t token, int n_alternatives) {
  SW_CHECK(token >= 0 && static_cast<size_t>(token) < logits.size());
  SW_RETURN_IF_ERROR(CheckFinite(logits));
  const float best = Max(logits);
  const double log_total = FixedLog(Weigh(logits, best, 1.0, nullptr));
  const auto logprob = [&](int32_t id) {
    return static_cast<float>((static_cast<double>(logits[id]) - best) - log_total);
  };
  SampledToken out;
  out.id = token;
  out.logprob = logprob(token);
  for (const int32_t id : Largest(logits, static_cast<size_t>(std::max(n_alternatives, 0))))
    out.alternatives.push_back({id, logprob(id)});
  return out;
}

Result<Sampler> Sampler::Create(const SamplingParams& params, const Sequence& sequence) {
  if (sequence.vocab_size <= 0) return OutOfRange("vocab_size", sequence.vocab_size, "1 or more");
  SW_RETURN_IF_ERROR(ValidateSampling(params, sequence.vocab_size));
  for (const int32_t id : sequence.prompt)
    if (id < 0 || id >= sequence.vocab_size)
      return OutOfRange("a token of the prompt", id, StrFormat("0 to {}, the vocabulary", sequence.vocab_size - 1));
  uint64_t seed = 0;
  if (params.seed) {
    seed = *params.seed;
  } else if (getentropy(&seed, sizeof seed) != 0) {
    return Unavailable("the operating system gave no random seed");
  }
  return Sampler(params, sequence, seed);
}

Sampler::Sampler(const SamplingParams& params, const Sequence& sequence, uint64_t seed)
    : params_(params),
      vocab_size_(sequence.vocab_size),
      eos_ids_(sequence.eos_ids),
      seed_(seed),
      noise_(seed, sequence.stream),
      penalised_(params.repetition_penalty != 1.0f || params.frequency_penalty != 0.0f ||
                 params.presence_penalty != 0.0f) {
  if (params_.repetition_penalty != 1.0f)
    for (const int32_t id : sequence.prompt) counts_[id].in_prompt = true;
}

void Sampler::Accept(int32_t token) {
  SW_CHECK(token >= 0 && token < vocab_size_);
  accepted_.push_back(token);
  if (penalised_) ++counts_[token].in_output;
}

void Sampler::Rewind(size_t n_accepted) {
  SW_CHECK(n_accepted <= accepted_.size());
  for (; accepted_.size() > n_accepted; accepted_.pop_back())
    if (penalised_) --counts_[accepted_.back()].in_output;
}

bool Sampler::EditLogits(std::span<const float> logits, int out_pos, std::span<const int32_t> allowed) {
  const bool ban_eos = out_pos < params_.min_tokens && !params_.ignore_eos && !eos_ids_.empty();
  if (params_.logit_bias.empty() && counts_.empty() && !ban_eos && allowed.empty()) return false;
  edited_.assign(logits.begin(), logits.end());
  const auto put = [&](int32_t id, double value) {
    edited_[id] = static_cast<float>(std::clamp(value, -double{FLT_MAX}, double{FLT_MAX}));
  };
  for (const auto& [id, bias] : params_.logit_bias) put(id, double{edited_[id]} + bias);
  for (const auto& [id, count] : counts_) {
    double value = edited_[id];
    if (count.in_prompt || count.in_output > 0)
      value = value > 0.0 ? value / params_.repetition_penalty : value * params_.repetition_penalty;
    if (count.in_output > 0) value -= double{params_.frequency_penalty} * count.in_output + params_.presence_penalty;
    put(id, value);
  }
  if (ban_eos) {
    for (const int32_t id : eos_ids_)
      if (id >= 0 && id < vocab_size_) edited_[id] = kBanned;
  }
  if (!allowed.empty()) {
    int32_t next = 0;
    for (const int32_t id : allowed) {
      SW_CHECK(id >= next && id < vocab_size_);
      for (; next < id; ++next) edited_[next] = kBanned;
      ++next;
    }
    for (; next < vocab_size_; ++next) edited_[next] = kBanned;
  }
  return true;
}

Result<SampledToken> Sampler::Sample(std::span<const float> logits, int out_pos, std::span<const int32_t> allowed) {
  if (logits.size() != static_cast<size_t>(vocab_size_))
    return Internal(StrFormat("there are {} logits for a vocabulary of {}", logits.size(), vocab_size_));
  SW_CHECK(out_pos >= 0);
  SW_RETURN_IF_ERROR(CheckFinite(logits));
  const std::span<const float> scores = EditLogits(logits, out_pos, allowed) ? std::span<const float>(edited_) : logits;
  const float best = Max(scores);
  if (best == kBanned) {
    return InvalidArgument("min_tokens bans the end token, and the vocabulary has no other");
  }
  const int32_t id = params_.temperature == 0.0f
                         ? static_cast<int32_t>(std::find(scores.begin(), scores.end(), best) - scores.begin())
                         : Race(scores, best, static_cast<uint32_t>(out_pos));
  if (params_.logprobs) return LogprobsOf(logits, id, *params_.logprobs);
  SampledToken out;
  out.id = id;
  return out;
}

int32_t Sampler::Race(std::span<const float> scores, float best, uint32_t out_pos) {
  const double temperature = params_.temperature;
  double total = 0.0;
  candidates_.clear();
  if (params_.top_k > 0 && params_.top_k < vocab_size_) {
    for (const int32_t id : Largest(scores, static_cast<size_t>(params_.top_k))) {
      candidates_.push_back({FixedExp((static_cast<double>(scores[id]) - best) / temperature), id});
      total += candidates_.back().weight;
    }
  } else {
    total = Weigh(scores, best, temperature, &weights_);
    if (params_.top_p >= 1.0f && params_.min_p <= 0.0f) return RaceAll(out_pos);
    // Tokens this light hold less than 1 - top_p together, so the top-p prefix ends before them; and what min-p drops
    // may go before top-p looks, because the prefix of the rest is the same. The margin is for rounding.
    const double light = (1.0 - params_.top_p) * total / vocab_size_ * (1.0 - 1e-9);
    const double floor = std::max(light, double{params_.min_p});
    for (int32_t id = 0; id < vocab_size_; ++id)
      if (weights_[id] >= floor) candidates_.push_back({weights_[id], id});
  }
  if (params_.top_p < 1.0f) KeepTopP(total);
  if (params_.min_p > 0.0f) std::erase_if(candidates_, [&](const Candidate& c) { return c.weight < params_.min_p; });

  double winning = 0.0;
  int32_t winner = -1;
  for (const Candidate& c : candidates_) {
    const double speed = c.weight / noise_.Exp1(out_pos, static_cast<uint32_t>(c.id));
    if (speed > winning || (speed == winning && c.id < winner)) {
      winning = speed;
      winner = c.id;
    }
  }
  SW_CHECK(winner >= 0);  // the best token has weight 1 and survives every truncation
  return winner;
}

// Cuts the candidates to the shortest prefix, by weight and then by id, that holds top_p of the total. Sorts only what
// it takes: the boundary is usually within the first few dozen.
void Sampler::KeepTopP(double total) {
  const auto better = [](const Candidate& a, const Candidate& b) {
    return a.weight > b.weight || (a.weight == b.weight && a.id < b.id);
  };
  const double wanted = double{params_.top_p} * total;
  double mass = 0.0;
  for (size_t sorted = 0, step = 64; sorted < candidates_.size(); step *= 4) {
    const size_t end = std::min(sorted + step, candidates_.size());
    const auto begin = candidates_.begin() + static_cast<ptrdiff_t>(sorted);
    const auto cut = candidates_.begin() + static_cast<ptrdiff_t>(end);
    if (end < candidates_.size()) std::nth_element(begin, cut, candidates_.end(), better);
    std::sort(begin, cut, better);
    for (; sorted < end; ++sorted) {
      mass += candidates_[sorted].weight;
      if (mass < wanted) continue;
      candidates_.resize(sorted + 1);
      return;
    }
  }
}

// argmax weights_[i] / E_i over the whole vocabulary.
int32_t Sampler::RaceAll(uint32_t out_pos) const {
  double winning = 0.0;
  int32_t winner = -1;
  for (int32_t id = 0; id < vocab_size_; id += 4) {
    const int32_t n = std::min(4, vocab_size_ - id);
    const double heaviest = *std::max_element(weights_.begin() + id, weights_.begin() + id + n);
    if (heaviest < winning * 0x1p-34) continue;  // no E is below 2^-33
    const std::array<double, 4> u = noise_.Uniforms(out_pos, static_cast<uint32_t>(id) / 4);
    for (int32_t i = 0; i < n; ++i) {
      const double weight = weights_[id + i];
      // E = -ln u >= 1 - u spares nearly every logarithm; the margin covers E's rounding to float.
      if (weight < winning * (1.0 - u[i]) * (1.0 - 1e-6)) continue;
      const double speed = weight / ExponentialOf(u[i]);
      if (speed > winning) {
        winning = speed;
        winner = id + i;
      }
    }
  }
  SW_CHECK(winner >= 0);
  return winner;
}

}  // namespace spanwise::decode

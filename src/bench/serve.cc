#include "bench/serve.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <random>
#include <vector>

#include "bench/prefill.h"
#include "engine/executor.h"
#include "engine/pacer.h"

namespace spanwise::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kWarmUpSteps = 8;

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double Percentile(std::vector<double> values, double fraction) {
  std::ranges::sort(values);
  const auto rank = static_cast<size_t>(std::ceil(fraction * static_cast<double>(values.size())));
  return values[std::clamp<size_t>(rank, 1, values.size()) - 1];
}

// Sequences that decode step by step, and possibly one more whose prompt is read meanwhile, as the engine steps.
class Streams {
 public:
  explicit Streams(const Options& o) : options_(o), executor_(o.weights, o.kv_dtype, kKvBudget, o.threads) {}

  // Reads the contexts of n more.
  Status Add(int n) {
    for (int i = 0; i < n; ++i) {
      SW_ASSIGN_OR_RETURN(Sequence sequence, NewSequence(options_.prompt_tokens));
      Executor::Turn turn{.sequence = &sequence};
      while (!sequence.prompt_is_ready()) {
        const Clock::time_point start = Clock::now();
        const int n_encoded = executor_.Step({&turn, 1}, pacer_.Room(0, kStepTokens));
        SW_RETURN_IF_ERROR(turn.status);
        pacer_.Record(n_encoded, 0, SecondsSince(start));
      }
      sequences_.push_back(std::move(sequence));
    }
    return Status::Ok();
  }

  void Drop() { sequences_.clear(); }

  // A prompt that the next steps read.
  Status Arrive(int n_tokens) {
    SW_ASSIGN_OR_RETURN(arriving_, NewSequence(n_tokens));
    return Status::Ok();
  }
  bool arriving() const { return arriving_.has_value(); }

  // Seconds that one step took, of the first n streams and of what arrives.
  Result<double> Step(size_t n) {
    std::vector<Executor::Turn> turns;
    for (size_t i = 0; i < n; ++i)
      turns.push_back({.sequence = &sequences_[i], .token = ++n_steps_ % options_.weights->config().vocab_size});
    if (arriving_) turns.push_back({.sequence = &*arriving_});
    const int n_decode = static_cast<int>(n);
    const Clock::time_point start = Clock::now();
    const int n_encoded = executor_.Step(turns, arriving_ ? pacer_.Room(n_decode, kStepTokens) : 0);
    const double seconds = SecondsSince(start);
    for (const Executor::Turn& turn : turns) SW_RETURN_IF_ERROR(turn.status);
    pacer_.Record(n_encoded - n_decode, n_decode, seconds);
    if (arriving_ && arriving_->prompt_is_ready()) arriving_.reset();
    return seconds;
  }

 private:
  Result<Sequence> NewSequence(int n_tokens) {
    const auto vocab = static_cast<uint32_t>(options_.weights->config().vocab_size);
    std::minstd_rand random(++n_sequences_);
    std::vector<int32_t> tokens(static_cast<size_t>(n_tokens));
    for (int32_t& t : tokens) t = static_cast<int32_t>(random() % vocab);
    SW_ASSIGN_OR_RETURN(Plan plan, MakePlan(PromptNode::Text(std::move(tokens)), {}, {Sha256("bench"), ""}));
    return executor_.Begin(std::move(plan), false);
  }

  const Options& options_;
  Executor executor_;
  Pacer pacer_;
  std::vector<Sequence> sequences_;
  std::optional<Sequence> arriving_;
  uint32_t n_sequences_ = 0;
  int n_steps_ = 0;
};

json::object Case(const Options& o, const char* measure, int streams) {
  return {{"measure", measure},
          {"shape", o.shape},
          {"dtype", json::string(WeightTypeName(o.weights->main_type()))},
          {"streams", streams},
          {"context", o.prompt_tokens}};
}

Status BenchThroughput(const Options& o, int n_streams, Streams& streams, const Report& report) {
  SW_RETURN_IF_ERROR(streams.Add(n_streams));
  std::vector<double> one, all, ratios;
  for (int repeat = 0; repeat < o.repeats; ++repeat) {
    for (const int n : {1, n_streams}) {
      double seconds = 0;
      for (int i = 0; i < o.decode_tokens; ++i) {
        SW_ASSIGN_OR_RETURN(const double s, streams.Step(static_cast<size_t>(n)));
        seconds += s;
      }
      (n == 1 ? one : all).push_back(n * o.decode_tokens / seconds);
    }
    ratios.push_back(all.back() / one.back());
  }
  streams.Drop();
  report(Summarise("serve", Case(o, "throughput", 1), "tokens/s", one));
  report(Summarise("serve", Case(o, "throughput", n_streams), "tokens/s", all));
  report(Summarise("serve", Case(o, "batching", n_streams), "x", ratios));
  return Status::Ok();
}

Status BenchDisturbance(const Options& o, const ServeOptions& serve, Streams& streams, const Report& report) {
  constexpr double kFractions[] = {0.5, 0.99};
  const auto n = static_cast<size_t>(serve.steady_streams);
  SW_RETURN_IF_ERROR(streams.Add(serve.steady_streams));
  std::vector<double> calm[2], disturbed[2], ratios[2];
  for (int repeat = 0; repeat < o.repeats; ++repeat) {
    std::vector<double> alone, beside;
    for (int i = 0; i < kWarmUpSteps; ++i) SW_RETURN_IF_ERROR(streams.Step(n).status());
    SW_RETURN_IF_ERROR(streams.Arrive(serve.arriving_tokens));
    while (streams.arriving()) {
      SW_ASSIGN_OR_RETURN(const double s, streams.Step(n));
      beside.push_back(1000 * s);
    }
    while (alone.size() < beside.size()) {  // as many, so that the 99th percentiles mean the same
      SW_ASSIGN_OR_RETURN(const double s, streams.Step(n));
      alone.push_back(1000 * s);
    }
    for (int f = 0; f < 2; ++f) {
      calm[f].push_back(Percentile(alone, kFractions[f]));
      disturbed[f].push_back(Percentile(beside, kFractions[f]));
      ratios[f].push_back(disturbed[f].back() / calm[f].back());
    }
  }
  const auto add = [&](const std::string& measure, int arriving, const char* unit, const std::vector<double>& values) {
    json::object what = Case(o, measure.c_str(), serve.steady_streams);
    what["arriving_tokens"] = arriving;
    report(Summarise("serve", std::move(what), unit, values));
  };
  for (int f = 0; f < 2; ++f) {
    const std::string name = f == 0 ? "p50" : "p99";
    add("step_" + name, 0, "ms", calm[f]);
    add("step_" + name, serve.arriving_tokens, "ms", disturbed[f]);
    add("disturbance_" + name, serve.arriving_tokens, "x", ratios[f]);
  }
  return Status::Ok();
}

}  // namespace

Status BenchServe(const Options& o, const ServeOptions& serve, const Report& report) {
  Streams streams(o);
  SW_RETURN_IF_ERROR(BenchThroughput(o, serve.streams, streams, report));
  return BenchDisturbance(o, serve, streams, report);
}

}  // namespace spanwise::bench

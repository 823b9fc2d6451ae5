// A request on its way through the engine.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/executor.h"
#include "engine/generation.h"
#include "prompt/plan.h"
#include "spanwise/engine.h"

namespace spanwise {

using Clock = std::chrono::steady_clock;

inline double MsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

// Everything about a request that is settled before it is queued.
struct Job {
  Plan plan;
  Generation::Setup setup;
  bool echo = false;
  bool use_cache = true;
  bool calibrated = false;  // ComposeReport::calibrated
  std::vector<std::string> labels;
  RequestObserver observer;
  int priority = 0;
  std::string client;
  std::shared_ptr<CancelFlag> cancel;  // not null
  std::function<void(Result<Answer>)> done;
  Clock::time_point submitted = Clock::now();
};

// A job and how far it has come. While it runs, the engine's thread alone uses it.
struct Task {
  explicit Task(Job j) : job(std::move(j)), n_blocks(BlocksFor(job)), n_prompt_tokens(job.plan.n_tokens()) {}

  // Blocks of the prompt and the longest answer, and one more for every run, which may begin with a copy.
  static size_t BlocksFor(const Job& job) {
    size_t n = 1;
    for (const PlannedRun& run : job.plan.runs) n += (run.source ? 2 : 1) * (run.tokens.size() / kKvBlockTokens + 2);
    if (job.plan.repair != nullptr) n += job.plan.runs.back().tokens.size() / kKvBlockTokens + 1;  // to probe
    return n + static_cast<size_t>(job.setup.max_tokens) / kKvBlockTokens;
  }

  Job job;
  const size_t n_blocks;  // KV memory that it may come to need
  const int n_prompt_tokens;
  uint64_t id = 0;  // ascending with arrival
  int rank = 0;     // while it runs: the priority against which others are measured
  int n_suspensions = 0;
  bool taken = false;    // has had a turn before
  bool running = false;  // neither waits nor is suspended

  Answer answer;
  std::optional<Generation> generation;  // once begun
  Sequence sequence;                     // without runs while suspended
  std::optional<int32_t> token;          // to feed next; absent while the prompt is read
  std::optional<int32_t> pending;        // ... or read again, after which this one follows
  size_t n_echoed = 1;
  int n_steps = 0;
  Clock::time_point prefill, decode;
  Clock::time_point progressed;  // when it was taken up or a step last did something for it

  bool begun() const { return generation.has_value(); }
  bool all_logits() const { return job.echo && (job.setup.sampling.logprobs || job.observer.on_logits) && !pending; }
};

}  // namespace spanwise

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
  std::vector<std::string> labels;
  RequestObserver observer;
  std::shared_ptr<CancelFlag> cancel;  // not null
  std::function<void(Result<Answer>)> done;
  Clock::time_point submitted = Clock::now();
};

// A job and how far it has come. Owned by the engine's thread once it has left the queue.
struct Task {
  explicit Task(Job j) : job(std::move(j)), n_blocks(BlocksFor(job)) {}

  // Blocks of the prompt and the longest answer, and one more for every run, which may begin with a copy.
  static size_t BlocksFor(const Job& job) {
    size_t n = 1;
    for (const PlannedRun& run : job.plan.runs) n += run.tokens.size() / kKvBlockTokens + 2;
    return n + static_cast<size_t>(job.setup.max_tokens) / kKvBlockTokens;
  }

  Job job;
  const size_t n_blocks;  // KV memory that it may come to need
  Answer answer;
  std::optional<Generation> generation;  // once begun
  Sequence sequence;
  std::optional<int32_t> token;  // to feed next; absent while the prompt is read
  size_t n_echoed = 1;
  int n_steps = 0;
  Clock::time_point prefill, decode;

  bool all_logits() const { return job.echo && job.setup.sampling.logprobs; }
};

}  // namespace spanwise

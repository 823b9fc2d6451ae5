// Requests that share steps: what that gains, and what a long prompt costs those that are being answered.
#pragma once

#include "bench/speed.h"

namespace spanwise::bench {

struct ServeOptions {
  int streams = 16;        // that decode together, beside one alone
  int steady_streams = 8;  // that decode while a prompt arrives
  int arriving_tokens = 4096;
};

// Rows by case.measure: "throughput" (tokens/s of all streams together; also for one alone) and "batching" (their
// ratio); "step_p50" and "step_p99" (ms of a step over the steady streams, case.arriving_tokens being 0 or that of the
// prompt that is read meanwhile, as the engine paces it) and "disturbance_p50", "disturbance_p99" (their ratios).
Status BenchServe(const Options& options, const ServeOptions& serve, const Report& report);

}  // namespace spanwise::bench

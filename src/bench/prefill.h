// What measurements of whole prompts share.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "engine/executor.h"

namespace spanwise::bench {

inline constexpr size_t kKvBudget = size_t{8} << 30;
inline constexpr int kStepTokens = 512;

// That `body` takes.
double Seconds(const std::function<void()>& body);

// The same for equal seeds.
std::vector<int32_t> RandomTokens(int n, uint32_t seed, int vocab);

// Steps until the logits of the prompt's end are there.
Status Prefill(Executor& executor, Sequence& sequence);

}  // namespace spanwise::bench

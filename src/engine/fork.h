// Requests whose context forks: what their branches are, and what follows them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "engine/generation.h"
#include "prompt/plan.h"
#include "spanwise/engine.h"
#include "spanwise/status.h"
#include "tokenizer/tokenizer.h"

namespace spanwise {

struct Fork {
  struct Branch {
    std::vector<int32_t> seed;
    Generation::Setup setup;
  };
  PlanKeys keys;
  int context_tokens = 0;  // positions that the model has
  std::vector<Branch> branches;
  std::optional<std::vector<int32_t>> join;
};

// A seed for a request that gives none, where several generations are to share it.
uint64_t DrawSeed();

// What all branches and the join may come to hold at once.
struct ForkLimits {
  int context_tokens = 0;
  size_t n_blocks = 0;
};

// Settles the branches of a request behind its composed context, and shortens `answer`, what is generated behind the
// join, to the room that is left whatever they become. InvalidArgument: the request is wrong, or has no room.
Result<Fork> PrepareFork(const Request& request, const Plan& context, const PlanKeys& keys, const Tokenizer& tokenizer,
                         const ForkLimits& limits, Generation::Setup* answer);

}  // namespace spanwise

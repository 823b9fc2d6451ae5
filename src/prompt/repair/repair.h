// Which tokens of kept documents are recomputed when they are placed behind other documents than they were read after.
// A policy decides and returns data; the engine gathers what it decides by, and recomputes. One row of the table in
// repair.cc a policy.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "spanwise/status.h"

namespace spanwise {

// What a policy wants to know of each token.
enum class RepairSignal {
  kNone,
  kQuestion,   // how much attention the prompt's end pays it, before any repair, over all layers and heads
  kDeviation,  // how far its values at layer 1 are from those that its new context gives it
};

struct RepairInput {
  std::vector<int> lengths;                // of the documents, in their order
  int budget = 0;                          // tokens to choose, at most
  std::vector<std::vector<float>> scores;  // of each document's tokens; empty for kNone
};

struct RepairPolicy {
  std::string_view name;
  RepairSignal signal;
  // For each document the tokens to recompute, ascending.
  std::vector<std::vector<int32_t>> (*choose)(const RepairInput& input);
};

// The policy of that name. InvalidArgument lists the names there are.
Result<const RepairPolicy*> FindRepairPolicy(std::string_view name);

// Tokens that a fraction of some documents comes to, rounded up.
int RepairBudget(std::span<const int> lengths, double fraction);

}  // namespace spanwise

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

// The tokens that open a document: the mark that it begins with, and its label. They change whatever stands before it.
inline constexpr int kDocumentHead = 2;

// What a policy wants to know of each token, and where sentences begin.
struct RepairSignals {
  bool question = false;    // how much attention the prompt's end pays it, before any repair, over all layers and heads
  bool deviation = false;   // how far its values at layer 1 are from those that its new context gives it
  bool neighbours = false;  // how much attention it pays the documents that it has come to stand behind
  bool sentences = false;
};

// Of each document's tokens; empty for what was not asked for.
using TokenScores = std::vector<std::vector<float>>;

struct RepairInput {
  std::vector<int> lengths;                     // of the documents, in their order
  std::vector<std::vector<int32_t>> sentences;  // tokens that begin one, ascending; none where not known
  int budget = 0;                               // tokens to choose, at most
  TokenScores question, deviation;
  // Of document d [lengths[d], neighbours[d].size() + 1]: the share of a token's attention at the first layers that
  // goes to each of the runs that it sees here and not where it was read, and last to the document's own tokens.
  TokenScores attention;
  std::vector<std::vector<int>> neighbours;  // tokens of those runs
};

struct RepairPolicy {
  std::string_view name;
  RepairSignals signals;
  // For each document the tokens to recompute, ascending.
  std::vector<std::vector<int32_t>> (*choose)(const RepairInput& input);
};

// The policy of that name. InvalidArgument lists the names there are.
Result<const RepairPolicy*> FindRepairPolicy(std::string_view name);

// Tokens that a fraction of some documents comes to, rounded up.
int RepairBudget(std::span<const int> lengths, double fraction);

}  // namespace spanwise

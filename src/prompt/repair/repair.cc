#include "prompt/repair/repair.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <random>
#include <utility>

#include "base/str.h"

namespace spanwise {
namespace {

using Chosen = std::vector<std::vector<int32_t>>;

// The first tokens of each document, as many of each as there are (LegoLink of EPIC, specs/composition.md section 9).
// What does not go up evenly falls to the first documents.
Chosen ChooseFirst(const RepairInput& input) {
  Chosen chosen(input.lengths.size());
  for (int left = input.budget, i = 0; left > 0; ++i) {
    const int before = left;
    for (size_t d = 0; d < chosen.size() && left > 0; ++d) {
      if (i >= input.lengths[d]) continue;
      chosen[d].push_back(i);
      --left;
    }
    if (left == before) break;
  }
  return chosen;
}

// Some tokens in an order of preference, cut off at the budget.
Chosen Take(const RepairInput& input, std::span<const std::pair<int, int>> tokens) {
  Chosen chosen(input.lengths.size());
  const size_t n = std::min(tokens.size(), static_cast<size_t>(std::max(0, input.budget)));
  for (const auto& [document, token] : tokens.first(n)) chosen[static_cast<size_t>(document)].push_back(token);
  for (std::vector<int32_t>& tokens_of : chosen) std::ranges::sort(tokens_of);
  return chosen;
}

std::vector<std::pair<int, int>> AllTokens(const RepairInput& input) {
  std::vector<std::pair<int, int>> tokens;
  for (size_t d = 0; d < input.lengths.size(); ++d)
    for (int i = 0; i < input.lengths[d]; ++i) tokens.emplace_back(static_cast<int>(d), i);
  return tokens;
}

// Any tokens, the same for equal lengths: what others are measured against.
Chosen ChooseRandom(const RepairInput& input) {
  std::vector<std::pair<int, int>> tokens = AllTokens(input);
  std::mt19937 random(1);
  // Not std::shuffle, whose result the standard leaves open.
  for (size_t i = tokens.size(); i > 1; --i) std::swap(tokens[i - 1], tokens[random() % i]);
  return Take(input, tokens);
}

// The tokens with the highest scores, of equals the first. By deviation: CacheBlend (specs/composition.md section 9).
Chosen ChooseHighest(const RepairInput& input) {
  std::vector<std::pair<int, int>> tokens = AllTokens(input);
  const auto score = [&](const std::pair<int, int>& t) {
    return input.scores[static_cast<size_t>(t.first)][static_cast<size_t>(t.second)];
  };
  std::ranges::stable_sort(tokens, [&](const auto& a, const auto& b) { return score(a) > score(b); });
  return Take(input, tokens);
}

// Stretches of neighbours, those with the highest sum of scores first, cut off at the budget. The first stretch of a
// document, which says what the rest is about, scores for all of it: so the heads of the documents that matter come
// first, and then what matters in them. Neighbours stay of one kind, since a statement of which some tokens have seen
// the other documents and some have not can be worse than one that has not (docs/composition.md, "Repair").
Chosen ChooseFocused(const RepairInput& input) {
  constexpr int kStretch = 16;
  struct Stretch {
    double score;
    size_t document;
    int begin, end;
  };
  std::vector<Stretch> stretches;
  for (size_t d = 0; d < input.lengths.size(); ++d) {
    const auto at = input.scores[d].begin();
    for (int begin = 0; begin < input.lengths[d]; begin += kStretch) {
      const int end = std::min(input.lengths[d], begin + kStretch);
      stretches.push_back(
          {std::accumulate(at + begin, begin == 0 ? input.scores[d].end() : at + end, 0.0), d, begin, end});
    }
  }
  std::ranges::stable_sort(stretches, std::greater(), &Stretch::score);
  Chosen chosen(input.lengths.size());
  int left = input.budget;
  for (const Stretch& s : stretches)
    for (int i = s.begin; i < s.end && left > 0; ++i, --left) chosen[s.document].push_back(i);
  for (std::vector<int32_t>& tokens : chosen) std::ranges::sort(tokens);
  return chosen;
}

constexpr RepairPolicy kPolicies[] = {
    {"focused", RepairSignal::kQuestion, ChooseFocused},  {"first", RepairSignal::kNone, ChooseFirst},
    {"question", RepairSignal::kQuestion, ChooseHighest}, {"deviation", RepairSignal::kDeviation, ChooseHighest},
    {"random", RepairSignal::kNone, ChooseRandom},
};

}  // namespace

Result<const RepairPolicy*> FindRepairPolicy(std::string_view name) {
  std::string known;
  for (const RepairPolicy& policy : kPolicies) {
    if (policy.name == name) return &policy;
    known += StrFormat("{}{}", known.empty() ? "" : ", ", policy.name);
  }
  return InvalidArgument(StrFormat("repair policy {} is not one of {}", Quoted(name), known));
}

int RepairBudget(std::span<const int> lengths, double fraction) {
  const int total = std::accumulate(lengths.begin(), lengths.end(), 0);
  return std::min(total, static_cast<int>(std::ceil(fraction * total)));
}

}  // namespace spanwise

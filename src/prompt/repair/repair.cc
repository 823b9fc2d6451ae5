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

// The tokens with the highest scores, of equals the first.
Chosen TakeHighest(const RepairInput& input, const TokenScores& scores) {
  std::vector<std::pair<int, int>> tokens = AllTokens(input);
  const auto score = [&](const std::pair<int, int>& t) {
    return scores[static_cast<size_t>(t.first)][static_cast<size_t>(t.second)];
  };
  std::ranges::stable_sort(tokens, [&](const auto& a, const auto& b) { return score(a) > score(b); });
  return Take(input, tokens);
}

Chosen ChooseByQuestion(const RepairInput& input) { return TakeHighest(input, input.question); }

// CacheBlend (specs/composition.md section 9).
Chosen ChooseByDeviation(const RepairInput& input) { return TakeHighest(input, input.deviation); }

// Where a stretch ends that begins at a token: before the next sentence once it has `length` tokens, or where that has
// too many, or nothing is known of sentences, by its length alone.
int StretchEnd(std::span<const int32_t> sentences, int begin, int length, int n_tokens) {
  const auto next = std::ranges::lower_bound(sentences, begin + length);
  const int end = next != sentences.end() ? *next : sentences.empty() ? begin + length : n_tokens;
  return std::min({n_tokens, end, begin + 4 * length});
}

// The first tokens of every document, then stretches of neighbours with the highest sum of scores, cut off at the
// budget. A document's first tokens say which one it is, and know in their new context what stands before it; a longer
// head belongs to the text that follows it and would stand apart from that. Stretches are whole sentences, since a
// statement of which some tokens have seen the other documents and some have not can be worse than one that has not
// (docs/composition.md, "Repair"); the more may be recomputed, the longer they are.
Chosen Focus(const RepairInput& input, int head, int length) {
  struct Stretch {
    bool first;
    double score;
    size_t document;
    int begin, end;
  };
  std::vector<Stretch> stretches;
  for (size_t d = 0; d < input.lengths.size(); ++d) {
    const auto at = input.question[d].begin();
    const double all = std::accumulate(at, input.question[d].end(), 0.0);
    for (int begin = 0, end = 0; begin < input.lengths[d]; begin = end) {
      end = begin == 0 ? std::min(head, input.lengths[d])
                       : StretchEnd(input.sentences[d], begin, length, input.lengths[d]);
      stretches.push_back({begin == 0, begin == 0 ? all : std::accumulate(at + begin, at + end, 0.0), d, begin, end});
    }
  }
  std::ranges::stable_sort(stretches, std::greater(), [](const Stretch& s) { return std::pair(s.first, s.score); });
  Chosen chosen(input.lengths.size());
  int left = input.budget;
  for (const Stretch& s : stretches)
    for (int i = s.begin; i < s.end && left > 0; ++i, --left) chosen[s.document].push_back(i);
  for (std::vector<int32_t>& tokens : chosen) std::ranges::sort(tokens);
  return chosen;
}

Chosen ChooseFocused(const RepairInput& input) {
  const double all = std::accumulate(input.lengths.begin(), input.lengths.end(), 0.0);
  const int length = all == 0 ? 0 : static_cast<int>(128 * input.budget / all);
  return Focus(input, kDocumentHead, std::max(8, length));
}

// How many tokens each of some documents gets when `budget` tokens are shared among them in proportion to `share`, none
// more than it has. What rounding leaves goes to the first. Adds to `wanted`; returns how many tokens were given.
int Share(const RepairInput& input, const std::vector<double>& share, std::span<const size_t> documents, int budget,
          std::vector<int>* wanted) {
  const auto room = [&](size_t d) { return input.lengths[d] - (*wanted)[d]; };
  int left = budget;
  for (bool given = true; left > 0 && given;) {
    given = false;
    double all = 0;
    for (const size_t d : documents)
      if (room(d) > 0) all += share[d];
    const int to_share = left;
    for (const size_t d : documents) {
      if (room(d) == 0) continue;
      const int part = std::min({room(d), left, static_cast<int>(std::ceil(to_share * share[d] / all))});
      (*wanted)[d] += part;
      left -= part;
      given |= part > 0;
    }
  }
  return budget - left;
}

constexpr double kFocus = 0.9;  // of the question's attention to documents

// Cache-Craft (specs/composition.md section 3), for documents that were read alone. Nothing of what they attend to here
// was there when they were read, so the overlap of neighbours is none, and a document's share of the work is its
// context impact 1 / (1 + exp(-inter / intra)) alone; the budget stands for the factor alpha. The tokens that attend
// most to other documents are recomputed. Documents outside the focus of the question, the fewest that hold 90 % of its
// attention, come last.
Chosen ChooseByReusability(const RepairInput& input) {
  const size_t n = input.lengths.size();
  TokenScores inter(n);
  std::vector<double> share(n), looked_at(n);
  for (size_t d = 0; d < n; ++d) {
    const std::vector<int>& neighbours = input.neighbours[d];
    const double length = input.lengths[d];
    double impact = 0, intra = 0;
    auto mass = input.attention[d].begin();
    for (int t = 0; t < input.lengths[d]; ++t) {
      double sum = 0;
      for (const int of : neighbours) {
        impact += *mass / of;
        sum += *mass++;
      }
      intra += *mass++;
      inter[d].push_back(static_cast<float>(sum));
    }
    // Means over pairs of tokens: / length^2 and / (length x neighbour's).
    share[d] = length * (intra == 0 ? 1 : 1 / (1 + std::exp(-impact * length / intra)));
    looked_at[d] = std::accumulate(input.question[d].begin(), input.question[d].end(), 0.0);
  }
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, std::greater(), [&](size_t d) { return looked_at[d]; });
  const double all = std::accumulate(looked_at.begin(), looked_at.end(), 0.0);
  size_t n_focused = 0;
  for (double held = 0; n_focused < n && held < kFocus * all; ++n_focused) held += looked_at[order[n_focused]];

  std::vector<int> wanted(n);
  const std::span<const size_t> documents = order;
  int left = input.budget;
  for (const auto group : {documents.first(n_focused), documents.subspan(n_focused)})
    left -= Share(input, share, group, left, &wanted);
  Chosen chosen(n);
  for (size_t d = 0; d < n; ++d) {
    std::vector<int32_t>& tokens = chosen[d];
    tokens.resize(static_cast<size_t>(input.lengths[d]));
    std::iota(tokens.begin(), tokens.end(), 0);
    std::ranges::stable_sort(tokens, std::greater(), [&](int32_t t) { return inter[d][static_cast<size_t>(t)]; });
    tokens.resize(static_cast<size_t>(wanted[d]));
    std::ranges::sort(tokens);
  }
  return chosen;
}

constexpr RepairPolicy kPolicies[] = {
    {"focused", {.question = true, .sentences = true}, ChooseFocused},
    {"first", {}, ChooseFirst},
    {"question", {.question = true}, ChooseByQuestion},
    {"deviation", {.deviation = true}, ChooseByDeviation},
    {"cachecraft", {.question = true, .neighbours = true}, ChooseByReusability},
    {"random", {}, ChooseRandom},
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

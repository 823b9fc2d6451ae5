#include "engine/arrangement.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace spanwise {
namespace {

// Walks the store along every order of the documents, as far as it knows them.
class CacheWalk {
 public:
  CacheWalk(const SpanStore& store, const Arrangement& arrangement)
      : store_(store), documents_(arrangement.documents()), after_(arrangement.tree.children.back()) {
    canonical_.resize(documents_.size());
    std::iota(canonical_.begin(), canonical_.end(), size_t{0});
    std::ranges::stable_sort(canonical_, {}, [&](size_t i) { return ContentKey(documents_[i]); });
  }

  // `end` is what has been looked up and is not a full span yet, behind n_before tokens that are.
  void Visit(const PlannedRun& end, int n_before) {
    if (order_.size() == documents_.size()) {
      Look(end, after_, n_before);
      return;
    }
    for (const size_t i : canonical_) {
      if (std::ranges::find(order_, i) != order_.end()) continue;
      if (++n_lookups_ > Arrangement::kMostLookups) return;
      order_.push_back(i);
      auto [match, longer] = Look(end, documents_[i], n_before);
      if (match.n_tokens() == static_cast<int>(longer.tokens.size())) {
        const int n_full = static_cast<int>(match.full.size()) * kKvBlockTokens;
        if (n_full > 0) longer.address = longer.address.Behind(n_full, match.full.back()->key);
        longer.tokens.erase(longer.tokens.begin(), longer.tokens.begin() + n_full);
        Visit(longer, n_before + n_full);
      }
      order_.pop_back();
    }
  }

  // The best order, and behind it what is left.
  std::vector<size_t> Best() const {
    std::vector<size_t> order = best_;
    for (const size_t i : canonical_)
      if (std::ranges::find(best_, i) == best_.end()) order.push_back(i);
    return order;
  }

 private:
  std::pair<SpanStore::Match, PlannedRun> Look(PlannedRun end, const PromptNode& more, int n_before) {
    AppendText(more, &end);
    SpanStore::Match match = store_.Peek(end.address, end.tokens);
    if (n_before + match.n_tokens() > n_best_) {
      n_best_ = n_before + match.n_tokens();
      best_ = order_;
    }
    return {std::move(match), std::move(end)};
  }

  const SpanStore& store_;
  const std::vector<PromptNode>& documents_;
  const PromptNode& after_;
  std::vector<size_t> canonical_, order_, best_;
  int n_best_ = 0, n_lookups_ = 0;
};

}  // namespace

Result<Plan> Arrangement::PlanOf(const std::vector<size_t>& order) const {
  PromptNode arranged = tree;
  for (size_t i = 0; i < order.size(); ++i) arranged.children[1].children[i] = documents()[order[i]];
  ComposeOptions given = options;
  given.order = DocumentOrder::kGiven;
  SW_ASSIGN_OR_RETURN(Plan plan, MakePlan(arranged, given, keys));
  plan.options.order = options.order;
  return plan;
}

Result<Plan> Arrangement::TrialOf(const std::vector<size_t>& order, int* from) const {
  SW_ASSIGN_OR_RETURN(Plan plan, PlanOf(order));
  std::vector<int32_t>& tail = plan.runs.back().tokens;
  // The first token behind the documents is left out: in some modes nothing of its own run predicts it.
  *from = draft.empty() ? plan.pieces.back().begin + 1 : static_cast<int>(tail.size());
  tail.insert(tail.end(), draft.begin(), draft.end());
  return plan;
}

std::vector<size_t> Arrangement::CachedOrder(const SpanStore& store) const {
  CacheWalk walk(store, *this);
  PlannedRun before{.address = RootKey(keys.model, "causal", {}), .base = 0, .tokens = {}, .visible = {}};
  AppendText(tree.children.front(), &before);
  walk.Visit(before, 0);
  return walk.Best();
}

}  // namespace spanwise

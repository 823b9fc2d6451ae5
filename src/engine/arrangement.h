// Orders of documents that are settled when a request has its turn, since they ask what is kept, or the model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kv/span_store.h"
#include "prompt/plan.h"
#include "prompt/tree.h"
#include "spanwise/status.h"

namespace spanwise {

struct Arrangement {
  PromptNode tree;  // Sequence{ text, Set{document...}, text }
  ComposeOptions options;
  PlanKeys keys;
  std::vector<int32_t> draft;  // of kSearch; empty: none

  const std::vector<PromptNode>& documents() const { return tree.children[1].children; }

  // The plan of the documents in this order, given as indexes.
  Result<Plan> PlanOf(const std::vector<size_t>& order) const;

  // A plan whose end is to be judged: that with the draft behind it. Its tail's tokens from *from on decide.
  Result<Plan> TrialOf(const std::vector<size_t>& order, int* from) const;

  // The order with the longest beginning of the flat prompt in the store; documents that are not part of that follow by
  // content. At most kMostLookups documents are looked up, and the best order found with them is taken. REQUIRES: mode
  // kExact.
  static constexpr int kMostLookups = 2000;
  std::vector<size_t> CachedOrder(const SpanStore& store) const;
};

}  // namespace spanwise

#include "decode/subtask_pruner.h"

#include <algorithm>

namespace spanwise::decode {

void SubtaskPruner::Push(std::string_view token_bytes) {
  tokens_.push_back({position_, position_ + token_bytes.size()});
  position_ += token_bytes.size();
  for (const SubtaskWatcher::List& list : watcher_.Push(token_bytes)) {
    std::erase_if(lists_, [&](const SubtaskWatcher::List& inner) { return inner.begin >= list.begin; });
    lists_.push_back(list);
  }
}

std::optional<SubtaskPruner::Cut> SubtaskPruner::Next() {
  while (lists_.size() > keep_) {
    const SubtaskWatcher::List list = lists_.front();
    lists_.erase(lists_.begin());
    const auto begin = std::ranges::lower_bound(tokens_, list.begin, {}, &Bytes::begin);
    const auto end = std::ranges::upper_bound(begin, tokens_.end(), list.end, {}, &Bytes::end);
    if (begin >= end) continue;
    const Cut cut{static_cast<size_t>(begin - tokens_.begin()), static_cast<size_t>(end - tokens_.begin())};
    tokens_.erase(begin, end);
    return cut;
  }
  return {};
}

}  // namespace spanwise::decode

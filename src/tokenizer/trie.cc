#include "tokenizer/trie.h"

#include <algorithm>

namespace spanwise {

void Trie::Build(std::vector<std::pair<std::string_view, int32_t>> members) {
  std::stable_sort(members.begin(), members.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  nodes_.assign(1, {});
  table_.fill(kNone);
  // Level by level, so that siblings stand together: `open` holds the members below each node of the current level.
  struct Range {
    Node node;
    size_t begin, end;
  };
  std::vector<Range> open = {{kRoot, 0, members.size()}}, next;
  for (size_t depth = 0; !open.empty(); ++depth, open.swap(next)) {
    next.clear();
    for (Range range : open) {
      for (; range.begin < range.end && members[range.begin].first.size() == depth; ++range.begin)
        nodes_[static_cast<size_t>(range.node)].value = members[range.begin].second;
      nodes_[static_cast<size_t>(range.node)].first_child = static_cast<Node>(nodes_.size());
      while (range.begin < range.end) {
        const char byte = members[range.begin].first[depth];
        size_t end = range.begin;
        while (end < range.end && members[end].first[depth] == byte) ++end;
        next.push_back({static_cast<Node>(nodes_.size()), range.begin, end});
        ++nodes_[static_cast<size_t>(range.node)].n_children;
        nodes_.push_back({.byte = static_cast<uint8_t>(byte)});
        if (range.node == kRoot) table_[static_cast<uint8_t>(byte)] = next.back().node;
        range.begin = end;
      }
    }
  }
}

Trie::Node Trie::StepBelow(Node node, char byte) const {
  const Entry& entry = nodes_[static_cast<size_t>(node)];
  const Entry* const children = nodes_.data() + entry.first_child;
  const auto wanted = static_cast<uint8_t>(byte);
  size_t low = 0, high = entry.n_children;
  while (high - low > 4) {
    const size_t middle = (low + high) / 2;
    (children[middle].byte <= wanted ? low : high) = middle;
  }
  for (; low < high; ++low)
    if (children[low].byte == wanted) return entry.first_child + static_cast<Node>(low);
  return kNone;
}

}  // namespace spanwise

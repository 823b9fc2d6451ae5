// A set of byte strings with a number each: exact look-up, and all members that begin a text.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace spanwise {

// Immutable after Build; thread-safe.
class Trie {
 public:
  static constexpr int32_t kNone = -1;
  using Node = int32_t;  // kNone: no member begins so
  static constexpr Node kRoot = 0;

  Trie() { nodes_.push_back({}), table_.fill(kNone); }

  // Members and their numbers (>= 0), in any order; of equal members the last one counts. Keeps no reference.
  // REQUIRES: the members' lengths add up to less than 2^31.
  void Build(std::vector<std::pair<std::string_view, int32_t>> members);

  Node Step(Node node, char byte) const {
    if (node == kRoot) return table_[static_cast<uint8_t>(byte)];
    return StepBelow(node, byte);
  }
  Node Walk(Node node, std::string_view bytes) const {
    for (size_t i = 0; i < bytes.size() && node != kNone; ++i) node = Step(node, bytes[i]);
    return node;
  }
  int32_t ValueAt(Node node) const { return node == kNone ? kNone : nodes_[static_cast<size_t>(node)].value; }
  int32_t Find(std::string_view member) const { return ValueAt(Walk(kRoot, member)); }

 private:
  struct Entry {
    int32_t value = kNone;
    Node first_child = 0;  // children are consecutive, ordered by byte
    uint16_t n_children = 0;
    uint8_t byte = 0;  // of the edge that leads here
  };
  Node StepBelow(Node node, char byte) const;

  std::vector<Entry> nodes_;
  std::array<Node, 256> table_;  // the root's children
};

}  // namespace spanwise

// Which tokens of a growing text can go once their subtasks are done (TIMRUN, docs/composition.md).
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>
#include <vector>

#include "decode/subtask_watcher.h"

namespace spanwise::decode {

// Holds the latest `keep` finished lists of subtasks and names the tokens of earlier ones: those that lie between a
// list's brackets with all their bytes. Thread-compatible.
class SubtaskPruner {
 public:
  explicit SubtaskPruner(size_t keep) : keep_(keep) {}

  // One more token at the end of the text.
  void Push(std::string_view token_bytes);

  bool has_cut() const { return lists_.size() > keep_; }
  // Tokens [begin, end) of those that are left, which now are not: later ones move up. nullopt: nothing has to go.
  struct Cut {
    size_t begin = 0, end = 0;
  };
  std::optional<Cut> Next();

 private:
  struct Bytes {
    size_t begin, end;
  };
  size_t keep_;
  SubtaskWatcher watcher_;
  std::vector<Bytes> tokens_;                // those that are left, in order
  std::vector<SubtaskWatcher::List> lists_;  // finished, not cut, none within another; by their ends
  size_t position_ = 0;
};

}  // namespace spanwise::decode

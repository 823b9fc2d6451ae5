// Byte-pair merges over symbols.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace spanwise {

// Which two tokens merge, in which order of preference, into what. Immutable after Build; thread-safe.
class MergeTable {
 public:
  struct Merge {
    int32_t left = 0, right = 0, result = 0;
    uint32_t rank = 0;  // the smallest goes first
  };
  static constexpr uint32_t kNoRank = UINT32_MAX;

  // Of two merges with the same pair the later one counts. REQUIRES: ranks below kNoRank, ids >= 0.
  void Build(const std::vector<Merge>& merges);

  struct Found {
    uint32_t rank = kNoRank;
    int32_t result = -1;
  };
  Found Find(int32_t left, int32_t right) const {
    const uint64_t key = static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
    for (size_t i = Slot(key);; i = (i + 1) & mask_) {
      const Entry& entry = entries_[i];
      if (entry.key == key) return entry.found;
      if (entry.key == kEmpty) return {};
    }
  }

 private:
  static constexpr uint64_t kEmpty = UINT64_MAX;
  struct Entry {
    uint64_t key = kEmpty;
    Found found;
  };
  size_t Slot(uint64_t key) const {
    uint64_t hash = (key ^ seed_) * 0x9E3779B97F4A7C15u;
    hash = (hash ^ hash >> 32) * 0xD6E8FEB86659FD93u;
    return (hash ^ hash >> 32) & mask_;
  }

  std::vector<Entry> entries_{1};
  size_t mask_ = 0;
  uint64_t seed_ = 0;
};

struct Symbol {
  int32_t id = 0;
  uint32_t bytes = 0;  // of the word
};

// Merges the symbols in place: again and again the pair of lowest rank, of equals the leftmost. O(n log n) in the
// number of symbols; the working memory is kept between calls. Thread-compatible.
class Merger {
 public:
  void Run(const MergeTable& table, std::vector<Symbol>* symbols);

 private:
  void RunShort(const MergeTable& table, std::vector<Symbol>* symbols);
  void RunLong(const MergeTable& table, std::vector<Symbol>* symbols);

  struct Node {
    int32_t previous = -1, next = -1;
    MergeTable::Found merge;  // with the next symbol
  };
  struct Candidate {
    uint32_t rank;
    int32_t at;
  };
  std::vector<MergeTable::Found> pairs_;
  std::vector<Node> nodes_;
  std::vector<Candidate> heap_;
};

}  // namespace spanwise

// Remembers the tokens of words already seen during one call: most words of a text are repetitions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace spanwise {

// Bounded: past its capacity new words are not kept. Thread-compatible.
class WordCache {
 public:
  static constexpr size_t kMaxWordBytes = 48;

  // The tokens of `word`, or an empty span. Valid until the next Insert.
  std::span<const int32_t> Find(std::string_view word, uint64_t hash) const;
  // REQUIRES: Find(word, hash) was empty, `tokens` is not.
  void Insert(std::string_view word, uint64_t hash, std::span<const int32_t> tokens);

 private:
  struct Slot {
    uint64_t hash = 0;
    uint32_t word = 0, tokens = 0;          // offsets
    uint16_t word_bytes = 0, n_tokens = 0;  // n_tokens 0: free
  };
  void Grow();

  std::vector<Slot> slots_ = std::vector<Slot>(256);
  size_t used_ = 0;
  std::string words_;
  std::vector<int32_t> tokens_;
};

}  // namespace spanwise

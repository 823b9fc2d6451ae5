// Stop strings over streamed text.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace spanwise::decode {

// Passes text through until one of the stop strings is complete. Feed it what StreamDecoder releases (or raw token
// bytes). Text is held back only while it may still be the beginning of a stop string or is part of a character;
// everything before the match comes out exactly once, the match and what follows never.
//
// The stop string that is complete first wins; of several complete at the same byte, the longest. So the outcome does
// not depend on how the text was cut into tokens. Cost: one Knuth-Morris-Pratt step a byte and stop string.
//
// Thread-compatible. Copyable: a copy is a checkpoint to return to.
class StopMatcher {
 public:
  // REQUIRES: no stop string is empty (ValidateSampling checks that).
  explicit StopMatcher(const std::vector<std::string>& stops);

  // The text released by `text`. With honour == false (fewer than min_tokens so far) a stop string that becomes
  // complete is ordinary text, though one that is complete only later counts. After a match: always "".
  std::string Push(std::string_view text, bool honour = true);

  // No more text will come: what was held back. A character that never became complete is released as U+FFFD.
  std::string Finish();

  // Index of the stop string that ended the text.
  std::optional<size_t> matched() const { return matched_; }

 private:
  struct Pattern {
    std::string text;
    std::vector<size_t> border;  // border[n]: longest proper prefix that is also a suffix of text[0, n)
    size_t state = 0;            // bytes of `text` that the input ends with
  };
  std::vector<Pattern> patterns_;
  std::string pending_;  // not released yet
  std::optional<size_t> matched_;
};

}  // namespace spanwise::decode

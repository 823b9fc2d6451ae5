// Tokens that are found in the text before it is split into words: special tokens and others added to the vocabulary.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace spanwise {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;
  bool lstrip = false, rstrip = false;  // the match also takes the white space on that side
  bool normalized = false;              // looked for in the normalised text
  bool single_word = false;             // not next to a word character
};

// Finds added tokens in a text: of several at one place the longest. Immutable, thread-safe.
class AddedTokenMatcher {
 public:
  AddedTokenMatcher() = default;
  // Those with empty content are never found.
  explicit AddedTokenMatcher(const std::vector<AddedToken>& tokens);

  struct Match {
    size_t begin = 0, end = 0;  // with the stripped white space
    int32_t id = 0;
  };
  // The first match that begins at or after `from`; white space before `from` is not taken.
  std::optional<Match> Next(std::string_view text, size_t from) const;
  bool empty() const { return entries_.empty(); }

 private:
  struct Entry {
    std::string content;
    int32_t id;
    bool lstrip, rstrip, single_word;
  };
  const Entry* LongestAt(std::string_view text) const;

  std::vector<Entry> entries_;  // sorted by content
  std::array<bool, 256> may_begin_{};
};

}  // namespace spanwise

// Finds finished lists of subtasks in text that is written as JSON, as TIM models write it:
// {"reasoning": [{"thought", "tooluse", "subtasks": [...], "conclusion"}], "answer"}.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace spanwise::decode {

// Reads a stream of text byte by byte. A list of subtasks is an array that is the value of a member "subtasks", at any
// depth; it is finished by its closing bracket. Text that is no JSON, or deeper than kMostDepth, is passed over until
// the next '{', where an object may begin anew; nothing that was open then will ever be finished. Strings may hold raw
// control characters, numbers and literals are not looked into. How the text is cut into pieces does not matter.
// Thread-compatible; constant memory.
class SubtaskWatcher {
 public:
  static constexpr size_t kMostDepth = 64;

  // Bytes [begin, end) of the stream: what stands between the brackets.
  struct List {
    size_t begin = 0, end = 0;
    bool operator==(const List&) const = default;
  };

  // The lists that these bytes finish, inner ones before those around them.
  std::vector<List> Push(std::string_view bytes);

 private:
  enum class Expect { kKeyOrEnd, kKey, kColon, kValue, kValueOrEnd, kCommaOrEnd };
  struct Level {
    bool object = false;
    Expect expect = Expect::kValue;
    bool subtasks = false;  // of an array: it is such a list; of an object: the member at hand is called that
    size_t begin = 0;       // of an array: of what stands behind its bracket
  };

  bool Structure(char c, std::vector<List>* finished);  // false: no JSON
  bool Open(char c);
  bool Close(char c, std::vector<List>* finished);
  void InString(char c);
  bool MayBeginValue() const;

  std::vector<Level> levels_;  // none: outside of any object
  bool in_string_ = false, escaped_ = false, is_key_ = false, in_scalar_ = false;
  std::string key_;  // as far as it may matter
  size_t position_ = 0;
};

}  // namespace spanwise::decode

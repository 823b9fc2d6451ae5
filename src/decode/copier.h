// Answers that copy a stretch of a text: which tokens may come next.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace spanwise::decode {

// A text that may be copied from.
struct CopySource {
  static constexpr int32_t kNone = -1;
  struct Token {
    int32_t id = kNone;         // kNone: a gap, over which no copy goes
    size_t begin = 0, end = 0;  // bytes of the text, which the token stands for to the letter
    // What a copy that begins with this token has instead: the token itself, the same without the white space before
    // its word, or kNone where none may begin.
    int32_t first = kNone;
    size_t first_begin = 0;  // of that
    bool may_end = false;    // a word ends behind it
  };

  std::string name;
  std::string text;
  std::vector<Token> tokens;  // each goes on where the one before it ends, but for gaps
};

// Follows one answer through all sources at once. Thread-compatible; the sources must outlive it.
class Copier {
 public:
  explicit Copier(std::span<const CopySource> sources) : sources_(sources) { FindNext(); }

  // The tokens with which some copy goes on, ascending, each once. Empty: no copy goes on.
  const std::vector<int32_t>& next() const { return next_; }
  // What is copied so far may be all.
  bool may_end() const { return may_end_; }
  // Goes on with one of next().
  void Accept(int32_t token);

  // Where the copy stands: in the first source that has it, the first time it does. REQUIRES: something was accepted.
  struct Place {
    const CopySource* source = nullptr;
    size_t begin = 0, end = 0;  // bytes
  };
  Place place() const;

 private:
  // A copy that begins with token `begin` of a source.
  struct Match {
    size_t source = 0, begin = 0;
  };
  void FindNext();

  std::span<const CopySource> sources_;
  size_t n_accepted_ = 0;
  std::vector<Match> matches_;  // of what was accepted, in order; of nothing none
  std::vector<int32_t> next_;
  bool may_end_ = false;
};

}  // namespace spanwise::decode

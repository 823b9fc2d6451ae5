// Turns matches and the text between them into pieces, as a behaviour says.
#pragma once

#include "tokenizer/pretokenizer.h"

namespace spanwise {

class Stretches {
 public:
  Stretches(const Piece& piece, SplitBehavior behavior, bool invert, const PieceSink& sink)
      : piece_(piece), behavior_(behavior), invert_(invert), sink_(sink) {}

  // A match; matches come in order. An empty one still cuts the text.
  Status Match(size_t begin, size_t end) {
    SW_RETURN_IF_ERROR(Add(done_, begin, false));
    SW_RETURN_IF_ERROR(Add(begin, end, true));
    done_ = end;
    return Status::Ok();
  }
  Status Finish() {
    SW_RETURN_IF_ERROR(Add(done_, piece_.text.size(), false));
    return held_ ? Emit(held_begin_, held_end_) : Status::Ok();
  }

 private:
  Status Add(size_t begin, size_t end, bool is_match);
  Status Hold(size_t begin, size_t end, bool is_match, bool joins);
  Status Emit(size_t begin, size_t end) { return sink_(piece_.Slice(begin, end)); }

  const Piece& piece_;
  const SplitBehavior behavior_;
  const bool invert_;
  const PieceSink& sink_;
  size_t done_ = 0;
  bool held_ = false, held_match_ = false;
  size_t held_begin_ = 0, held_end_ = 0;
};

}  // namespace spanwise

#include "tokenizer/split/stretches.h"

namespace spanwise {

Status Stretches::Add(size_t begin, size_t end, bool is_match) {
  is_match = is_match != invert_;
  if (begin == end) return Status::Ok();
  switch (behavior_) {
    case SplitBehavior::kIsolated:
      return Emit(begin, end);
    case SplitBehavior::kRemoved:
      return is_match ? Status::Ok() : Emit(begin, end);
    case SplitBehavior::kContiguous:
      return Hold(begin, end, is_match, held_ && held_match_ == is_match);
    // A match joins the stretch before it, but not a match before it.
    case SplitBehavior::kMergedWithPrevious:
      return Hold(begin, end, is_match, held_ && is_match && !held_match_);
    case SplitBehavior::kMergedWithNext:
      return Hold(begin, end, is_match, held_ && !is_match && held_match_);
  }
  return Status::Ok();
}

Status Stretches::Hold(size_t begin, size_t end, bool is_match, bool joins) {
  if (held_ && !joins) SW_RETURN_IF_ERROR(Emit(held_begin_, held_end_));
  if (!joins) held_begin_ = begin;
  held_end_ = end;
  held_match_ = is_match;
  held_ = true;
  return Status::Ok();
}

}  // namespace spanwise

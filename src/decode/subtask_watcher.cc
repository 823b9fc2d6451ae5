#include "decode/subtask_watcher.h"

namespace spanwise::decode {
namespace {

constexpr std::string_view kSubtasks = "subtasks";

bool IsSpace(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

bool IsScalar(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '+' || c == '.';
}

}  // namespace

std::vector<SubtaskWatcher::List> SubtaskWatcher::Push(std::string_view bytes) {
  std::vector<List> finished;
  for (const char c : bytes) {
    bool fits = true;
    if (in_string_) {
      InString(c);
    } else if (!levels_.empty()) {
      fits = Structure(c, &finished);
    }
    if (!fits) {
      levels_.clear();
      in_scalar_ = false;
    }
    if (c == '{' && !in_string_ && levels_.empty()) levels_.push_back({.object = true, .expect = Expect::kKeyOrEnd});
    ++position_;
  }
  return finished;
}

void SubtaskWatcher::InString(char c) {
  if (escaped_) {
    escaped_ = false;
    if (is_key_) key_ += '\0';  // no key that is spelt with escapes is taken for ours
  } else if (c == '\\') {
    escaped_ = true;
  } else if (c == '"') {
    in_string_ = false;
    Level& level = levels_.back();
    if (is_key_) level.subtasks = key_ == kSubtasks;
    level.expect = is_key_ ? Expect::kColon : Expect::kCommaOrEnd;
  } else if (is_key_ && key_.size() <= kSubtasks.size()) {
    key_ += c;
  }
}

bool SubtaskWatcher::MayBeginValue() const {
  const Expect expect = levels_.back().expect;
  return expect == Expect::kValue || expect == Expect::kValueOrEnd;
}

bool SubtaskWatcher::Open(char c) {
  if (!MayBeginValue() || levels_.size() == kMostDepth) return false;
  Level& outer = levels_.back();
  outer.expect = Expect::kCommaOrEnd;
  const bool object = c == '{';
  levels_.push_back({.object = object,
                     .expect = object ? Expect::kKeyOrEnd : Expect::kValueOrEnd,
                     .subtasks = !object && outer.object && outer.subtasks,
                     .begin = position_ + 1});
  return true;
}

bool SubtaskWatcher::Close(char c, std::vector<List>* finished) {
  const Level level = levels_.back();
  const bool may_end =
      level.expect == Expect::kCommaOrEnd || level.expect == (level.object ? Expect::kKeyOrEnd : Expect::kValueOrEnd);
  if (!may_end || level.object != (c == '}')) return false;
  levels_.pop_back();
  if (level.subtasks && !level.object) finished->push_back({level.begin, position_});
  return true;
}

bool SubtaskWatcher::Structure(char c, std::vector<List>* finished) {
  Level& level = levels_.back();
  if (IsScalar(c)) {
    if (!in_scalar_ && !MayBeginValue()) return false;
    in_scalar_ = true;
    level.expect = Expect::kCommaOrEnd;
    return true;
  }
  in_scalar_ = false;
  if (IsSpace(c)) return true;
  switch (c) {
    case '"':
      is_key_ = level.expect == Expect::kKey || level.expect == Expect::kKeyOrEnd;
      if (!is_key_ && !MayBeginValue()) return false;
      key_.clear();
      return in_string_ = true;
    case '{':
    case '[':
      return Open(c);
    case '}':
    case ']':
      return Close(c, finished);
    case ':':
      if (level.expect != Expect::kColon) return false;
      level.expect = Expect::kValue;
      return true;
    case ',':
      if (level.expect != Expect::kCommaOrEnd) return false;
      level.expect = level.object ? Expect::kKey : Expect::kValue;
      return true;
    default:
      return false;
  }
}

}  // namespace spanwise::decode

#include "tokenizer/added_tokens.h"

#include <algorithm>

#include "tokenizer/unicode.h"

namespace spanwise {
namespace {

size_t SpaceAtStart(std::string_view text) {
  if (text.empty()) return 0;
  const Character c = CharacterAt(text, 0);
  return IsWhiteSpace(c.code) ? c.length : 0;
}

size_t SpaceAtEnd(std::string_view text) { return text.empty() ? 0 : SpaceAtStart(text.substr(LastCharacter(text))); }

bool StandsAlone(std::string_view text, size_t begin, size_t end) {
  const auto word_at = [&](size_t at) { return IsWordCharacter(CharacterAt(text, at).code); };
  return (begin == 0 || !word_at(LastCharacter(text.substr(0, begin)))) && (end == text.size() || !word_at(end));
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(const std::vector<AddedToken>& tokens) {
  for (const AddedToken& token : tokens)
    if (!token.content.empty())
      entries_.push_back({token.content, token.id, token.lstrip, token.rstrip, token.single_word});
  std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) { return a.content < b.content; });
  for (const Entry& entry : entries_) may_begin_[static_cast<uint8_t>(entry.content.front())] = true;
}

const AddedTokenMatcher::Entry* AddedTokenMatcher::LongestAt(std::string_view text) const {
  const Entry* longest = nullptr;
  auto low = entries_.begin(), high = entries_.end();  // the entries that begin with text[0, depth)
  for (size_t depth = 0; low != high; ++depth) {
    for (; low != high && low->content.size() == depth; ++low) longest = &*low;  // shorter entries sort first
    if (low == high) break;
    if (depth == text.size()) break;
    const auto byte_at = [depth](const Entry& entry) { return static_cast<uint8_t>(entry.content[depth]); };
    const auto byte = static_cast<uint8_t>(text[depth]);
    low = std::partition_point(low, high, [&](const Entry& entry) { return byte_at(entry) < byte; });
    high = std::partition_point(low, high, [&](const Entry& entry) { return byte_at(entry) == byte; });
  }
  return longest;
}

std::optional<AddedTokenMatcher::Match> AddedTokenMatcher::Next(std::string_view text, size_t from) const {
  if (entries_.empty()) return std::nullopt;
  for (size_t at = from; at < text.size(); ++at) {
    if (!may_begin_[static_cast<uint8_t>(text[at])]) continue;
    const Entry* entry = LongestAt(text.substr(at));
    if (!entry) continue;
    if (entry->single_word && !StandsAlone(text, at, at + entry->content.size())) {
      at += entry->content.size() - 1;
      continue;
    }
    Match match{at, at + entry->content.size(), entry->id};
    if (entry->lstrip)
      while (const size_t n = SpaceAtEnd(text.substr(from, match.begin - from))) match.begin -= n;
    if (entry->rstrip)
      while (const size_t n = SpaceAtStart(text.substr(match.end))) match.end += n;
    return match;
  }
  return std::nullopt;
}

}  // namespace spanwise

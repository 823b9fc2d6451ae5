#include "tokenizer/added_tokens.h"

#include <algorithm>

#include "tokenizer/normalize.h"

namespace spanwise {
namespace {

// The characters of Unicode's White_Space, in UTF-8.
constexpr std::string_view kSpaces[] = {" ",      "\t",     "\n",     "\v",     "\f",     "\r",     "\u0085",
                                        "\u00a0", "\u1680", "\u2000", "\u2001", "\u2002", "\u2003", "\u2004",
                                        "\u2005", "\u2006", "\u2007", "\u2008", "\u2009", "\u200a", "\u2028",
                                        "\u2029", "\u202f", "\u205f", "\u3000"};

size_t SpaceAtStart(std::string_view text) {
  for (const std::string_view space : kSpaces)
    if (text.starts_with(space)) return space.size();
  return 0;
}

size_t SpaceAtEnd(std::string_view text) {
  for (const std::string_view space : kSpaces)
    if (text.ends_with(space)) return space.size();
  return 0;
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(const std::vector<AddedToken>& tokens, bool nfc) {
  for (const AddedToken& token : tokens)
    entries_.push_back({nfc ? NfcOf(token.content) : token.content, token.id, token.lstrip, token.rstrip});
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

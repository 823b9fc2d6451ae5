// SentencePiece's "precompiled charsmap": a double-array trie (Darts-clone's layout: 32-bit units holding offset, label
// and leaf flag) from byte sequences to offsets into a block of strings, each ended by a zero byte.
#include <utf8proc.h>

#include <algorithm>
#include <array>

#include "base/hash.h"
#include "base/str.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/unicode.h"

namespace spanwise {
namespace {

constexpr size_t kMaxCharsmapBytes = size_t{64} << 20;
// A crafted trie can match without end, and its strings be copied for every byte of a text.
constexpr size_t kMaxKeyBytes = 256;
constexpr size_t kMaxStringBytes = 1024;
constexpr size_t kMaxGraphemeBytes = 5;  // longer ones are looked up character by character

uint32_t LittleEndian(std::string_view bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value |= uint32_t{static_cast<uint8_t>(bytes[at + i])} << (8 * i);
  return value;
}

class PrecompiledStep final : public NormalizerStep {
 public:
  explicit PrecompiledStep(CharsmapMatch match) : match_(match) {}

  Status Load(std::string_view charsmap) {
    if (charsmap.size() > kMaxCharsmapBytes)
      return InvalidArgument(
          StrFormat("precompiled charsmap of {} bytes, at most {} are read", charsmap.size(), kMaxCharsmapBytes));
    if (charsmap.size() < 4)
      return Corruption(StrFormat("precompiled charsmap of {} bytes, expected at least 4", charsmap.size()));
    const size_t trie_bytes = LittleEndian(charsmap, 0);
    if (trie_bytes % 4 != 0 || trie_bytes == 0 || trie_bytes > charsmap.size() - 4)
      return Corruption(
          StrFormat("precompiled charsmap says that its trie has {} bytes, expected a multiple of 4 up to {}",
                    trie_bytes, charsmap.size() - 4));
    units_.resize(trie_bytes / 4);
    for (size_t i = 0; i < units_.size(); ++i) units_[i] = LittleEndian(charsmap, 4 + 4 * i);
    strings_ = charsmap.substr(4 + trie_bytes);
    if (strings_.empty() || strings_.back() != '\0')
      return Corruption("precompiled charsmap: its strings do not end in a zero byte");
    if (size_t bad = 0; !IsValidUtf8(strings_, &bad))
      return Corruption(StrFormat("precompiled charsmap: its strings are not valid UTF-8 at byte {}", bad));
    for (size_t at = 0, end; at < strings_.size(); at = end + 1) {
      end = strings_.find('\0', at);
      if (end - at > kMaxStringBytes)
        return Corruption(StrFormat("precompiled charsmap: the string at byte {} has {} bytes, expected at most {}", at,
                                    end - at, kMaxStringBytes));
    }
    digest_ = Sha256(charsmap).Hex();
    for (int c = 0; c < 128; ++c) {
      const char byte = static_cast<char>(c);
      stays_[static_cast<size_t>(c)] = c != '\r' && Find({&byte, 1}, false).length == 0;
    }
    return Status::Ok();
  }

  Status Apply(std::string_view text, RegexRun*, Rewriter* out) const override {
    return match_ == CharsmapMatch::kLongest ? ApplyLongest(text, out) : ApplyToGraphemes(text, out);
  }

  std::string Description() const override { return StrFormat("precompiled {} {}", static_cast<int>(match_), digest_); }

 private:
  struct Match {
    size_t length = 0;  // 0: none
    uint32_t value = 0;
  };

  // The shortest or the longest entry that begins `text`.
  Match Find(std::string_view text, bool longest) const {
    Match match;
    size_t at = 0;
    const auto offset = [](uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); };
    at ^= offset(units_[0]);
    for (size_t i = 0; i < std::min(text.size(), kMaxKeyBytes); ++i) {
      const auto byte = static_cast<uint8_t>(text[i]);
      if (byte == 0) break;  // ends every key
      at ^= byte;
      if (at >= units_.size()) break;
      const uint32_t unit = units_[at];
      if ((unit & ((1u << 31) | 0xFF)) != byte) break;
      at ^= offset(unit);
      if (at >= units_.size()) break;
      if (!((unit >> 8) & 1)) continue;
      match = {i + 1, units_[at] & ((1u << 31) - 1)};
      if (!longest) break;
    }
    return match;
  }

  // The replacement; nullopt where the table points outside its strings.
  Result<std::string_view> StringAt(uint32_t value) const {
    if (value >= strings_.size() || (static_cast<uint8_t>(strings_[value]) & 0xC0) == 0x80)
      return Corruption(
          StrFormat("precompiled charsmap points to byte {} of {} bytes of strings", value, strings_.size()));
    return std::string_view(strings_).substr(value, strings_.find('\0', value) - value);
  }

  Status ApplyLongest(std::string_view text, Rewriter* out) const {
    for (size_t i = 0; i < text.size();) {
      const Match match = Find(text.substr(i), true);
      size_t end = i + match.length;
      // A crafted table could match a part of a character.
      if (match.length == 0 || (end < text.size() && (static_cast<uint8_t>(text[end]) & 0xC0) == 0x80)) {
        i += CharacterAt(text, i).length;
        continue;
      }
      SW_ASSIGN_OR_RETURN(const std::string_view with, StringAt(match.value));
      out->Replace(i, end, with);
      i = end;
    }
    return Status::Ok();
  }

  Status ApplyToGraphemes(std::string_view text, Rewriter* out) const {
    const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
    for (size_t begin = 0; begin < text.size();) {
      // One ASCII character before another is a grapheme of its own.
      if (byte(begin) < 0x80 && stays_[byte(begin)] && (begin + 1 == text.size() || byte(begin + 1) < 0x80)) {
        ++begin;
        continue;
      }
      const size_t end = GraphemeEnd(text, begin);
      if (end - begin <= kMaxGraphemeBytes) {
        SW_ASSIGN_OR_RETURN(const bool whole, ReplaceOne(text, begin, end, out));
        if (whole) {
          begin = end;
          continue;
        }
      }
      while (begin < end) {
        const size_t next = begin + CharacterAt(text, begin).length;
        SW_RETURN_IF_ERROR(ReplaceOne(text, begin, next, out).status());
        begin = next;
      }
    }
    return Status::Ok();
  }

  // Replaces text[begin, end) as a whole by the shortest entry that begins it, if any.
  Result<bool> ReplaceOne(std::string_view text, size_t begin, size_t end, Rewriter* out) const {
    const Match match = Find(text.substr(begin, end - begin), false);
    if (match.length == 0) return false;
    SW_ASSIGN_OR_RETURN(const std::string_view with, StringAt(match.value));
    out->Replace(begin, end, with);
    return true;
  }

  static size_t GraphemeEnd(std::string_view text, size_t begin) {
    Character c = CharacterAt(text, begin);
    size_t end = begin + c.length;
    utf8proc_int32_t state = 0;
    while (end < text.size()) {
      // Between printable ASCII characters there is always a boundary.
      if (c.code < 0x80 && static_cast<uint8_t>(text[end]) < 0x80 && c.code != '\r') break;
      const Character next = CharacterAt(text, end);
      if (utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(c.code),
                                           static_cast<utf8proc_int32_t>(next.code), &state))
        break;
      end += next.length;
      c = next;
    }
    return end;
  }

  const CharsmapMatch match_;
  std::vector<uint32_t> units_;
  std::string strings_;
  std::string digest_;
  std::array<bool, 128> stays_{};  // ASCII characters without an entry
};

}  // namespace

Result<std::shared_ptr<const NormalizerStep>> MakePrecompiled(std::string_view charsmap, CharsmapMatch match) {
  auto step = std::make_shared<PrecompiledStep>(match);
  SW_RETURN_IF_ERROR(step->Load(charsmap));
  return std::shared_ptr<const NormalizerStep>(std::move(step));
}

std::optional<std::string> DecodeBase64(std::string_view text) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::array<int, 256> value_of;
  value_of.fill(-1);
  for (size_t i = 0; i < kDigits.size(); ++i) value_of[static_cast<uint8_t>(kDigits[i])] = static_cast<int>(i);
  if (text.size() % 4 != 0) return std::nullopt;
  for (int i = 0; i < 2 && text.ends_with('='); ++i) text.remove_suffix(1);
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3 + 2);
  uint32_t bits = 0;
  int n_bits = 0;
  for (const char c : text) {
    const int value = value_of[static_cast<uint8_t>(c)];
    if (value < 0) return std::nullopt;
    bits = (bits << 6 | static_cast<uint32_t>(value)) & 0xFFFFF;
    n_bits += 6;
    if (n_bits < 8) continue;
    n_bits -= 8;
    bytes.push_back(static_cast<char>(bits >> n_bits & 0xFF));
  }
  return bytes;
}

}  // namespace spanwise

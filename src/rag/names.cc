#include "rag/names.h"

#include <algorithm>
#include <array>
#include <optional>
#include <set>

#include "base/str.h"
#include "retrieval/sentences.h"
#include "retrieval/unicode.h"
#include "tokenizer/unicode.h"

namespace spanwise::rag {
namespace {

using retrieval::CodePoint;
using retrieval::DecodeAt;
using retrieval::IsAsciiAlpha;
using retrieval::IsAsciiDigit;

// Words with capitals that are no part of a name, besides those of two letters ("Mr", "In").
constexpr std::array<std::string_view, 14> kNoNames = {"and", "but", "for", "her", "his", "its", "mrs",
                                                       "our", "she", "sir", "the", "was", "who", "yes"};

bool IsNoName(std::string_view lower) {
  return lower.size() <= 2 || std::ranges::find(kNoNames, lower) != kNoNames.end();
}

bool IsApostrophe(char32_t c) { return c == '\'' || c == 0x2019; }

bool IsWordAt(std::string_view text, size_t at) {
  if (at >= text.size()) return false;
  const char32_t c = DecodeAt(text, at).value;
  return retrieval::IsWordCharacter(c) && !retrieval::IsUnspaced(c);
}

std::string Lower(std::string_view word) {
  std::string lower;
  for (size_t at = 0; at < word.size();) {
    const CodePoint c = DecodeAt(word, at);
    AppendUtf8(&lower, LowercaseOf(c.value));
    at += c.bytes;
  }
  return lower;
}

// Whether a sentence ends in what stands between two words.
bool EndsSentence(std::string_view between) {
  for (size_t i = 0; i < between.size();) {
    const CodePoint c = DecodeAt(between, i);
    if (c.value == '.' || c.value == '!' || c.value == '?' || c.value == ':' || c.value == ']' || c.value == '\n' ||
        c.value == 0x2026 || c.value == 0x3002 || c.value == 0xFF01 || c.value == 0xFF1F)
      return true;
    i += c.bytes;
  }
  return false;
}

std::optional<int> NumberOf(std::string_view word) {
  constexpr std::array<std::string_view, 20> kUnits = {
      "zero", "one",    "two",    "three",    "four",     "five",    "six",     "seven",     "eight",    "nine",
      "ten",  "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"};
  constexpr std::array<std::string_view, 8> kTens = {"twenty", "thirty",  "forty",  "fifty",
                                                     "sixty",  "seventy", "eighty", "ninety"};
  const std::string_view head = word.substr(0, word.find('-'));
  if (const auto ten = std::ranges::find(kTens, head); ten != kTens.end()) {
    const int tens = 10 * (2 + static_cast<int>(ten - kTens.begin()));
    if (head.size() == word.size()) return tens;
    const auto unit = std::ranges::find(kUnits, word.substr(head.size() + 1));
    if (unit == kUnits.end()) return std::nullopt;
    return tens + static_cast<int>(unit - kUnits.begin());
  }
  const auto unit = std::ranges::find(kUnits, word);
  if (unit == kUnits.end()) return std::nullopt;
  return static_cast<int>(unit - kUnits.begin());
}

// Runs of digits without leading zeros; those of zeros alone say nothing.
std::vector<std::string> DigitRuns(std::string_view word) {
  std::vector<std::string> runs;
  for (size_t i = 0; i < word.size();) {
    size_t end = i;
    while (end < word.size() && IsAsciiDigit(word[end])) ++end;
    const size_t begin = std::min(word.find_first_not_of('0', i), end);
    if (begin < end) runs.emplace_back(word.substr(begin, end - begin));
    i = end + 1;
  }
  return runs;
}

std::string WithoutSeparators(std::string_view word) {
  std::string letters;
  for (const char c : word)
    if (static_cast<unsigned char>(c) >= 0x80 || IsAsciiAlpha(c) || IsAsciiDigit(c)) letters += c;
  return letters;
}

bool IsCode(const std::string& word) { return std::ranges::any_of(word, IsAsciiDigit); }

// Words that stand together and are a name: several with capitals, or a code with what is beside it. Numbers part names
// ("March 1974").
using Name = std::vector<std::string>;

std::vector<Name> NamesOf(const std::vector<NamedWord>& words) {
  std::vector<Name> names;
  Name name;
  const auto end = [&] {
    if (name.size() > 1 || (!name.empty() && IsCode(name[0]))) names.push_back(name);
    name.clear();
  };
  for (const NamedWord& word : words) {
    if (!word.joined) end();
    const bool code = word.digit && !IsAsciiDigit(word.lower[0]);
    if (!code && !word.capital) {
      end();
    } else if (code || !IsNoName(word.lower)) {
      name.push_back(word.lower);
    }
  }
  end();
  return names;
}

// Text as claims are compared with it.
struct Content {
  std::set<std::string, std::less<>> words, codes, numbers;
  std::set<std::pair<std::string, std::string>> pairs;  // of neighbours

  void Add(const std::vector<NamedWord>& more) {
    const NamedWord* last = nullptr;
    for (const NamedWord& word : more) {
      words.insert(word.lower);
      for (const std::string_view part : Split(word.lower, '-')) words.emplace(part);
      if (word.digit) {
        codes.insert(WithoutSeparators(word.lower));
        for (std::string& run : DigitRuns(word.lower)) numbers.insert(std::move(run));
      } else if (const auto number = NumberOf(word.lower)) {
        numbers.insert(std::to_string(*number));
      }
      if (last) pairs.emplace(last->lower, word.lower);
      last = &word;
    }
  }

  bool HasNumber(const NamedWord& word) const {
    if (words.contains(word.lower) || codes.contains(WithoutSeparators(word.lower))) return true;
    if (!IsAsciiDigit(word.lower[0])) return false;
    return std::ranges::all_of(DigitRuns(word.lower), [&](const std::string& run) { return numbers.contains(run); });
  }

  bool HasNeighboursOf(const Name& name) const {
    for (size_t i = 0; i + 1 < name.size(); ++i)
      if (pairs.contains({name[i], name[i + 1]})) return true;
    return false;
  }
  bool HasWordsOf(const Name& name) const {
    return std::ranges::all_of(name, [&](const std::string& word) { return words.contains(word); });
  }
  bool HasWordOf(const Name& name) const {
    return std::ranges::any_of(
        name, [&](const std::string& word) { return words.contains(word) || codes.contains(WithoutSeparators(word)); });
  }
  bool HasName(const Name& name) const { return HasNeighboursOf(name) || HasWordsOf(name); }
};

bool ShareAWord(const Name& a, const Name& b) {
  return std::ranges::any_of(a, [&](const std::string& word) { return std::ranges::find(b, word) != b.end(); });
}

std::string Spoken(const Name& name, const std::vector<NamedWord>& words) {
  std::string text;
  for (const std::string& part : name) {
    const auto word = std::ranges::find(words, part, &NamedWord::lower);
    text += (text.empty() ? "" : " ") + std::string(word->text);
  }
  return text;
}

// The last sentence, without a list's number before it.
std::string_view LastClaim(std::string_view text) {
  text = Trim(text);
  if (const size_t line = text.rfind('\n'); line != std::string_view::npos) text.remove_prefix(line + 1);
  if (const auto sentences = retrieval::SplitSentences(text); !sentences.empty())
    text = text.substr(sentences.back().begin, sentences.back().size());
  size_t digits = 0;
  while (digits < text.size() && IsAsciiDigit(text[digits])) ++digits;
  if (digits > 0 && digits + 1 < text.size() && (text[digits] == '.' || text[digits] == ')') && text[digits + 1] == ' ')
    text.remove_prefix(digits + 1);
  return text;
}

}  // namespace

std::vector<NamedWord> WordsWithNames(std::string_view text) {
  std::vector<NamedWord> words;
  size_t end_of_last = 0;
  for (size_t i = 0; i < text.size();) {
    if (!IsWordAt(text, i)) {
      i += DecodeAt(text, i).bytes;
      continue;
    }
    const size_t begin = i;
    NamedWord word;
    size_t apostrophe = 0;  // the last one within the word
    while (i < text.size()) {
      const CodePoint c = DecodeAt(text, i);
      if (IsWordAt(text, i)) {
        word.digit = word.digit || IsAsciiDigit(c.value);
        i += c.bytes;
        continue;
      }
      const bool between_digits = IsAsciiDigit(text[i - 1]) && i + 1 < text.size() && IsAsciiDigit(text[i + 1]);
      const bool joins = c.value == '-' || IsApostrophe(c.value) ||
                         (between_digits && (c.value == '.' || c.value == ',' || c.value == ':' || c.value == '/'));
      if (!joins || !IsWordAt(text, i + c.bytes)) break;
      if (IsApostrophe(c.value)) apostrophe = i;
      i += c.bytes;
    }
    word.text = text.substr(begin, i - begin);
    if (apostrophe > 0 && (text.substr(apostrophe, i - apostrophe).ends_with("s") && i - apostrophe <= 4))
      word.text = text.substr(begin, apostrophe - begin);
    word.lower = Lower(word.text);
    const std::string_view between = text.substr(end_of_last, begin - end_of_last);
    word.first = words.empty() || EndsSentence(between);
    const char32_t initial = DecodeAt(text, begin).value;
    word.capital = LowercaseOf(initial) != initial && (word.digit || !word.first || !IsNoName(word.lower));
    word.joined = !words.empty() && between.find_first_not_of(" &") == std::string_view::npos &&
                  end_of_last == static_cast<size_t>(words.back().text.data() + words.back().text.size() - text.data());
    end_of_last = i;
    words.push_back(std::move(word));
  }
  for (size_t k = 0; k < words.size(); ++k) {
    const auto beside = [&](size_t other, const NamedWord& later) {
      return other < words.size() && later.joined && (words[other].capital || words[other].digit);
    };
    NamedWord& word = words[k];
    const bool in_run = (k > 0 && beside(k - 1, word)) || (k + 1 < words.size() && beside(k + 1, words[k + 1]));
    const bool letters =
        std::ranges::any_of(word.text, [](char c) { return IsAsciiAlpha(c) || static_cast<unsigned char>(c) >= 0x80; });
    word.name = word.digit ? (letters || in_run) : word.capital && (!word.first || in_run);
  }
  return words;
}

std::vector<std::string> Unsupported(std::string_view text, std::span<const ClaimSource> sources, size_t i) {
  const std::vector<NamedWord> claim = WordsWithNames(LastClaim(text));
  Content all;
  for (const ClaimSource& source : sources) {
    all.Add(WordsWithNames(source.title));
    all.Add(WordsWithNames(source.text));
  }
  // What the sentence is about is no value of it: a passage from the middle of a text need not name it.
  const auto subject = std::ranges::find(claim, true, &NamedWord::name);
  auto behind = subject;
  while (behind != claim.end() && behind->name && (behind == subject || behind->joined)) ++behind;
  std::vector<std::string> missing;
  for (auto word = claim.begin(); word != claim.end(); ++word) {
    if (!word->digit || (word >= subject && word < behind)) continue;
    const bool counts_them = word->lower.size() == 1 && static_cast<size_t>(word->lower[0] - '0') <= sources.size();
    if (!counts_them && !all.HasNumber(*word)) missing.emplace_back(word->text);
  }

  Content quote, own;
  own.Add(WordsWithNames(sources[i].title));
  own.Add(WordsWithNames(sources[i].text));
  const std::vector<NamedWord> quoted = WordsWithNames(sources[i].quote);
  quote.Add(quoted);
  Content claimed;
  claimed.Add(claim);
  std::vector<Name> others = NamesOf(quoted);  // that the quote is about and the claim is not
  std::erase_if(others, [&](const Name& name) { return claimed.HasName(name); });
  const bool apart = std::ranges::any_of(others, [&](const Name& other) { return !claimed.HasWordOf(other); });
  for (const Name& name : NamesOf(claim)) {
    if (quote.HasName(name)) continue;
    if (std::ranges::any_of(missing, [&](const std::string& word) { return std::ranges::count(name, Lower(word)); }))
      continue;
    const bool sibling = std::ranges::any_of(others, [&](const Name& other) { return ShareAWord(name, other); });
    // "Captain Osterlake" is no sibling of "Bram Osterlake" where the source speaks of a captain.
    const bool described = std::ranges::none_of(name, IsCode) && own.HasWordsOf(name) && !own.HasNeighboursOf(name);
    if ((sibling && !described) || (apart && !all.HasName(name))) missing.push_back(Spoken(name, claim));
  }
  return missing;
}

}  // namespace spanwise::rag

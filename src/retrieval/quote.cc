#include "retrieval/quote.h"

#include <algorithm>
#include <array>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "retrieval/blocks.h"
#include "retrieval/unicode.h"
#include "retrieval/words.h"

namespace spanwise::retrieval {
namespace {

constexpr double kNumberWeight = 3.0, kNameWeight = 2.0, kWordWeight = 1.0, kCommonWeight = 0.05;

constexpr std::array<std::string_view, 77> kCommon = {
    "a",   "about", "all",  "also", "an",    "and",   "any",  "are",  "as",    "at",    "be",    "been", "but",
    "by",  "can",   "did",  "do",   "does",  "for",   "from", "had",  "has",   "have",  "he",    "her",  "his",
    "how", "i",     "if",   "in",   "into",  "is",    "it",   "its",  "may",   "more",  "most",  "no",   "not",
    "of",  "on",    "one",  "only", "or",    "other", "our",  "she",  "so",    "some",  "such",  "than", "that",
    "the", "their", "them", "then", "there", "these", "they", "this", "those", "to",    "under", "up",   "was",
    "we",  "were",  "what", "when", "where", "which", "who",  "will", "with",  "would", "you",   "your"};

struct Word {
  std::string stem;
  double weight = kWordWeight;
};

// Inside a number or code: "41,300", "27-45-16", "06:40", "3.5", "2025/12".
bool JoinsDigits(char c) { return c == ',' || c == '.' || c == '-' || c == ':' || c == '/' || c == '\''; }

// Light and only ever compared with itself: "employees" and "employee", "weighs" and "weigh", "founded" and "found".
std::string Stem(std::string word) {
  if (word.ends_with("ies") && word.size() > 4) return word.replace(word.size() - 3, 3, "y");
  if ((word.ends_with("es") || word.ends_with("ed")) && word.size() > 4)
    word.resize(word.size() - 2);
  else if (word.ends_with("s") && !word.ends_with("ss") && word.size() > 3)
    word.pop_back();
  else if (word.ends_with("ing") && word.size() > 5)
    word.resize(word.size() - 3);
  if (word.ends_with('e') && word.size() > 3) word.pop_back();
  return word;
}

// Also in half width, where a voicing mark is a character of its own.
bool IsPaired(char32_t c) { return IsCutInPairs(c) || (c >= 0xFF66 && c <= 0xFFDC); }

std::vector<Word> WordsOf(std::string_view text) {
  std::vector<Word> words;
  bool first = true;
  for (size_t i = 0; i < text.size();) {
    const CodePoint start = DecodeAt(text, i);
    if (!IsWordCharacter(start.value)) {
      i += start.bytes;
      continue;
    }
    if (IsPaired(start.value)) {
      const size_t begin = i;
      while (i < text.size() && IsPaired(DecodeAt(text, i).value)) i += DecodeAt(text, i).bytes;
      ForEachTerm(Fold(text.substr(begin, i - begin)), [&](const Term& term) {
        if (term.kind != Term::kLast) words.push_back({ToUtf8(term.text)});
      });
      first = false;
      continue;
    }
    std::string word;
    size_t part = i;  // what follows the last sign inside a number
    const auto close = [&] { word += ToUtf8(Fold(text.substr(part, i - part))); };
    while (i < text.size()) {
      const CodePoint c = DecodeAt(text, i);
      if (IsWordCharacter(c.value) && !IsPaired(c.value)) {
        i += c.bytes;
      } else if (i + 1 < text.size() && JoinsDigits(text[i]) && i > part && IsAsciiDigit(text[i + 1]) &&
                 IsAsciiDigit(text[i - 1])) {
        close();
        if (text[i] != ',' && text[i] != '\'') word += text[i];  // 41,300 is 41300
        part = ++i;
      } else {
        break;
      }
    }
    close();
    const bool digits = std::any_of(word.begin(), word.end(), [](char c) { return c >= '0' && c <= '9'; });
    const bool common = std::binary_search(kCommon.begin(), kCommon.end(), word);
    // A capital says name, except where every sentence has one.
    const bool name = !first && (IsAsciiUpper(start.value) || start.value >= 0x80);
    const double weight = digits ? kNumberWeight : common ? kCommonWeight : name ? kNameWeight : kWordWeight;
    const bool possessive = word == "s" && !words.empty();
    if (!possessive) words.push_back({digits ? word : Stem(word), weight});
    first = false;
  }
  return words;
}

}  // namespace

std::vector<ByteRange> Quotable(std::string_view source) {
  std::vector<ByteRange> ranges;
  for (const Block& block : ParseBlocks(source, DocumentFormat::kMarkdown)) {
    const std::string_view text = source.substr(block.range.begin, block.range.size());
    if (block.kind == BlockKind::kTable || block.kind == BlockKind::kCode) {
      for (size_t begin = 0; begin < text.size();) {
        const size_t end = std::min(text.find('\n', begin), text.size());
        for (const ByteRange line : SplitSentences(text.substr(begin, end - begin)))
          // The whole line: from its first sentence to its last.
          if (!ranges.empty() && ranges.back().end > block.range.begin + begin) {
            ranges.back().end = block.range.begin + begin + line.end;
          } else {
            ranges.push_back({block.range.begin + begin + line.begin, block.range.begin + begin + line.end});
          }
        begin = end + 1;
      }
      continue;
    }
    for (const ByteRange sentence : SplitSentences(text))
      ranges.push_back({block.range.begin + sentence.begin, block.range.begin + sentence.end});
  }
  return ranges;
}

Quote BestQuote(std::string_view source, std::string_view answer_sentence) {
  std::unordered_map<std::string, double> wanted;
  double total = 0;
  for (Word& word : WordsOf(answer_sentence)) {
    double& weight = wanted[std::move(word.stem)];
    if (word.weight <= weight) continue;
    total += word.weight - weight;
    weight = word.weight;
  }
  Quote best;
  if (total <= 0) return best;
  for (const ByteRange range : Quotable(source)) {
    double found = 0;
    std::unordered_set<std::string> seen;
    for (Word& word : WordsOf(source.substr(range.begin, range.size()))) {
      const auto it = wanted.find(word.stem);
      if (it != wanted.end() && seen.insert(std::move(word.stem)).second) found += it->second;
    }
    // Sums in another order differ in their last bits; that must not decide between equal sentences.
    if (const double score = std::min(1.0, found / total); score > best.score + 1e-9) best = {range, score};
  }
  return best;
}

}  // namespace spanwise::retrieval

// The names and numbers of a text, and whether a source has those of a claim.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace spanwise::rag {

struct NamedWord {
  std::string_view text;  // as written, without a possessive ending
  std::string lower;
  bool digit = false;    // has one of ASCII's
  bool capital = false;  // begins with one, and is not merely "The" or "In" at the start of a sentence
  bool first = false;    // of a sentence or line
  bool joined = false;   // to the word before it by spaces or "&" alone
  // A word with a capital that does not begin a sentence or has another such word beside it, or with letters and
  // digits; digits alone where they stand beside a word with a capital.
  bool name = false;
};

// In order. Hyphens and apostrophes within a word, and stops, commas, colons and slashes between digits belong to it.
// Of scripts without spaces between words nothing is a word. Any bytes; what is not UTF-8 parts words. A pure function.
std::vector<NamedWord> WordsWithNames(std::string_view text);

// A source as far as claims are compared with it.
struct ClaimSource {
  std::string_view title, text;
  std::string_view quote;  // of its text, for the claim
};

// What speaks against citing `sources`, which a claim names together, for the claim, in its own words:
//   - numbers and codes that none of them has. Numbers are compared by their digits, so that 41,300 is 41.300 and
//     9 March 1974 has the numbers of 1974-03-09; English number words count. A number of one digit may count the
//     sources. What the sentence is about, its first name, is left to the next point.
//   - names of several words, and codes, where sources[i] has none of them and its quote is about another name, and
//   where
//     its quote is about a sibling: a name that shares a word (Cawick T40 and T45, Ilse and Ida Corvane).
// The claim is the last sentence of `text`. Empty where nothing does. REQUIRES: i < sources.size().
std::vector<std::string> Unsupported(std::string_view text, std::span<const ClaimSource> sources, size_t i);

}  // namespace spanwise::rag

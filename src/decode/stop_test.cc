#include "decode/stop.h"

#include <gtest/gtest.h>

#include <random>

#include "base/str.h"

namespace spanwise::decode {
namespace {

struct Outcome {
  std::string text;
  std::optional<size_t> matched;
  bool operator==(const Outcome&) const = default;
};

// The definition: the first end at which some stop string stands complete; of those ending there, the longest.
Outcome Reference(const std::string& text, const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    Outcome out;
    for (size_t i = 0; i < stops.size(); ++i) {
      if (!text.substr(0, end).ends_with(stops[i])) continue;
      if (!out.matched || stops[i].size() > stops[*out.matched].size())
        out = {text.substr(0, end - stops[i].size()), i};
    }
    if (out.matched) return out;
  }
  return {text, {}};
}

// Pushes `text` cut where `cuts` has a bit, and checks at each step that no more is held back than may be needed.
Outcome RunCut(const std::string& text, const std::vector<std::string>& stops, uint64_t cuts) {
  StopMatcher matcher(stops);
  std::string out;
  size_t begin = 0;
  for (size_t end = 1; end <= text.size(); ++end) {
    if (end < text.size() && !(cuts >> (end - 1) & 1)) continue;
    out += matcher.Push(std::string_view(text).substr(begin, end - begin));
    begin = end;
    if (matcher.matched()) continue;
    size_t held = 0;  // the longest end of the text that begins a stop string
    for (const std::string& stop : stops)
      for (size_t n = 1; n < stop.size(); ++n)
        if (n > held && text.substr(0, end).ends_with(stop.substr(0, n))) held = n;
    EXPECT_EQ(out.size(), CompleteUtf8Prefix(std::string_view(text).substr(0, end - held)))
        << "after " << text.substr(0, end);
    EXPECT_TRUE(IsValidUtf8(out));
  }
  return {out + matcher.Finish(), matcher.matched()};
}

TEST(Stop, CutsEveryWayGiveOneResult) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> cases = {
      {"hello world", {"lo w"}},
      {"hello world", {"xyz"}},
      {"aabaabaaab", {"aaab"}},
      {"abcabcabd!", {"abcabd"}},
      {"one\n\ntwo", {"\n\n", "two"}},
      {"xabcdy", {"abcd", "bc"}},
      {"xabcdy", {"d", "bcd"}},
      {"gr\xc3\xbc\xc3\x9f e", {"\xc3\x9f"}},
      {"a\xf0\x9f\x99\x82"
       "b",
       {"\xf0\x9f\x99\x83"}},
      {"ababac", {"abac", "babab"}},
      {"stop", {"stop"}},
      {"sto", {"stop"}},
  };
  for (const auto& [text, stops] : cases) {
    const Outcome expected = Reference(text, stops);
    for (uint64_t cuts = 0; cuts < uint64_t{1} << (text.size() - 1); ++cuts)
      ASSERT_EQ(RunCut(text, stops, cuts), expected) << Quoted(text) << " cut by " << cuts;
  }
}

TEST(Stop, AgreesWithTheDefinitionOnRandomText) {
  std::mt19937_64 rng(3);
  const auto random_text = [&](size_t max) {
    std::string s;
    for (size_t n = 1 + rng() % max; n > 0; --n) s += "ab\n"[rng() % 3];
    return s;
  };
  for (int i = 0; i < 20000; ++i) {
    const std::string text = random_text(40);
    std::vector<std::string> stops;
    for (size_t n = 1 + rng() % 3; n > 0; --n) stops.push_back(random_text(6));
    ASSERT_EQ(RunCut(text, stops, rng()), Reference(text, stops)) << Quoted(text);
  }
}

TEST(Stop, WithoutStopStringsEverythingPasses) {
  StopMatcher matcher({});
  EXPECT_EQ(matcher.Push("abc"), "abc");
  EXPECT_EQ(matcher.Push("d\xc3"), "d");
  EXPECT_EQ(matcher.Push("\xbc"), "\xc3\xbc");
  EXPECT_EQ(matcher.Push("e\xe2\x82"), "e");
  EXPECT_EQ(matcher.Finish(), "\xef\xbf\xbd");
  EXPECT_EQ(matcher.Finish(), "");
}

TEST(Stop, BeforeMinTokensAMatchIsText) {
  StopMatcher matcher({"END"});
  EXPECT_EQ(matcher.Push("a END b E", false), "a END b ");
  EXPECT_EQ(matcher.Push("ND c", true), "");
  EXPECT_EQ(matcher.matched(), 0u);
  EXPECT_EQ(matcher.Push("more"), "");
  EXPECT_EQ(matcher.Finish(), "");
}

TEST(Stop, ACopyIsACheckpoint) {
  StopMatcher matcher({"stop"});
  EXPECT_EQ(matcher.Push("a st"), "a ");
  StopMatcher checkpoint = matcher;
  EXPECT_EQ(matcher.Push("op"), "");
  EXPECT_TRUE(matcher.matched());
  EXPECT_EQ(checkpoint.Push("ay"), "stay");
}

}  // namespace
}  // namespace spanwise::decode

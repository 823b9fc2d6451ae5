#include "prompt/normal_text.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace spanwise {
namespace {

std::string Normal(const std::string& text) {
  const auto normal = NormalText(text).value();
  return normal ? normal->text : text;
}

TEST(NormalText, IsWhatAReaderSees) {
  EXPECT_EQ(Normal("a\r\nb\rc\n\r\nd"), "a\nb\nc\n\nd");
  EXPECT_EQ(Normal("\xEF\xBB\xBF"
                   "caf\u00e9"),
            "caf\u00e9");
  EXPECT_EQ(Normal("cafe\u0301 \u1112\u1161\u11ab"), "caf\u00e9 \ud55c");
  EXPECT_EQ(Normal("text \n\t\u00a0\u3000\r\n"), "text");
  EXPECT_EQ(Normal("  first\n  second"), "  first\n  second");  // indentation says something
  EXPECT_EQ(Normal("a  \nb\t\n"), "a  \nb");                    // and so may the ends of lines
  EXPECT_EQ(Normal(" \r\n\u2003 "), "");
  EXPECT_EQ(Normal("\xEF\xBB\xBF\xEF\xBB\xBF\r\n"), "");
  EXPECT_EQ(Normal("x\xEF\xBB\xBF"), "x\xEF\xBB\xBF");  // elsewhere it is no mark
  EXPECT_EQ(NormalText("").value(), nullptr);
  EXPECT_EQ(NormalText("plain\ntext, caf\u00e9").value(), nullptr);
  EXPECT_EQ(NormalText("\xff\r\n").value(), nullptr);  // whoever reads it says so
}

TEST(NormalText, KnowsWhereEveryByteComesFrom) {
  const std::string text =
      "\xEF\xBB\xBF"
      "a\r\ne\u0301b\r";
  const auto normal = NormalText(text).value();
  ASSERT_EQ(normal->text, "a\n\u00e9b");
  const auto original = [&](size_t begin, size_t end) {
    const size_t from = normal->sources[begin].begin;
    return text.substr(from, normal->sources[end - 1].end - from);
  };
  EXPECT_EQ(original(0, 1), "a");
  EXPECT_EQ(original(1, 2), "\r\n");
  EXPECT_EQ(original(2, 4), "e\u0301");
  EXPECT_EQ(original(4, 5), "b");
  EXPECT_EQ(original(0, 5), "a\r\ne\u0301b");
}

TEST(NormalText, HoldsForTextsMadeOfAnything) {
  const std::vector<std::string> parts = {"a",      "e",      "o",      " ",      "\n",     "\r",
                                          "\r\n",   "\u0301", "\u0323", "\u00e9", "\u212b", "\u1112",
                                          "\u1161", "\u11ab", "\ud55c", "\u4e2d", "\u0344", "\uf900",
                                          "\ufeff", "\u3000", "\u0f73", "\u09c7", "\u09be", "\U0001f600"};
  std::mt19937 random(5);
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    for (unsigned n = 1 + random() % 12; n > 0; --n) text += parts[random() % parts.size()];
    const auto normal = NormalText(text).value();
    const std::string once = normal ? normal->text : text;
    EXPECT_EQ(NormalText(once).value(), nullptr) << testing::PrintToString(text);
    EXPECT_EQ(once.find('\r'), std::string::npos);
    // Other ways to write the same down.
    std::string dos = "\ufeff";
    for (const char c : once) dos += c == '\n' ? std::string("\r\n") : std::string(1, c);
    if (!once.starts_with("\ufeff")) {
      EXPECT_EQ(Normal(dos + " \r\n"), once);
    }
    if (!normal) continue;
    // Each byte has its place, in order; characters are never cut.
    ASSERT_EQ(normal->sources.size(), once.size());
    uint32_t last = 0;
    for (size_t i = 0; i < once.size(); ++i) {
      const ByteRange source = normal->sources[i];
      ASSERT_LT(source.begin, source.end);
      ASSERT_LE(source.end, text.size());
      ASSERT_LE(last, source.begin);
      last = source.begin;
      const auto begins = [&](size_t at) {
        return at == text.size() || (static_cast<uint8_t>(text[at]) & 0xC0) != 0x80;
      };
      ASSERT_TRUE(begins(source.begin) && begins(source.end));
    }
  }
}

}  // namespace
}  // namespace spanwise

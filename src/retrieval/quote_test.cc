#include "retrieval/quote.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "base/str.h"

namespace spanwise::retrieval {
namespace {

std::string QuoteText(std::string_view source, std::string_view answer) {
  const Quote quote = BestQuote(source, answer);
  return std::string(source.substr(quote.range.begin, quote.range.size()));
}

constexpr std::string_view kPump =
    "# Cawick T40\n\nThe Cawick T40 is a pump. The Cawick T40 weighs 12 kg, less than the T45's 14 kg. It was first "
    "sold in "
    "1998.\n\n- Price: 415 crowns\n- Colour: grün\n\n| part | code |\n|---|---|\n| valve | 27-45-16 |\n| seal | "
    "27-45-61 |\n";

TEST(BestQuote, PicksTheSupportingSentence) {
  EXPECT_EQ(QuoteText(kPump, "The Cawick T40 weighs 12 kg."),
            "The Cawick T40 weighs 12 kg, less than the T45's 14 kg.");
  EXPECT_EQ(QuoteText(kPump, "It costs 415 crowns."), "- Price: 415 crowns");
  EXPECT_EQ(QuoteText(kPump, "The colour is grün."), "- Colour: grün");
  EXPECT_EQ(QuoteText(kPump, "The code of the valve is 27-45-16."), "| valve | 27-45-16 |");
  EXPECT_EQ(QuoteText(kPump, "Sales began in 1998."), "It was first sold in 1998.");
}

TEST(BestQuote, ScoresTheShareOfTheAnswer) {
  EXPECT_DOUBLE_EQ(BestQuote(kPump, "The Cawick T40 is a pump.").score, 1.0);
  const double half = BestQuote(kPump, "The Cawick T40 plays the violin beautifully.").score;
  EXPECT_GT(half, 0.2);
  EXPECT_LT(half, 0.9);
  const Quote none = BestQuote(kPump, "Zebras gallop.");
  EXPECT_EQ(none.score, 0);
  EXPECT_EQ(none.range.size(), 0u);
  EXPECT_EQ(BestQuote("", "x").score, 0);
  EXPECT_EQ(BestQuote(kPump, "").score, 0);
  EXPECT_EQ(BestQuote(kPump, " ?! ").score, 0);
}

TEST(BestQuote, TiesGoToTheFirst) {
  EXPECT_EQ(BestQuote("Same words here. Same words here.", "same words").range, (ByteRange{0, 16}));
}

TEST(BestQuote, ComparesNumbersAndEndings) {
  EXPECT_EQ(QuoteText("It has 41,300 inhabitants. It has 41,301 cows.", "There are 41300 people."),
            "It has 41,300 inhabitants.");
  EXPECT_EQ(QuoteText("Ilse was born there. The firm employs 310 people.", "The firm's employees"),
            "The firm employs 310 people.");
}

TEST(BestQuote, WorksWithoutSpaces) {
  EXPECT_EQ(QuoteText("大阪は西にある。東京は日本の首都である。京都は古い。", "日本の首都は東京です。"),
            "東京は日本の首都である。");
}

TEST(BestQuote, ComparesFoldedWords) {
  EXPECT_EQ(QuoteText("Η Σπάρτη είναι αλλού. Η Αθήνα είναι εδώ.", "ΑΘΗΝΑ"), "Η Αθήνα είναι εδώ.");
  EXPECT_EQ(QuoteText("Der Weg ist lang. Die Straße ist neu.", "NEUE STRASSE"), "Die Straße ist neu.");
  EXPECT_EQ(QuoteText("水箱重３０公斤。水泵重２５公斤。", "水泵重25公斤"), "水泵重２５公斤。");
  EXPECT_EQ(QuoteText("ランプは古い。ポンプは新しい。", "ﾎﾟﾝﾌﾟ"), "ポンプは新しい。");
  EXPECT_EQ(QuoteText("등대는 높다. 펌프는 무겁다.", "펌프가 있다"), "펌프는 무겁다.");
  EXPECT_EQ(QuoteText("المنارة قديمة. وزن المضخّة ١٤ كيلو.", "المضخة 14"), "وزن المضخّة ١٤ كيلو.");
}

TEST(BestQuote, IsSoundForRandomBytes) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 3000; ++round) {
    std::string source, answer;
    for (size_t n = random() % 120; n > 0; --n) source += static_cast<char>(random() % (round % 2 ? 256 : 128));
    for (size_t n = random() % 20; n > 0; --n) answer += source.empty() ? 'x' : source[random() % source.size()];
    const Quote quote = BestQuote(source, answer);
    ASSERT_LE(quote.range.begin, quote.range.end);
    ASSERT_LE(quote.range.end, source.size());
    ASSERT_GE(quote.score, 0);
    ASSERT_LE(quote.score, 1);
    ASSERT_EQ(quote.score > 0, quote.range.size() > 0);
  }
}

}  // namespace
}  // namespace spanwise::retrieval

#include "rag/names.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace spanwise::rag {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::string NamesIn(std::string_view text) {
  std::string names;
  for (const NamedWord& word : WordsWithNames(text))
    if (word.name) names += (names.empty() ? "" : " ") + std::string(word.text);
  return names;
}

TEST(WordsWithNames, FindsCapitalsAndCodes) {
  EXPECT_EQ(NamesIn("How much does the Cawick T40 weigh?"), "Cawick T40");
  EXPECT_EQ(NamesIn("What is it? Who made it?\nAnd when?"), "");
  EXPECT_EQ(NamesIn("Ilse Corvane's extension"), "Ilse Corvane");
  EXPECT_EQ(NamesIn("is k-2203 due in 30 days, and Incident 40817 in 5?"), "k-2203 Incident 40817");
  EXPECT_EQ(NamesIn("Où est Élise, à Ньюпорт?"), "Élise Ньюпорт");
  EXPECT_EQ(NamesIn("The report says 3.5 (see “Annex”)"), "Annex");
  EXPECT_EQ(NamesIn("水泵T40重14公斤"), "T40");
  EXPECT_EQ(NamesIn("\xff\xfe \xe2\x82"), "");
}

const std::string kT40 =
    "The Cawick T40 is a pump. The Cawick T40 weighs 12 kg. The Cawick T40 has run for thirty-six days and costs 2.400 "
    "crowns since 1974-03-09. Captain of the team is Bram Osterlake, the captain.";
const std::string kT45 = "The Cawick T45 is a pump. The Cawick T45 has a warranty of 36 months; the T40 has none.";

std::vector<std::string> Against(std::string_view claim, const std::string& text, std::string_view quote,
                                 std::string_view title = "Cawick") {
  const std::vector<ClaimSource> sources = {{title, text, quote}};
  return Unsupported(claim, sources, 0);
}

TEST(Unsupported, LetsClaimsStandThatTheSourceMakes) {
  const std::string_view quote = "The Cawick T40 weighs 12 kg.";
  for (const char* claim :
       {"The Cawick T40 weighs 12 kg", "It weighs 12kg.", "**Key Facts** the T-40 weighs 12 kg", "1. It weighs 12 kg",
        "Yes, it has run for 36 days", "it costs 2,400 crowns", "Since 9 March 1974 it is sold",
        "Captain Osterlake leads", "Mr Osterlake leads", "The pump is heavy", "", "水泵重12公斤",
        "The Harlow Cawick T40 weighs 12 kg", "It has 99 pumps.\nIt weighs 12 kg"})
    EXPECT_THAT(Against(claim, kT40, quote), IsEmpty()) << claim;
}

TEST(Unsupported, NamesNumbersThatTheSourceHasNot) {
  EXPECT_THAT(Against("The Cawick T40 has a warranty of 48 months", kT40, "The Cawick T40 weighs 12 kg."),
              ElementsAre("48"));
  EXPECT_THAT(Against("It is reset with 27-40-16", kT40, kT40), ElementsAre("27-40-16"));
  EXPECT_THAT(Against("The T41 weighs 12 kg", kT40, kT40), ElementsAre("T41"));
}

TEST(Unsupported, TellsSiblingsApart) {
  const std::string_view quote = "The Cawick T45 has a warranty of 36 months; ";
  EXPECT_THAT(Against("The Cawick T40 has a warranty of 36 months", kT45, quote), ElementsAre("Cawick T40"));
  EXPECT_THAT(Against("The Cawick T45 has a warranty of 36 months", kT45, quote), IsEmpty());
  EXPECT_THAT(Against("Unlike the Cawick T40, the Cawick T45 has a warranty of 36 months", kT45, quote), IsEmpty());
  const std::string ida = "Ida Corvane leads Ostrel Works. Ida Corvane was born in Norrenholm.";
  EXPECT_THAT(Against("Ilse Corvane was born in Norrenholm", ida, "Ida Corvane was born in Norrenholm."),
              ElementsAre("Ilse Corvane"));
  EXPECT_THAT(Against("CEO Ida Corvane was born in Norrenholm", ida, "Ida Corvane was born in Norrenholm."), IsEmpty());
  const std::string bram = "Bram Osterlake has staff number DB40416.";
  EXPECT_THAT(Against("Anneke Torrow has staff number DB40416", bram, bram), ElementsAre("Anneke Torrow"));
}

TEST(Unsupported, TakesSourcesTogetherThatAreNamedTogether) {
  const std::vector<ClaimSource> sources = {{"T40", kT40, "The Cawick T40 weighs 12 kg."},
                                            {"T45", kT45, "The Cawick T45 has a warranty of 36 months;"}};
  for (const size_t i : {0u, 1u}) {
    EXPECT_THAT(Unsupported("The Cawick T40 weighs 12 kg, the Cawick T45 is guaranteed for 36 months", sources, i),
                IsEmpty());
    EXPECT_THAT(Unsupported("Both weigh 99 kg", sources, i), ElementsAre("99"));
  }
}

}  // namespace
}  // namespace spanwise::rag

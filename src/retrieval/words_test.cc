#include "retrieval/words.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "base/str.h"

namespace spanwise::retrieval {
namespace {

using ::testing::ElementsAre;

std::string Folded(std::string_view text) { return ToUtf8(Fold(text)); }

std::vector<std::string> Terms(std::string_view text) {
  std::vector<std::string> terms;
  ForEachTerm(Fold(text), [&](const Term& term) {
    static constexpr const char* kMarks[] = {"", "-", "", "!", "."};
    terms.push_back(kMarks[term.kind] + ToUtf8(term.text));
  });
  return terms;
}

TEST(Fold, TakesWhatReadersTakeForTheSame) {
  struct Case {
    std::string_view text, folded;
  };
  for (const Case& c :
       std::vector<Case>{// Latin
                         {"ﬁlter oﬃce", "filter office"},
                         {"pump\u00ADhouse pump\u200Bhouse \uFEFFpump\u2060house\u200D \u202Bpump\u202C",
                          "pumphouse pumphouse pumphouse pump"},
                         {"Straße STRASSE STRAẞE", "strasse strasse strasse"},
                         {"IĞDIR ığdır İstanbul ISTANBUL i\u0307", "igdir igdir istanbul istanbul i"},
                         {"Zürich Zu\u0308rich Ñandú", "zurich zurich nandu"},
                         {"Łódź Øre Æsir Œuvre Þór Đà đường ð", "lodz ore aesir oeuvre thor da duong d"},
                         {"２５ ＡＢＣ１２３ 10 m² ㎏ № 2½ ①", "25 abc123 10 m2 kg no 2 1 2 1"},
                         {"ſ K Å ŀ", "s k a l"},
                         {"d'eau d\u02BCeau d\u2019eau", "d eau d eau d eau"},
                         // Greek, Cyrillic
                         {"Αθήνα ΑΘΗΝΑ Ἀθῆναι", "αθηνα αθηνα αθηναι"},
                         {"ΟΔΟΣ οδός ᾘ ϐ", "οδοσ οδοσ ηι β"},
                         {"Ёлка ёлка за\u0301мок", "елка елка замок"},
                         {"мой й и\u0306 ї ў Ѓ Ќ", "мой й й ї ў ѓ ќ"},
                         // Hebrew, Arabic
                         {"דְּבַשׁ שלום", "דבש שלומ"},
                         {"مُضَخّة أحمد إلى آخر ٱلله على", "مضخه احمد الي اخر الله علي"},
                         {"مــاء ١٤ ۱۴ کتابی سؤال ﻻ", "ماء 14 14 كتابي سوال لا"},
                         {"می\u200Cخواهم", "مي خواهم"},
                         // Japanese, Korean, Chinese
                         {"ﾎﾟﾝﾌﾟ ポンプ ホ\u309Aンフ\u309A", "ポンプ ポンプ ポンプ"},
                         {"か が か\u3099", "か が が"},
                         {"펌프 \u1111\u1165\u11B7\u1111\u1173", "펌프 펌프"},
                         {"水泵，14公斤。㌔", "水泵 14公斤 キロ"},
                         // Scripts that write vowels as marks keep them
                         {"नमस्ते ज़मीन जमीन १४", "नमस्ते जमीन जमीन 14"},
                         {"தமிழ் ៣ ကြ", "தமிழ் 3 ကြ"},
                         {"น้ำ น\u0E49\u0E4D\u0E32 ไม้ ไม่", "น\u0E49\u0E4Dา น\u0E49\u0E4Dา ไม้ ไม่"},
                         {"ก\u0E49\u0E38 ก\u0E38\u0E49", "ก\u0E38\u0E49 ก\u0E38\u0E49"},
                         // Nothing
                         {" …\t—\u3000「」 \xff\xe6\xb1 \xed\xa0\x80 \xc0\x80 \u0301", ""},
                         {std::string_view("a\0b", 3), "a b"}})
    EXPECT_EQ(Folded(c.text), c.folded) << c.text;
}

TEST(Fold, IsIdempotentForRandomText) {
  std::mt19937 random(7);
  for (int round = 0; round < 20'000; ++round) {
    std::string text;
    for (size_t n = random() % 12; n > 0; --n) {
      char32_t c = random() % (round % 3 ? 0x3400 : 0x110000);
      if (round % 5 == 0) c = 0x300 + random() % 0x70;
      if (c >= 0xD800 && c < 0xE000) c = 'x';
      AppendUtf8(&text, c);
    }
    if (round % 7 == 0 && !text.empty()) text[random() % text.size()] = static_cast<char>(random());
    const std::string once = Folded(text);
    ASSERT_TRUE(IsValidUtf8(once));
    ASSERT_EQ(Folded(once), once) << Quoted(text);
  }
}

TEST(Fold, TakesLongRunsOfMarksInLinearTime) {
  std::string text = "и";
  for (int i = 0; i < 500'000; ++i) text += i % 2 ? "\u0306" : "\u0323";
  EXPECT_LE(Fold(text).size(), 500'001u);
}

TEST(ForEachTerm, CutsRunsWithoutSpacesInPairs) {
  EXPECT_THAT(Terms("水泵重14公斤"), ElementsAre("水泵", "泵重", ".重", "14", "公斤", ".斤"));
  EXPECT_THAT(Terms("P7泵 水"), ElementsAre("p7", "!泵", "!水"));
  EXPECT_THAT(Terms("펌프는 물"), ElementsAre("펌프", "프는", ".는", "!물"));
  EXPECT_THAT(Terms("人々"), ElementsAre("人々", ".々"));
  // Marks belong to their characters.
  EXPECT_THAT(Terms("ปั๊มน"), ElementsAre("ปั๊ม", "มน", ".น"));
  EXPECT_THAT(Terms("ปั๊"), ElementsAre("!ปั๊"));
  EXPECT_THAT(Terms("नमस्ते"), ElementsAre("नमस्ते"));
}

TEST(ForEachTerm, TakesParticlesFromTheFront) {
  EXPECT_THAT(Terms("والمضخة المضخة مضخة للمضخة"),
              ElementsAre("والمضخه", "-مضخه", "المضخه", "-مضخه", "مضخه", "للمضخه", "-مضخه"));
  EXPECT_THAT(Terms("ال الله"), ElementsAre("ال", "الله"));
  EXPECT_THAT(Terms("הדבש שבמרתף"), ElementsAre("הדבש", "-דבש", "שבמרתפ", "-במרתפ", "-מרתפ"));
}

}  // namespace
}  // namespace spanwise::retrieval

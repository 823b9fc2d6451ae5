// Crafted tokenizer.json files and texts: a clear error of one line, or an answer in bounded time and memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>

#include "base/json.h"
#include "base/str.h"
#include "formats/gguf_vocabulary.h"
#include "tokenizer/tokenizer.h"

namespace spanwise {
namespace {

using ::testing::HasSubstr;

// Far more than what is done takes, also with sanitizers, and far less than what must not be done would take.
constexpr std::clock_t kPatience = 60 * CLOCKS_PER_SEC;  // of the processor

std::string Quote(std::string_view text) { return json::serialize(json::value(text)); }

std::string Repeat(std::string_view text, size_t n) {
  std::string out;
  out.reserve(text.size() * n);
  for (size_t i = 0; i < n; ++i) out += text;
  return out;
}

std::string Join(const std::vector<std::string>& parts) {
  std::string out;
  for (const std::string& part : parts) out += (out.empty() ? "" : ",") + part;
  return out;
}

std::string Sequence(std::string_view members, const std::vector<std::string>& steps) {
  return StrFormat(R"({{"type":"Sequence","{}":[{}]}})", members, Join(steps));
}

constexpr std::string_view kLetters = R"({"type":"BPE","vocab":{"a":0,"b":1,"x":2,"?":3},"merges":[],"unk_token":"?"})";

struct Parts {
  std::string model = std::string(kLetters);
  std::string normalizer = "null", pre_tokenizer = "null", decoder = R"({"type":"Fuse"})", post_processor = "null";
  std::string added = "[]", more = "";
};

std::string Json(const Parts& parts) {
  return StrFormat(
      R"({{{}"added_tokens":{},"normalizer":{},"pre_tokenizer":{},"post_processor":{},"decoder":{},"model":{}}})",
      parts.more, parts.added, parts.normalizer, parts.pre_tokenizer, parts.post_processor, parts.decoder, parts.model);
}

std::shared_ptr<const Tokenizer> Load(const Parts& parts) {
  auto tokenizer = Tokenizer::FromJson(Json(parts), "t.json");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  return tokenizer.ok() ? *tokenizer : nullptr;
}

void ExpectClear(const Status& status, std::string_view part) {
  ASSERT_FALSE(status.ok());
  EXPECT_THAT(status.message(), HasSubstr(part));
  EXPECT_LT(status.message().size(), 600u);
  EXPECT_EQ(status.message().find('\n'), std::string::npos);
}

class Hostile : public testing::Test {
 protected:
  void TearDown() override { EXPECT_LT(std::clock() - start_, kPatience); }

 private:
  const std::clock_t start_ = std::clock();
};

TEST_F(Hostile, FilesAreRefusedInOneLine) {
  const auto bpe = [](std::string_view vocab, std::string_view merges = "[]") {
    return Json({.model = StrFormat(R"({{"type":"BPE","vocab":{},"merges":{}}})", vocab, merges)});
  };
  const auto unigram = [](std::string_view vocab) {
    return Json({.model = StrFormat(R"({{"type":"Unigram","vocab":{}}})", vocab)});
  };
  const auto added = [](std::string_view token) { return Json({.added = StrFormat("[{}]", token)}); };
  const auto normalizer = [](std::string_view step) { return Json({.normalizer = std::string(step)}); };
  const auto split = [](std::string_view pattern) {
    return Json({.pre_tokenizer = StrFormat(R"({{"type":"Split","behavior":"Removed","pattern":{}}})", pattern)});
  };
  const auto decoder = [](std::string_view step) { return Json({.decoder = std::string(step)}); };
  const auto around = [](std::string_view fields) {
    return Json({.post_processor = StrFormat(R"({{"type":"TemplateProcessing",{}}})", fields)});
  };
  const auto nested = [](size_t depth, std::string_view members) {
    return Repeat(StrFormat(R"({{"type":"Sequence","{}":[)", members), depth) + R"({"type":"Fuse"})" +
           Repeat("]}", depth);
  };
  const std::string long_text(5000, 'a');
  const std::vector<std::string> doubling(11, R"({"type":"Replace","pattern":{"String":"a"},"content":"aa"})");
  struct Case {
    std::string source, message;
  };
  const Case cases[] = {
      // Ids.
      {bpe(R"({"a":-1})"), "'vocab' member \"a\": id is \"-1\", expected an integer from 0 to 16777215"},
      {bpe(R"({"a":16777216})"), "id is \"16777216\""},
      {bpe(R"({"a":4294967296})"), "id is \"4294967296\""},
      {bpe(R"({"a":18446744073709551615})"), "id is \"18446744073709551615\""},
      {bpe(R"({"a":1e300})"), "expected an integer"},
      {bpe(R"({"a":16777215})"), "largest id is 16777215, but only 1 tokens are defined"},
      {bpe(R"({"a":0,"b":0})"), "'vocab' gives id 0 to \"a\" and to \"b\""},
      {bpe("{" + Repeat(R"("a":0,)", 9999) + R"("a":0})"), "\"a\" occurs twice in one object"},
      {bpe(StrFormat(R"({{"{}":0}})", long_text)), "token 0 has 5000 bytes, expected at most 4096"},
      {added(R"({"id":4000000000,"content":"<s>"})"), "'added_tokens' member 0: id is \"4000000000\""},
      {added(R"({"id":9000000,"content":"<s>"})"), "largest id is 9000000"},
      {added(R"({"id":9})"), "'content' is missing or longer than 1024 bytes"},
      {added(StrFormat(R"({{"id":9,"content":"{}"}})", long_text)), "longer than 1024 bytes"},
      {added("null"), "'added_tokens' member 0: is null"},
      // Models.
      {bpe(R"({"a":0})", R"(["a b"])"), "'merges' member 0 needs \"b\", which 'vocab' lacks"},
      {bpe(R"({"a":0})", R"(["a a"])"), "needs \"aa\""},
      {bpe(R"({"a":0})", R"([["a",""]])"), "'merges' member 0 is"},
      {bpe("[]"), "'vocab' is an array, expected an object"},
      {unigram(R"([["a",NaN]])"), "not valid JSON"},
      {unigram(R"([["a",-1e999]])"), "'vocab' member 0 has score -inf, expected a finite number"},
      {unigram(R"([["a",0]],"unk_id":-1)"), "'unk_id' is -1, expected an index of 'vocab'"},
      {unigram(R"([["a",0]],"unk_id":4294967296)"), "'unk_id' is 4294967296"},
      {Json({.model = R"({"type":"WordPiece","vocab":{},"max_input_chars_per_word":-1})"}),
       "'max_input_chars_per_word' is -1"},
      // Steps.
      {split(R"({"Regex":")" + Repeat("(a", 1000) + Repeat(")", 1000) + "\"}"), "parentheses are too deeply nested"},
      {split(R"x({"Regex":"((((a{1000}){1000}){1000}){1000})"})x"), "regular expression"},
      {split(R"({"Regex":")" + std::string(70'000, 'a') + "\"}"), "at most 65536 are read"},
      {split(R"({"String":""})"), "Split: 'pattern' has neither"},
      {split("\"\""), "Split: 'pattern' has neither"},
      {split("null"), "Split: 'pattern' is missing"},
      {split(R"({"String":")" + long_text + "\"}"), "Split: 'pattern' has 5000 bytes, expected at most 4096"},
      {normalizer(R"({"type":"Replace","pattern":{"String":""},"content":"a"})"), "Replace: 'pattern' has neither"},
      {normalizer(nested(10, "normalizers")), "Sequence nested deeper than 4"},
      {normalizer(nested(500, "normalizers")), "JSON"},
      {Repeat("[", 100'000), "JSON nested deeper than 64"},
      {Repeat(R"({"a":)", 100'000), "JSON nested deeper than 64"},
      {normalizer(R"({"type":"Precompiled","precompiled_charsmap":"!!!!"})"), "is not base64"},
      {normalizer(R"({"type":"Precompiled","precompiled_charsmap":"AAAAgAAAAAA="})"), "trie has 2147483648 bytes"},
      // A trie of one unit and a string of 1,997 letters.
      {normalizer(R"({"type":"Precompiled","precompiled_charsmap":"BAAAAAAAAABh)" + Repeat("YWFh", 665) + "YQA=\"}"),
       "the string at byte 0 has 1997 bytes, expected at most 1024"},
      // Decoders.
      {decoder(R"({"type":"Strip","content":"a","stop":9223372036854775807})"), "'stop' is 9223372036854775807"},
      {decoder(R"({"type":"Strip","content":"","stop":1})"), "expected one character"},
      {decoder(R"({"type":"BPEDecoder","suffix":""})"), "'suffix' has 0 bytes, expected 1 to 4096"},
      {decoder(R"({"type":"Replace","pattern":{"String":""},"content":"a"})"), "Replace: 'pattern' has neither"},
      {decoder(Sequence("decoders", doubling)), "'decoder': Replace: a text could become more than 1024 times as long"},
      {decoder(R"({"type":"Replace","pattern":{"Regex":""},"content":")" + long_text + "\"}"), "1024 times as long"},
      // Post-processors.
      {around(R"("single":[{"SpecialToken":{"id":"<s>"}}],"special_tokens":{})"), "'special_tokens' lacks \"<s>\""},
      {around(R"("single":[{"SpecialToken":{"id":"<s>"}}],"special_tokens":{"<s>":{"ids":[77]}})"),
       "adds id 77, but ids end at 4"},
      {around(StrFormat(R"("single":[{}{{"Sequence":{{}}}}],"special_tokens":{{"<s>":{{"ids":[{}0]}}}})",
                        Repeat(R"({"SpecialToken":{"id":"<s>"}},)", 1000), Repeat("0,", 1000))),
       "adds more than 1024 tokens"},
  };
  for (const Case& refused : cases) {
    SCOPED_TRACE(refused.source.substr(0, 200));
    const Status status = Tokenizer::FromJson(refused.source, "t.json").status();
    ExpectClear(status, refused.message);
    EXPECT_THAT(status.message(), HasSubstr("t.json"));
  }
}

TEST_F(Hostile, WhatIsNotReadDoesNoHarm) {
  const auto tokenizer = Load({.more = R"("truncation":{"max_length":0,"stride":-5,"strategy":"Odd"},)"
                                       R"("padding":{"pad_id":-1,"length":1e99},)"});
  EXPECT_EQ(tokenizer->Encode("ab", true).value(), (std::vector<int32_t>{0, 1}));
}

TEST_F(Hostile, ExpressionsThatBacktrackEndInAStatus) {
  const std::string text = std::string(20'000, 'a') + "!";
  for (const std::string regex :
       {"(a+)+$[xy]", "((a+)+)+[bc]", "(a|aa)+[xy]", "(a*)*[bc]", "(?:a?){60}a{60}[xy]", "(?=(a+)+[xy])a"}) {
    SCOPED_TRACE(regex);
    const std::string pattern = StrFormat(R"({{"Regex":{}}})", Quote(regex));
    for (const Parts& parts :
         {Parts{.pre_tokenizer = StrFormat(R"({{"type":"Split","behavior":"Removed","pattern":{}}})", pattern)},
          Parts{.normalizer = StrFormat(R"({{"type":"Replace","content":"b","pattern":{}}})", pattern)}}) {
      const auto ids = Load(parts)->Encode(text, true);
      ExpectClear(ids.status(), "regular expression");
    }
  }
}

TEST_F(Hostile, ExpressionsThatLookThroughAllTheRestEndInAStatus) {
  const std::string text = std::string(400'000, 'a') + "x";
  for (const std::string regex : {"a*[bc]", "(?>a*)[bc]", "(?=a*[bc])a", "a(?!a*+[xy])"}) {
    SCOPED_TRACE(regex);
    const auto ids = Load({.pre_tokenizer = StrFormat(
                               R"({{"type":"Split","behavior":"Removed","pattern":{{"Regex":{}}}}})", Quote(regex))})
                         ->Encode(text, true);
    EXPECT_EQ(ids.status().code(), StatusCode::kResourceExhausted);
    ExpectClear(ids.status(), "looks at too much text");
  }
}

// A match may end anywhere, or look at anything, whatever part of the text is tried first.
TEST_F(Hostile, LongMatchesAreTheSameAsShortOnes) {
  for (const size_t n : {100u, 2046u, 2047u, 2048u, 2049u, 8192u, 30'000u}) {
    const std::string run(n, 'a'), accents = Repeat("\u00e9", n / 2);
    const auto pieces = [](std::string_view regex, std::string_view text) {
      const auto tokenizer =
          Load({.model = R"({"type":"WordLevel","vocab":{"?":0},"unk_token":"?"})",
                .pre_tokenizer =
                    StrFormat(R"({{"type":"Split","behavior":"Isolated","pattern":{{"Regex":{}}}}})", Quote(regex))});
      std::vector<size_t> ends;
      const auto tokens = tokenizer->EncodeWithOffsets(text, false);
      EXPECT_TRUE(tokens.ok()) << regex << tokens.status().message();
      if (!tokens.ok()) return ends;
      for (const EncodedToken& token : *tokens) ends.push_back(token.end);
      return ends;
    };
    using Ends = std::vector<size_t>;
    const std::string twice = StrFormat("{}b{}", run, run), mixed = StrFormat("{}1{}", accents, run);
    EXPECT_EQ(pieces("a+", twice), (Ends{n, n + 1, 2 * n + 1}));
    EXPECT_EQ(pieces("a+$", run + "\nb"), (Ends{n, n + 2}));
    EXPECT_EQ(pieces("a+\\b", run + " b"), (Ends{n, n + 2}));
    EXPECT_EQ(pieces("a+(?!\\S)|b", run + " b"), (Ends{n, n + 1, n + 2}));
    EXPECT_EQ(pieces("a+(?=b)", run + "b"), (Ends{n, n + 1}));
    EXPECT_EQ(pieces("a+\\z", run), (Ends{n}));
    EXPECT_EQ(pieces("\\p{L}+", mixed), (Ends{accents.size(), accents.size() + 1, accents.size() + 1 + n}));
    EXPECT_EQ(pieces("(?<=a)b", twice), (Ends{n, n + 1, 2 * n + 1}));
  }
}

TEST_F(Hostile, EmptyMatchesMoveOn) {
  for (const std::string regex : {"", "a*", "(?=a)", "$", "\\b", "x?"}) {
    SCOPED_TRACE(regex);
    const std::string pattern = StrFormat(R"({{"Regex":{}}})", Quote(regex));
    const Parts parts = {
        .normalizer = StrFormat(R"({{"type":"Replace","content":"b","pattern":{}}})", pattern),
        .pre_tokenizer = StrFormat(R"({{"type":"Split","behavior":"Isolated","pattern":{}}})", pattern),
        .decoder = StrFormat(R"({{"type":"Replace","content":"b","pattern":{}}})", pattern)};
    const auto tokenizer = Load(parts);
    const auto ids = tokenizer->Encode(std::string(10'000, 'a'), true).value();
    EXPECT_LE(ids.size(), 20'001u);
    EXPECT_LE(tokenizer->Decode(ids).size(), 3 * ids.size());
  }
}

TEST_F(Hostile, TextThatGrowsWithoutEndIsRefused) {
  const std::vector<std::string> doubling(64, R"({"type":"Replace","pattern":{"String":"a"},"content":"aa"})");
  ExpectClear(Load({.normalizer = Sequence("normalizers", doubling)})->Encode("a", true).status(),
              "make a text of 1 bytes more than 65568 bytes longer");

  // Every second step doubles the text in pieces of one character, so that no piece is ever long.
  std::vector<std::string> steps;
  for (int i = 0; i < 16; ++i) {
    steps.push_back(R"({"type":"FixedLength","length":1})");
    steps.push_back(R"({"type":"Metaspace","replacement":"x","split":false})");
    steps.push_back(R"({"type":"FixedLength","length":1})");
    steps.push_back(R"({"type":"Metaspace","replacement":"b","split":false})");
  }
  ExpectClear(Load({.pre_tokenizer = Sequence("pretokenizers", steps)})->Encode("a", true).status(), "bytes longer");
  steps.assign(64, R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":false})");
  ExpectClear(Load({.pre_tokenizer = Sequence("pretokenizers", steps)})->Encode("\u00e9", true).status(),
              "bytes longer");

  // A little growth between any two added tokens is much growth together.
  const auto tokenizer =
      Load({.normalizer = StrFormat(R"({{"type":"Prepend","prepend":"{}"}})", std::string(60'000, 'a')),
            .added = R"([{"id":9,"content":"<","special":true}])"});
  ExpectClear(tokenizer->Encode(Repeat("a<", 100'000), true).status(), "bytes longer");
}

TEST_F(Hostile, AddedTokensAreNormalisedWithinBounds) {
  std::vector<std::string> added;
  for (int i = 0; i < 10'000; ++i)
    added.push_back(StrFormat(R"({{"id":{},"content":"<{}>","normalized":true}})", i + 10, i));
  const std::string all = "[" + Join(added) + "]";
  const auto refused = [&](std::string_view step) {
    return Tokenizer::FromJson(Json({.normalizer = std::string(step), .added = all}), "t").status();
  };
  ExpectClear(refused(StrFormat(R"({{"type":"Prepend","prepend":"{}"}})", std::string(1022, 'a'))),
              "added token \"<0>\" has 1025 bytes when normalised, expected at most 1024");
  ExpectClear(refused(StrFormat(R"({{"type":"Prepend","prepend":"{}"}})", std::string(1000, 'a'))), "bytes longer");
  // Each token alone would stay within what one text may take.
  const std::string token(30, 'a');
  for (int i = 0; i < 10'000; ++i)
    added[static_cast<size_t>(i)] = StrFormat(R"({{"id":{},"content":"{}{}","normalized":true}})", i + 10, token, i);
  const auto many =
      Tokenizer::FromJson(Json({.normalizer = R"({"type":"Replace","content":"","pattern":{"Regex":"(a|aa)+[xy]"}})",
                                .added = "[" + Join(added) + "]"}),
                          "t");
  ExpectClear(many.status(), "regular expression");
}

TEST_F(Hostile, LongAddedTokensAreLookedForFast) {
  const std::string half(1000, 'a');
  const auto tokenizer =
      Load({.added = StrFormat(
                R"([{{"id":8,"content":"{0}b","special":true}},{{"id":9,"content":"{0}x","special":true}}])", half)});
  EXPECT_EQ(tokenizer->Encode(std::string(50'000, 'a'), true).value().size(), 50'000u);
}

TEST_F(Hostile, AddedTokensBesideBrokenText) {
  const auto tokenizer = Load({.added = R"([{"id":8,"content":"<l>","lstrip":true,"special":true},
      {"id":9,"content":"<r>","rstrip":true,"single_word":true,"special":true}])"});
  for (const std::string_view text : {"a\xF5<l>", "a \xC5 <l>", "<r>\xF0", "\xE3<r> \xE3\x80"}) {
    ExpectClear(tokenizer->Encode(text, true).status(), "not valid UTF-8 at byte");
    const auto pieces = tokenizer->SplitAtSpecials(text);
    ASSERT_EQ(pieces.size(), 1u);
    EXPECT_EQ(pieces[0].text, text);
    EXPECT_EQ(pieces[0].special, std::nullopt);
  }
}

TEST_F(Hostile, ACharsmapThatMatchesWithoutEnd) {
  GgufVocabulary v;
  v.model = "t5";
  v.tokens = {"<pad>", "</s>", "<unk>", "\u2581", "a"};
  v.scores = {0, 0, 0, -1, -2};
  v.unk_id = 2;
  // A run of 'a' of any length begins some entry, but none ends.
  std::string units(4 * 256, '\0');
  const auto set = [&](size_t i, uint32_t unit) {
    for (size_t k = 0; k < 4; ++k) units[4 * i + k] = static_cast<char>(unit >> 8 * k & 0xFF);
  };
  set(0, 1u << 10);                            // the root's children are at 1 ^ label
  set(1 ^ 'a', 'a' | (1u ^ (1 ^ 'a')) << 10);  // whose own children are there as well
  v.precompiled_charsmap = std::string("\0\4\0\0", 4) + units + std::string("\0", 1);
  const auto tokenizer = Tokenizer::FromGguf(v, "g").value();
  EXPECT_TRUE(tokenizer->Encode(std::string(1'000'000, 'a'), true).ok());
}

TEST_F(Hostile, LongTextsOfOneCharacterEndSoon) {
  const std::string text(20'000, 'a'), million(1'000'000, 'a');
  std::vector<std::string> tokens, pieces;
  for (size_t n = 1; n <= 4096; n *= 2) tokens.push_back(StrFormat(R"(["{}",-{}])", std::string(n, 'a'), n));
  tokens.push_back(StrFormat(R"(["{}b",0])", std::string(4000, 'a')));
  const auto unigram = Load({.model = StrFormat(R"({{"type":"Unigram","vocab":[{}]}})", Join(tokens))});
  EXPECT_EQ(unigram->Decode(unigram->Encode(text, true).value()), text);

  // Scores whose sums are no longer finite.
  const auto infinite = Load({.model = R"({"type":"Unigram","vocab":[["a",-1e308],["aa",1e308],["b",-1e308]]})"});
  EXPECT_EQ(infinite->Decode(infinite->Encode(text + "b", true).value()), text + "b");

  for (const std::string longest : {"100", "9223372036854775807"}) {
    const auto word_piece = Load(
        {.model = StrFormat(
             R"({{"type":"WordPiece","vocab":{{"a":0,"##a":1,"##{}b":2,"?":3}},"unk_token":"?","max_input_chars_per_word":{}}})",
             std::string(4000, 'a'), longest)});
    EXPECT_EQ(word_piece->Encode(longest == "100" ? million : text, true).value().size(),
              longest == "100" ? 1u : text.size());
  }

  std::vector<std::string> vocab, merges;
  for (size_t n = 1, id = 0; n <= 4096; n *= 2, ++id) {
    vocab.push_back(StrFormat(R"("{}":{})", std::string(n, 'a'), id));
    if (n > 1) merges.push_back(StrFormat(R"(["{0}","{0}"])", std::string(n / 2, 'a')));
  }
  const auto bpe =
      Load({.model = StrFormat(R"({{"type":"BPE","vocab":{{{}}},"merges":[{}]}})", Join(vocab), Join(merges))});
  const auto ids = bpe->Encode(million, true).value();
  EXPECT_LT(ids.size(), 260u);
  EXPECT_EQ(bpe->Decode(ids), million);
}

TEST_F(Hostile, BytesThatAreMissingAreNamed) {
  const auto tokenizer =
      Load({.model = R"({"type":"BPE","vocab":{"a":0,"<0xC3>":1},"merges":[],"byte_fallback":true})"});
  ExpectClear(tokenizer->Encode("a\u00e9", true).status(),
              "text byte 1 is 0xc3, for which the vocabulary has no token");
  EXPECT_EQ(Load({.model = R"({"type":"BPE","vocab":{"<0xC3>":0},"merges":[],"byte_fallback":true})",
                  .decoder = R"({"type":"ByteFallback"})"})
                ->Decode({0, 0, -1, 7}),
            "\uFFFD\uFFFD");
}

TEST_F(Hostile, DecodersTakeTimeInProportion) {
  const std::vector<int32_t> ids(100'000, 0);
  const auto decode = [&](const std::vector<std::string>& steps) {
    const auto tokenizer = Load({.decoder = Sequence("decoders", steps)});
    StreamDecoder stream(*tokenizer);
    std::string text;
    for (const int32_t id : ids) text += stream.Push(id);
    text += stream.Finish();
    EXPECT_EQ(text, tokenizer->Decode(ids));
    return text.size();
  };
  const std::string fuse = R"({"type":"Fuse"})";
  EXPECT_EQ(decode({fuse, R"({"type":"Strip","content":"a","start":256,"stop":256})"}), ids.size() - 512);
  EXPECT_EQ(decode({fuse, R"({"type":"Metaspace","replacement":"a","prepend_scheme":"always"})"}), 0u);
  EXPECT_EQ(decode({fuse, R"({"type":"BPEDecoder","suffix":"a"})"}), 0u);
  EXPECT_EQ(
      decode({fuse, R"({"type":"Replace","pattern":{"String":")" + std::string(4000, 'a') + R"(b"},"content":""})"}),
      ids.size());
  const std::vector<std::string> doubling(5, R"({"type":"Replace","pattern":{"String":"a"},"content":"aa"})");
  EXPECT_EQ(decode(doubling), 32 * ids.size());
}

TEST_F(Hostile, ExpressionsOfADecoderShareABudget) {
  const std::string word(40, 'a');
  const auto tokenizer = Load({.model = StrFormat(R"({{"type":"WordLevel","vocab":{{"{}":0}}}})", word),
                               .decoder = R"({"type":"Replace","pattern":{"Regex":"(a|aa)+[xy]"},"content":""})"});
  EXPECT_EQ(tokenizer->Decode(std::vector<int32_t>(2000, 0)).size(), 2000 * word.size());
}

}  // namespace
}  // namespace spanwise

// Answers that are a stretch of a document.
#include "engine/extraction.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "engine/test_engines.h"

namespace spanwise {
namespace {

using ::testing::HasSubstr;

Request Question() {
  Request request;
  request.documents = {{"velk", "Velk lighthouse", "The Velk lighthouse was built in 1871."},
                       {"cawick", "Cawick T40", "The Cawick T40 is a pump. The Cawick T40 weighs 12 kg."},
                       {"odd", "", "\xE4\xB8\xAD\xE5\x9B\xBD\xF0\x9F\x8E\x89 caf\xC3\xA9 <|end|> x\n\n  y "},
                       {"blank", "", ""}};
  request.messages = {{"user", "How much does the Cawick T40 weigh?"}};
  request.extract = true;
  request.sampling.logprobs = 0;
  return request;
}

void ExpectStretch(const Request& request, const Answer& answer) {
  ASSERT_TRUE(answer.extraction);
  const Extraction& e = *answer.extraction;
  for (const Document& document : request.documents) {
    if (document.id != e.document) continue;
    EXPECT_EQ(document.text.substr(e.begin, e.end - e.begin), answer.text);
    return;
  }
  FAIL() << "no document " << e.document;
}

TEST(Extraction, AnswersWithAStretchOfTheRightDocument) {
  const auto engine = OpenPocket();
  Request request = Question();
  for (const ComposeMode mode : {ComposeMode::kExact, ComposeMode::kSet, ComposeMode::kRepair}) {
    request.compose.mode = mode;
    request.compose.force = true;
    const Answer answer = engine->Run(request).value();
    EXPECT_EQ(answer.text, "The Cawick T40 weighs 12 kg.");
    EXPECT_EQ(answer.finish_reason, FinishReason::kStop);
    ExpectStretch(request, answer);
    EXPECT_EQ(answer.extraction->document, "cawick");
    EXPECT_EQ(answer.extraction->begin, 26u);
  }
}

// Whatever a model makes of it: random weights, all temperatures, all ways to end.
TEST(Extraction, IsAlwaysAStretch) {
  const auto tiny = OpenTiny(), pocket = OpenPocket();
  std::set<std::string> texts;
  for (Engine* engine : {tiny.get(), pocket.get()}) {
    for (uint64_t seed = 0; seed < 60; ++seed) {
      Request request = Question();
      request.sampling.temperature = seed % 2 == 0 ? 1.0f : 100.0f;
      request.sampling.seed = seed;
      request.sampling.max_tokens = 1 + static_cast<int>(seed % 9);
      request.sampling.min_tokens = static_cast<int>(seed % 3 == 0 ? request.sampling.max_tokens : 0);
      if (seed % 5 == 0) request.sampling.stop = {"e", "gh"};
      request.sampling.ignore_eos = seed % 4 == 0;
      std::string streamed;
      RequestObserver observer;
      observer.on_text = [&](const std::string& text, const std::vector<TokenReport>&) { streamed += text; };
      const Answer answer = engine->Run(request, observer).value();
      ExpectStretch(request, answer);
      EXPECT_EQ(streamed, answer.text);
      texts.insert(answer.text);
    }
  }
  EXPECT_GT(texts.size(), 30u);
}

TEST(Extraction, GoesOnAsLongAsItMust) {
  const auto engine = OpenPocket();
  Request request = Question();
  request.documents.resize(1);
  request.sampling.min_tokens = 200;
  const Answer answer = engine->Run(request).value();
  ExpectStretch(request, answer);
  EXPECT_TRUE(answer.text.ends_with("1871.")) << answer.text;  // the document's end
  EXPECT_EQ(answer.finish_reason, FinishReason::kStop);
}

TEST(Extraction, RefusesWhatItCannotDo) {
  const auto engine = OpenTiny();
  const auto error = [&](Request request) { return engine->Run(std::move(request)).status().message(); };
  Request request = Question();
  request.documents = {{"blank", "", ""}, {"dots", "", " ... !\n"}};
  EXPECT_THAT(error(request), HasSubstr("none of them holds a word"));
  request.documents.clear();
  EXPECT_THAT(error(request), HasSubstr("none of them holds a word"));
  Request plain;
  plain.prompt = "x";
  plain.extract = true;
  EXPECT_THAT(error(plain), HasSubstr("none of them holds a word"));
  request = Question();
  request.branches = {{"a", 2}};
  EXPECT_THAT(error(request), HasSubstr("'extract' goes with neither"));
  request = Question();
  request.forced_tokens = {5};
  EXPECT_THAT(error(request), HasSubstr("'extract' goes with neither"));
}

}  // namespace
}  // namespace spanwise

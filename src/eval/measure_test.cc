// Perplexity, fidelity and calibration of the bundled model over a few small texts and records.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <map>

#include "eval/calibrate.h"
#include "eval/fidelity.h"
#include "eval/perplexity.h"

namespace spanwise::eval {
namespace {

using ::testing::HasSubstr;

Engine& Pocket(const std::string& dtype = "") {
  static std::map<std::string, std::unique_ptr<Engine>> engines;
  std::unique_ptr<Engine>& engine = engines[dtype];
  if (!engine) {
    const char* root = std::getenv("SPANWISE_SOURCE_DIR");
    EngineOptions options{.model = std::string(root ? root : ".") + "/models/pocket",
                          .kv_memory_bytes = size_t{64} << 20};
    if (!dtype.empty()) options.dtype = dtype;
    engine = Engine::Open(options).value();
  }
  return *engine;
}

QaRecord Record() {
  QaRecord record;
  record.kind = "single";
  record.documents = {{"7", "", "The Velk lighthouse is in Norholm. The Velk lighthouse was built in 1871."},
                      {"t40", "", "The Cawick T40 is a pump. The Cawick T40 weighs 12 kg."},
                      {"9", "", "Ida Corvane leads Harlow Instruments. Ida Corvane was born in Seaxford."}};
  record.question = "How much does the Cawick T40 weigh?";
  record.answer = "The Cawick T40 weighs 12 kg. [t40]";
  record.value = "12 kg";
  record.citations = {"t40"};
  return record;
}

constexpr char kText[] = "The old house stood upon the hill, and nobody had lived there for many years.";

TEST(Perplexity, WindowsCoverTheTextOnce) {
  const size_t n = Pocket().Tokenize(kText, false)->size();
  const auto count = [&](int context, const std::string& prefix) {
    return MeasurePerplexity(Pocket(), nullptr, TextPassages(Pocket(), {kText}, context, prefix).value(), {})->n;
  };
  EXPECT_EQ(count(512, ""), n - 1);
  EXPECT_EQ(count(512, "<|begin|>"), n);
  EXPECT_EQ(count(5, "<|begin|>"), n);
  EXPECT_EQ(count(6, "<|begin|><|begin|>"), n);
  EXPECT_EQ(count(4, ""), n - (n + 3) / 4);  // the first of every window
  EXPECT_FALSE(TextPassages(Pocket(), {kText}, 1, "").ok());
  EXPECT_FALSE(TextPassages(Pocket(), {kText}, 5000, "").ok());
  EXPECT_THAT(TextPassages(Pocket(), {kText}, 2, "<|begin|>").status().message(), HasSubstr("no room"));
  EXPECT_THAT(MeasurePerplexity(Pocket(), nullptr, {}, {}).status().message(), HasSubstr("nothing to score"));
}

TEST(Perplexity, ComparesWeights) {
  const auto passages = TextPassages(Pocket(), {kText}, 64, "<|begin|>").value();
  const Divergence alone = MeasurePerplexity(Pocket(), nullptr, passages, {}).value();
  const Divergence same = MeasurePerplexity(Pocket(), &Pocket(), passages, {}).value();
  EXPECT_EQ(same.kl, 0.0);
  EXPECT_EQ(same.agreement, 1.0);
  EXPECT_EQ(same.perplexity(), alone.perplexity());
  EXPECT_LT(alone.perplexity(), 1000);
  const Divergence q4 = MeasurePerplexity(Pocket("q4"), &Pocket(), passages, {}).value();
  EXPECT_GT(q4.kl, 0.0);
  EXPECT_GE(q4.kl_p99, q4.kl);
  EXPECT_EQ(q4.reference_perplexity(), alone.perplexity());
}

TEST(Perplexity, ScoresAnswers) {
  const auto passages = AnswerPassages(Pocket(), {Record()}).value();
  const Divergence d = MeasurePerplexity(Pocket(), nullptr, passages, {}).value();
  EXPECT_EQ(d.n, passages[0].request.forced_tokens.size());
  EXPECT_LT(d.perplexity(), 1.5);
  QaRecord empty = Record();
  empty.answer = "";
  EXPECT_EQ(AnswerPassages(Pocket(), {empty}).status().code(), StatusCode::kInvalidArgument);
}

TEST(Fidelity, ComparesASetWithTheFlatPrompt) {
  const auto samples =
      MeasureFidelity(Pocket(), {Record(), Record()}, {.composed = {{.mode = ComposeMode::kSet}}, .documents = {}}, {})
          .value();
  ASSERT_EQ(samples.size(), 2u);
  ASSERT_EQ(samples[1].size(), 2u);
  const FidelityScore exact = Score(samples[0]), set = Score(samples[1]);
  EXPECT_EQ(exact.divergence.kl, 0.0);
  EXPECT_EQ(exact.accuracy, 1.0);
  EXPECT_EQ(exact.recomputed_tokens, exact.tokens);
  EXPECT_EQ(set.n, 2);
  EXPECT_EQ(set.documents, 3.0);
  EXPECT_GT(set.divergence.kl, 0.0);
  EXPECT_LT(set.divergence.kl, 0.1);
  EXPECT_EQ(set.accuracy, 1.0);
  EXPECT_EQ(set.as_exact, 1.0);
  // All but the question was kept.
  EXPECT_LT(set.recomputed_tokens, set.tokens / 2);
  EXPECT_GT(set.ttft_ms, 0.0);
}

TEST(Fidelity, CutsPromptsToTheirCitedDocumentsFirst) {
  const QaRecord two = WithDocuments(Record(), 2).value();
  ASSERT_EQ(two.documents.size(), 2u);
  EXPECT_EQ(two.documents[0].id, "7");
  EXPECT_EQ(two.documents[1].id, "t40");
  EXPECT_EQ(WithDocuments(Record(), 1)->documents[0].id, "t40");
  EXPECT_EQ(WithDocuments(Record(), 3)->documents.size(), 3u);
  EXPECT_FALSE(WithDocuments(Record(), 0));
  EXPECT_FALSE(WithDocuments(Record(), 4));
  EXPECT_FALSE(MeasureFidelity(Pocket(), {Record()}, {.composed = {}, .documents = {4}}, {}).ok());
}

TEST(Calibrate, MeasuresEveryModeAskedFor) {
  const Calibration c =
      Calibrate(Pocket(), {Record()}, {{.mode = ComposeMode::kSet}}, {.kl = 0.1, .accuracy_loss = 0}, {}).value();
  EXPECT_EQ(c.model, Pocket().model().digest);
  ASSERT_EQ(c.modes.size(), 1u);
  EXPECT_EQ(c.modes[0].n, 1);
  EXPECT_EQ(c.modes[0].exact_accuracy, 1.0);
  EXPECT_TRUE(c.Check({.mode = ComposeMode::kSet}).value());
  EXPECT_FALSE(Calibrate(Pocket(), {Record()}, {{.mode = ComposeMode::kExact}}, {}, {}).ok());
}

}  // namespace
}  // namespace spanwise::eval

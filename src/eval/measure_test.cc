// Perplexity, fidelity and calibration of the bundled model over a few small texts and records.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <map>

#include "eval/calibrate.h"
#include "eval/fidelity.h"
#include "eval/order.h"
#include "eval/perplexity.h"
#include "eval/storage.h"

namespace spanwise::eval {
namespace {

using ::testing::HasSubstr;

std::string PocketFolder() {
  const char* root = std::getenv("SPANWISE_SOURCE_DIR");
  return std::string(root ? root : ".") + "/models/pocket";
}

Engine& Pocket(const std::string& dtype = "") {
  static std::map<std::string, std::unique_ptr<Engine>> engines;
  std::unique_ptr<Engine>& engine = engines[dtype];
  if (!engine) {
    EngineOptions options{.model = PocketFolder(), .kv_memory_bytes = size_t{64} << 20};
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

TEST(Orders, PutsCitedDocumentsWhereAsked) {
  const auto ids = [](const QaRecord& record) {
    std::string out;
    for (const Document& d : record.documents) out += d.id + " ";
    return out;
  };
  EXPECT_EQ(ids(WithCitedAt(Record(), 0)), "t40 7 9 ");
  EXPECT_EQ(ids(WithCitedAt(Record(), 0.5)), "7 t40 9 ");
  EXPECT_EQ(ids(WithCitedAt(Record(), 1)), "7 9 t40 ");
  QaRecord two = Record();
  two.citations = {"9", "7"};
  EXPECT_EQ(ids(WithCitedAt(two, 1)), "t40 7 9 ");
  QaRecord scored = Record();
  ScoreDocuments(&scored);
  EXPECT_GT(scored.documents[1].score, scored.documents[0].score);
  EXPECT_GE(scored.documents[0].score, 0);
  QaRecord none = Record();
  none.documents.clear();
  ScoreDocuments(&none);
}

TEST(Orders, MeasuresEveryPlaceWhereThePlaceShows) {
  const std::vector<ComposeOptions> ways = {{.order = DocumentOrder::kGiven}, {.order = DocumentOrder::kSides}};
  const auto samples =
      MeasureOrders(Pocket(), {Record()}, {.ways = ways, .places = {0, 1}, .documents = 0}, {}).value();
  ASSERT_EQ(samples.size(), 3u);
  EXPECT_EQ(samples[1].way, 0u);
  EXPECT_EQ(samples[1].place, 1);
  EXPECT_EQ(samples[2].way, 1u);
  EXPECT_FALSE(samples[2].place);
  for (const OrderSample& s : samples) EXPECT_TRUE(s.right);
  QaRecord uncited = Record();
  uncited.citations.clear();
  EXPECT_FALSE(MeasureOrders(Pocket(), {uncited}, {.ways = ways, .places = {0}, .documents = 0}, {}).ok());
  EXPECT_FALSE(MeasureOrders(Pocket(), {Record()}, {.ways = ways, .places = {}, .documents = 4}, {}).ok());
  const ComposeOptions none{.mode = ComposeMode::kSet, .order = DocumentOrder::kSides};
  EXPECT_EQ(MeasureOrders(Pocket(), {Record()}, {.ways = {none}, .places = {}, .documents = 0}, {}).status().code(),
            StatusCode::kInvalidArgument);
}

TEST(Calibrate, FindsWhereApeIsNearest) {
  const ApeSearch found = SearchApe(Pocket(), {Record()}, {}).value();
  EXPECT_LE(found.kl, found.set_kl);
  EXPECT_GT(found.set_kl, 0);
  const ComposeOptions there{
      .mode = ComposeMode::kApe, .documents_temperature = found.temperature, .documents_scale = found.scale};
  const auto samples =
      MeasureFidelity(Pocket(), {Record()}, {.composed = {there}, .documents = {}, .answers = false}, {}).value();
  EXPECT_EQ(Score(samples[1]).divergence.kl, found.kl);
  const ApeSearch again = SearchApe(Pocket(), {Record()}, {}).value();
  EXPECT_EQ(again.scale, found.scale);
}

FidelitySample Sample(double kl, std::optional<double> change = {}) {
  return {.kind = "k", .answer = {{.kl = kl}, {.kl = 0}}, .repair_change = change};
}

TEST(Calibrate, FindsTheThresholdThatRepairsWhatGains) {
  // Of changes .1 to .4 repair does harm, from .8 on it helps; in between nothing is known.
  std::vector<FidelitySample> always, never;
  for (const double change : {0.9, 0.1, 0.8, 0.2, 0.4}) {
    always.push_back(Sample(change > 0.5 ? 0.1 : 0.6, change));
    never.push_back(Sample(change > 0.5 ? 0.7 : 0.2));
  }
  always.push_back(Sample(0.2));  // with nothing to recompute
  never.push_back(Sample(0.2));
  const ThresholdSearch found = FindThreshold(always, never);
  EXPECT_EQ(found.threshold, 0.6);
  EXPECT_NEAR(found.kl, (2 * 0.1 + 3 * 0.2 + 0.2) / 12, 1e-12);
  EXPECT_NEAR(found.always_kl, (2 * 0.1 + 3 * 0.6 + 0.2) / 12, 1e-12);
  EXPECT_NEAR(found.never_kl, (2 * 0.7 + 3 * 0.2 + 0.2) / 12, 1e-12);
  EXPECT_EQ(FindThreshold(never, always).threshold, 0) << "without changes nothing can be told";
  for (FidelitySample& sample : always) sample.answer[0].kl = 0.01;
  EXPECT_EQ(FindThreshold(always, never).threshold, 0) << "repair always helps";
  for (FidelitySample& sample : always) sample.answer[0].kl = 2;
  EXPECT_GE(FindThreshold(always, never).threshold, 0.9) << "repair never helps";
  EXPECT_EQ(FindThreshold({}, {}).threshold, 0);
}

// What is below the threshold stays as it was kept, and the report says so.
TEST(Calibrate, ThresholdsAreAsMeasured) {
  const ComposeOptions repair{.mode = ComposeMode::kRepair};
  const ThresholdSearch found = SearchThreshold(Pocket(), {Record()}, repair, {}).value();
  EXPECT_LE(found.kl, std::min(found.always_kl, found.never_kl));
  ComposeOptions always = repair, never = repair;
  always.repair_threshold = 1e-9;
  never.repair_threshold = 1e9;
  const auto samples =
      MeasureFidelity(Pocket(), {Record()}, {.composed = {always, never}, .documents = {}}, {}).value();
  EXPECT_EQ(Score(samples[1]).divergence.kl, found.always_kl);
  EXPECT_EQ(Score(samples[2]).divergence.kl, found.never_kl);
  EXPECT_GT(samples[1][0].repair_change.value(), 0);
  EXPECT_EQ(samples[1][0].repair_change, samples[2][0].repair_change);
  EXPECT_GT(samples[1][0].recomputed_tokens, samples[2][0].recomputed_tokens);
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

TEST(Storage, TellsWhatRoundingCosts) {
  QaRecord record = Record();
  for (int i = 0; i < 12; ++i) record.documents[0].text += " The keeper of the Velk lighthouse has two boats.";
  const EngineOptions options{.model = PocketFolder(), .kv_memory_bytes = size_t{64} << 20};
  size_t n_told = 0;
  const auto scores = MeasureStorage(options, {record}, {.codecs = {"none", "int8", "int4"}, .compose = {}},
                                     [&](double done) { n_told += done <= 1; });
  ASSERT_TRUE(scores.ok()) << scores.status().message();
  ASSERT_EQ(scores->size(), 3u);
  EXPECT_EQ(n_told, 8u);
  const StorageScore &none = (*scores)[0], &int8 = (*scores)[1], &int4 = (*scores)[2];
  EXPECT_EQ(none.divergence.kl, 0);
  EXPECT_EQ(none.keys + none.values, 0);
  EXPECT_EQ(none.as_exact, 1);
  EXPECT_EQ(none.bytes_per_token, 2 * 8 * 4 * 64 * 2);
  EXPECT_GT(none.from_disk, 0.5);
  EXPECT_GT(int8.divergence.kl, 0);
  EXPECT_GT(int4.divergence.kl, int8.divergence.kl);
  EXPECT_GT(int4.keys, int8.keys);
  EXPECT_LT(int8.bytes_per_token, 0.54 * none.bytes_per_token);
  EXPECT_LT(int4.bytes_per_token, 0.29 * none.bytes_per_token);
  EXPECT_EQ(MeasureStorage(options, {record}, {.codecs = {"int3"}, .compose = {}}, {}).status().code(),
            StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace spanwise::eval

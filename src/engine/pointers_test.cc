// Attention as citation: where it goes, that it is all there, and that asking for it changes nothing.
#include "engine/pointers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "engine/test_engines.h"

namespace spanwise {
namespace {

using ::testing::HasSubstr;

Request Question(ComposeMode mode = ComposeMode::kExact) {
  Request request;
  request.documents = {
      {"velk", "Velk lighthouse", "The Velk lighthouse was built in 1871. It is 43 m high.\n\n- red\n- white\n"},
      {"cawick", "Cawick T40", "The Cawick T40 is a pump.  The Cawick T40 weighs 12 kg. It is sold in Norhaven."},
      {"blank", "", ""},
      {"moor", "", "Dorrel Moor lies north of Norhaven."}};
  request.messages = {{"user", "How much does the Cawick T40 weigh?"}};
  request.compose.mode = mode;
  request.compose.force = true;
  request.sampling.logprobs = 1;
  request.attention = true;
  return request;
}

double Sum(const AttentionReport& report) {
  double sum = report.prompt + report.answer + report.first_tokens;
  for (const AttentionReport::Document& document : report.documents) sum += document.share;
  return sum;
}

void ExpectSame(const AttentionReport& got, const AttentionReport& expected) {
  EXPECT_EQ(got.prompt, expected.prompt);
  EXPECT_EQ(got.answer, expected.answer);
  ASSERT_EQ(got.documents.size(), expected.documents.size());
  for (size_t i = 0; i < got.documents.size(); ++i) {
    EXPECT_EQ(got.documents[i].share, expected.documents[i].share) << i;
    for (size_t k = 0; k < got.documents[i].stretches.size(); ++k)
      EXPECT_EQ(got.documents[i].stretches[k].share, expected.documents[i].stretches[k].share) << i << " " << k;
  }
}

constexpr ComposeMode kModes[] = {ComposeMode::kExact, ComposeMode::kSet, ComposeMode::kApe, ComposeMode::kRepair};

TEST(Pointers, ARequestsAttentionSumsToOneAndChangesNothing) {
  const auto engine = OpenPocket(), small_steps = OpenPocket(17);
  for (const ComposeMode mode : kModes) {
    for (const DocumentOrder order : {DocumentOrder::kGiven, DocumentOrder::kRepeat}) {
      SCOPED_TRACE(::testing::Message() << ComposeModeName(mode) << " " << DocumentOrderName(order));
      Request request = Question(mode);
      request.compose.order = order;
      const Answer cold = engine->Run(request).value();
      ASSERT_TRUE(cold.attention);
      EXPECT_NEAR(Sum(*cold.attention), 1, 1e-6);
      EXPECT_GT(cold.attention->answer, 0.01);
      EXPECT_GT(cold.attention->prompt, 0.01);
      ASSERT_EQ(cold.attention->documents.size(), 4u);
      const AttentionReport::Document& read = cold.attention->documents[1];
      EXPECT_EQ(read.document, "cawick");
      for (const auto& other : cold.attention->documents) {
        double stretches = 0;
        for (const auto& stretch : other.stretches) stretches += stretch.share;
        EXPECT_LE(stretches, other.share);
        EXPECT_LE(other.share, read.share) << other.document;
      }
      ASSERT_EQ(read.stretches.size(), 3u);
      EXPECT_EQ(
          request.documents[1].text.substr(read.stretches[1].begin, read.stretches[1].end - read.stretches[1].begin),
          "The Cawick T40 weighs 12 kg.");
      EXPECT_GT(read.stretches[1].share, std::max(read.stretches[0].share, read.stretches[2].share));

      ExpectSame(*engine->Run(request).value().attention, *cold.attention);       // warm
      ExpectSame(*small_steps->Run(request).value().attention, *cold.attention);  // in other steps
      request.attention = false;
      const Answer without = engine->Run(request).value();
      EXPECT_FALSE(without.attention);
      EXPECT_EQ(without.text, cold.text);
      ExpectSame(without.tokens, cold.tokens);
    }
  }
}

TEST(Pointers, AreTheSameInABatch) {
  const auto alone = OpenPocket(), together = OpenPocket();
  std::vector<Request> requests;
  for (const ComposeMode mode : kModes)
    for (const char* question : {"How much does the Cawick T40 weigh?", "When was the Velk lighthouse built?"}) {
      requests.push_back(Question(mode));
      requests.back().messages[0].content = question;
      requests.back().attention = requests.size() % 3 != 0;
    }
  std::vector<std::promise<Result<Answer>>> answers(requests.size());
  for (size_t i = 0; i < requests.size(); ++i) {
    std::promise<Result<Answer>>* const to = &answers[i];
    ASSERT_TRUE(
        together->Submit(requests[i], {}, nullptr, [to](Result<Answer> a) { to->set_value(std::move(a)); }).ok());
  }
  for (size_t i = 0; i < requests.size(); ++i) {
    const Answer got = answers[i].get_future().get().value(), expected = alone->Run(requests[i]).value();
    ExpectSame(got.tokens, expected.tokens);
    ASSERT_EQ(got.attention.has_value(), expected.attention.has_value());
    if (got.attention) ExpectSame(*got.attention, *expected.attention);
  }
}

TEST(Pointers, ASuspensionCountsNothingTwice) {
  Request request = Question(ComposeMode::kSet);
  request.sampling.max_tokens = 60;
  request.sampling.ignore_eos = true;
  const Answer expected = OpenTiny()->Run(request).value();
  EXPECT_NEAR(Sum(*expected.attention), 1, 1e-6);
  for (const bool use_cache : {true, false}) {
    const auto engine = OpenTiny(expected.usage.prompt_tokens / 64 + 12);
    std::promise<Result<Answer>> low, high;
    Request urgent;
    urgent.prompt = std::string(480, 'x');
    urgent.priority = 1;
    urgent.sampling.max_tokens = 3;
    request.use_cache = use_cache;
    RequestObserver observer;
    int n_texts = 0;
    observer.on_text = [&](const std::string&, const std::vector<TokenReport>&) {
      if (++n_texts != 20) return;
      ASSERT_TRUE(engine->Submit(urgent, {}, nullptr, [&](Result<Answer> a) { high.set_value(std::move(a)); }).ok());
    };
    ASSERT_TRUE(
        engine->Submit(request, observer, nullptr, [&](Result<Answer> a) { low.set_value(std::move(a)); }).ok());
    const Answer got = low.get_future().get().value();
    EXPECT_EQ(engine->stats().suspensions, 1u);
    EXPECT_TRUE(high.get_future().get().ok());
    ExpectSame(got.tokens, expected.tokens);
    ExpectSame(*got.attention, *expected.attention);
  }
}

TEST(Pointers, WithoutDocumentsOrTokensThereIsLittleToReport) {
  const auto engine = OpenTiny();
  Request request;
  request.prompt = "Once upon a time";
  request.attention = true;
  request.sampling.max_tokens = 5;
  const AttentionReport plain = *engine->Run(request).value().attention;
  EXPECT_TRUE(plain.documents.empty());
  EXPECT_NEAR(Sum(plain), 1, 1e-6);
  request.sampling.max_tokens = 0;
  EXPECT_EQ(Sum(*engine->Run(request).value().attention), 0);
  request.sampling.max_tokens = 5;
  request.steps = {{"a", 2}};
  EXPECT_THAT(engine->Run(request).status().message(), HasSubstr("'attention' goes with neither"));
}

// Every key counts once, and for what it stands for. Each token's mass is one here.
TEST(Pointers, CoverEveryKeyOnce) {
  const std::vector<PointedDocument> documents = {{"a", {{0, 4}, {5, 9}}}, {"b", {}}};
  const auto member = [](const std::string& id, std::vector<TextRange> bytes) {
    PromptNode node = PromptNode::Text(std::vector<int32_t>(bytes.size(), 7), id);
    for (size_t i = 0; i < bytes.size(); ++i) node.tokens[i] += static_cast<int32_t>(i) + id[0];
    node.bytes = std::move(bytes);
    return node;
  };
  // Two tokens of a head, three and two of the stretches (of which one is the space between), and the end.
  const PromptNode a = member("a", {{}, {}, {0, 1}, {1, 3}, {3, 4}, {4, 5}, {5, 9}, {9, 9}}), b = member("b", {{}, {}});
  const PromptNode tree =
      PromptNode::Sequence({PromptNode::Text({1, 2, 3}), PromptNode::Set({a, b}), PromptNode::Text({4, 5, 6, 7})});
  ModelConfig config;
  config.n_layers = 4;
  config.n_heads = 3;
  for (const ComposeMode mode : kModes) {
    for (const DocumentOrder order : {DocumentOrder::kGiven, DocumentOrder::kRepeat}) {
      SCOPED_TRACE(::testing::Message() << ComposeModeName(mode) << " " << DocumentOrderName(order));
      const Plan plan = MakePlan(tree, {.mode = mode, .order = order}, {Sha256("test"), ""}).value();
      Pointers pointers(plan, documents, config);
      EXPECT_EQ(pointers.first_layer(), 2);
      const int n_tail = static_cast<int>(plan.runs.back().tokens.size());
      for (int n = 0; n < 2; ++n) {  // the second token sees the first
        const std::vector<KeyRange> ranges(pointers.Ranges(n_tail + n).begin(), pointers.Ranges(n_tail + n).end());
        const std::span<int64_t> mass = pointers.Mass();
        ASSERT_EQ(mass.size(), ranges.size());
        KeyRange before{.run = -1};
        for (size_t i = 0; i < ranges.size(); ++i) {
          EXPECT_TRUE(ranges[i].run > before.run ? ranges[i].begin == 0 : ranges[i].begin == before.end) << i;
          before = ranges[i];
          mass[i] = int64_t{ranges[i].end - ranges[i].begin} * 2 * 3 << 40;
        }
        EXPECT_EQ(before.end, n_tail + n);
        pointers.Count();
      }
      const AttentionReport report = pointers.Report();
      const int times = order == DocumentOrder::kRepeat ? 2 : 1;
      EXPECT_EQ(report.prompt, 7);
      EXPECT_EQ(report.answer, 0.5);
      EXPECT_EQ(report.first_tokens, 2 * times);
      EXPECT_EQ(report.documents[0].stretches[0].share, 3 * times);
      EXPECT_EQ(report.documents[0].stretches[1].share, 2 * times);
      EXPECT_EQ(report.documents[0].share, 7 * times);
      EXPECT_EQ(report.documents[1].share, 1 * times);
    }
  }
}

}  // namespace
}  // namespace spanwise

// What composition promises, to the bit, on small random models: order-freedom of sets, warm equal to cold,
// independence of step size and threads, and re-basing.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <random>
#include <set>

#include "base/file.h"
#include "base/json.h"
#include "engine/executor.h"
#include "prompt/plan.h"

namespace spanwise {
namespace {

std::string ModelFolder(const std::string& name) {
  const char* root = std::getenv("SPANWISE_SOURCE_DIR");
  return std::string(root ? root : ".") + "/tests/golden/models/" + name;
}

// With weights as stored, or of a type.
std::shared_ptr<const ModelWeights> LoadModel(const std::string& name, std::optional<WeightType> type = std::nullopt) {
  ThreadPool pool(1);
  auto weights = ModelWeights::Load(ModelFolder(name), type, pool);
  EXPECT_TRUE(weights.ok()) << weights.status().message();
  return *weights;
}

std::vector<int32_t> RandomTokens(int n, uint32_t seed, int vocab = 200) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(static_cast<size_t>(n));
  for (int32_t& t : tokens) t = static_cast<int32_t>(random() % static_cast<uint32_t>(vocab));
  return tokens;
}

const PlanKeys kKeys{Sha256("test"), ""};

// An executor, and how many prompt tokens it is given a step.
struct Steps : Executor {
  Steps(const std::shared_ptr<const ModelWeights>& weights, DType kv_dtype, size_t budget, int tokens, int n_threads,
        std::string_view cache_policy = kDefaultEvictionPolicy)
      : Executor(weights, kv_dtype, budget, n_threads, cache_policy), step_tokens(tokens) {}
  int step_tokens;
};

// Reads the plan's prompt, then a few given tokens one by one; returns all logits on the way.
std::vector<float> Logits(Steps& executor, Plan plan, bool use_cache, int* reused = nullptr) {
  std::vector<float> out;
  Sequence sequence = executor.Begin(std::move(plan), use_cache);
  if (reused) *reused = std::accumulate(sequence.reused.begin(), sequence.reused.end(), 0);
  const auto step = [&](std::optional<int32_t> token) {
    Executor::Turn turn{.sequence = &sequence, .token = token};
    executor.Step({&turn, 1}, executor.step_tokens);
    EXPECT_TRUE(turn.status.ok()) << turn.status.message();
    EXPECT_GT(turn.n_encoded, 0) << "the step did nothing";
    EXPECT_LE(turn.n_encoded, executor.step_tokens);
    out.insert(out.end(), turn.logits.begin(), turn.logits.end());
    return turn.status.ok() && turn.n_encoded > 0;
  };
  while (!sequence.prompt_is_ready() && step({})) continue;
  for (const int32_t token : {5, 9, 30, 7}) step(token);
  executor.Seal(sequence);
  return out;
}

Plan SetPlan(std::vector<std::vector<int32_t>> documents, const ComposeOptions& options, uint32_t question = 2) {
  std::vector<PromptNode> members;
  for (auto& d : documents) members.push_back(PromptNode::Text(d, std::to_string(d[0])));
  const PromptNode tree =
      PromptNode::Sequence({PromptNode::Text(RandomTokens(11, 1)), PromptNode::Set(std::move(members)),
                            PromptNode::Text(RandomTokens(9, question))});
  return MakePlan(tree, options, kKeys).value();
}

Plan SetPlan(std::vector<std::vector<int32_t>> documents, ComposeMode mode = ComposeMode::kSet) {
  return SetPlan(std::move(documents), ComposeOptions{.mode = mode});
}

double RelativeError(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference = std::max(difference, std::abs(double{a[i]} - b[i]));
    size = std::max(size, std::abs(double{b[i]}));
  }
  return difference / size;
}

// Against transformers with the set's mask and positions spelled out (python/oracles/set_vectors.py).
TEST(SetComposition, EqualsAMaskedForwardPass) {
  const char* root = std::getenv("SPANWISE_SOURCE_DIR");
  const std::string path = std::string(root ? root : ".") + "/tests/golden/set_vectors.json";
  const json::value golden = ParseJson(ReadFile(path).value(), path).value();
  const auto tokens = [](const json::value& v) { return json::value_to<std::vector<int32_t>>(v); };
  std::vector<PromptNode> members;
  for (const json::value& d : golden.at("documents").get_array()) members.push_back(PromptNode::Text(tokens(d)));
  const PromptNode tree = PromptNode::Sequence({PromptNode::Text(tokens(golden.at("prefix"))), PromptNode::Set(members),
                                                PromptNode::Text(tokens(golden.at("tail")))});
  for (const auto& [name, rows] : golden.at("models").get_object()) {
    // In float32: with bf16 weights some processors round what is multiplied.
    Steps executor(LoadModel(std::string(name), WeightType::kF32), DType::kF32, size_t{1} << 28, 37, 2);
    Sequence sequence =
        executor.Begin(MakePlan(tree, {ComposeMode::kSet, DocumentOrder::kGiven}, kKeys).value(), false, {}, 0);
    const size_t vocab = static_cast<size_t>(executor.transformer().config().vocab_size);
    std::vector<float> all;
    while (!sequence.prompt_is_ready()) {
      Executor::Turn turn{.sequence = &sequence, .logits_from = 0};
      executor.Step({&turn, 1}, executor.step_tokens);
      ASSERT_TRUE(turn.status.ok());
      if (turn.logits.empty()) continue;
      ASSERT_EQ(static_cast<size_t>(turn.first) * vocab, all.size());
      all.insert(all.end(), turn.logits.begin(), turn.logits.end());
    }
    for (size_t i = 0; i < golden.at("rows").get_array().size(); ++i) {
      const auto row = json::value_to<size_t>(golden.at("rows").get_array()[i]);
      const std::vector<float> ours(all.begin() + static_cast<ptrdiff_t>(row * vocab),
                                    all.begin() + static_cast<ptrdiff_t>((row + 1) * vocab));
      EXPECT_LT(RelativeError(ours, json::value_to<std::vector<float>>(rows.get_array()[i])), 1e-5)
          << name << " row " << row;
    }
  }
}

class Composition : public ::testing::TestWithParam<const char*> {};

TEST_P(Composition, SetIsTheSameToTheBitInAll120Orders) {
  const auto weights = LoadModel(GetParam());
  std::vector<std::vector<int32_t>> documents;
  for (int i = 0; i < 5; ++i) documents.push_back(RandomTokens(10 + 31 * i, static_cast<uint32_t>(10 + i)));
  for (const DType kv : {DType::kF32, DType::kBf16}) {
    Steps one(weights, kv, size_t{1} << 28, 512, 1), two(weights, kv, size_t{1} << 28, 50, 2);
    const std::vector<float> reference = Logits(one, SetPlan(documents), false);
    std::vector<int> order = {0, 1, 2, 3, 4};
    do {
      std::vector<std::vector<int32_t>> permuted;
      for (const int i : order) permuted.push_back(documents[static_cast<size_t>(i)]);
      ASSERT_EQ(Logits(one, SetPlan(permuted), false), reference) << "cold, 1 thread";
      ASSERT_EQ(Logits(two, SetPlan(permuted), true), reference) << "warm, 2 threads, other steps";
    } while (std::ranges::next_permutation(order).found);
  }
}

TEST_P(Composition, ApeIsOrderFreeAndWithoutWeightsASet) {
  const auto weights = LoadModel(GetParam());
  std::vector<std::vector<int32_t>> documents;
  for (int i = 0; i < 4; ++i) documents.push_back(RandomTokens(10 + 41 * i, static_cast<uint32_t>(10 + i)));
  Steps executor(weights, DType::kBf16, size_t{1} << 28, 60, 2);
  ComposeOptions ape{.mode = ComposeMode::kApe};
  const std::vector<float> reference = Logits(executor, SetPlan(documents, ape), false);
  const std::vector<float> set = Logits(executor, SetPlan(documents), false);
  EXPECT_GT(RelativeError(reference, set), 1e-3);
  for (int i = 0; i < 24; ++i) {
    std::ranges::next_permutation(documents);
    ASSERT_EQ(Logits(executor, SetPlan(documents, ape), true), reference);
  }
  ape.documents_temperature = ape.documents_scale = 1;
  EXPECT_EQ(Logits(executor, SetPlan(documents, ape), true), set);
}

constexpr const char* kRepairPolicies[] = {"focused", "first", "question", "deviation", "cachecraft", "random"};

// A fraction whose budget is every token: each is recomputed where its run stands.
constexpr double kEveryToken = 0.9999;

TEST_P(Composition, RepairOfAllIsTheFlatPromptAndOfNoneIsNot) {
  // In float32: with bf16 weights some processors round what is multiplied, and one bit before becomes many behind.
  const auto weights = LoadModel(GetParam(), WeightType::kF32);
  Steps executor(weights, DType::kF32, size_t{1} << 28, 70, 2);
  // The last is short enough for windows to reach beyond it.
  const std::vector<std::vector<int32_t>> documents = {RandomTokens(90, 1), RandomTokens(130, 2), RandomTokens(5, 3)};
  const auto exact = Logits(executor, SetPlan(documents, ComposeMode::kExact), false);
  for (const char* policy : kRepairPolicies) {
    ComposeOptions repair{.mode = ComposeMode::kRepair, .repair_fraction = kEveryToken, .repair_policy = policy};
    EXPECT_LT(RelativeError(Logits(executor, SetPlan(documents, repair), true), exact), 1e-5) << policy;
    EXPECT_LT(RelativeError(Logits(executor, SetPlan(documents, repair), true), exact), 1e-5) << policy << ", kept";
    repair.repair_fraction = 1;
    EXPECT_EQ(Logits(executor, SetPlan(documents, repair), false), exact) << policy;
    repair.repair_fraction = 0;
    EXPECT_GT(RelativeError(Logits(executor, SetPlan(documents, repair), true), exact), 1e-3) << policy;
  }
}

// Whatever rounds on the way, with any threshold, whatever was kept.
TEST_P(Composition, AFractionOfOneIsTheFlatPromptToTheBit) {
  Steps executor(LoadModel(GetParam()), DType::kBf16, size_t{1} << 28, 70, 2);
  const std::vector<std::vector<int32_t>> documents = {RandomTokens(90, 1), RandomTokens(130, 2), RandomTokens(5, 3)};
  for (const DocumentOrder order : {DocumentOrder::kGiven, DocumentOrder::kRepeat}) {
    const auto exact = Logits(executor, SetPlan(documents, {.mode = ComposeMode::kExact, .order = order}), false);
    for (const double threshold : {0.0, 0.2, 1e12}) {
      const ComposeOptions repair{
          .mode = ComposeMode::kRepair, .order = order, .repair_fraction = 1, .repair_threshold = threshold};
      for (const bool use_cache : {false, true, true})
        EXPECT_EQ(Logits(executor, SetPlan(documents, repair), use_cache), exact) << threshold << " " << use_cache;
    }
  }
}

// The second copies are read behind the repaired first ones.
TEST_P(Composition, RepairOfASetReadTwice) {
  // In float32: with bf16 weights some processors round what is multiplied, and one bit before becomes many behind.
  const auto weights = LoadModel(GetParam(), WeightType::kF32);
  Steps executor(weights, DType::kF32, size_t{1} << 28, 70, 2);
  const std::vector<std::vector<int32_t>> documents = {RandomTokens(90, 1), RandomTokens(30, 2), RandomTokens(5, 3)};
  const auto exact =
      Logits(executor, SetPlan(documents, {.mode = ComposeMode::kExact, .order = DocumentOrder::kRepeat}), false);
  for (const char* policy : kRepairPolicies) {
    ComposeOptions repair{.mode = ComposeMode::kRepair,
                          .order = DocumentOrder::kRepeat,
                          .repair_fraction = kEveryToken,
                          .repair_policy = policy};
    EXPECT_LT(RelativeError(Logits(executor, SetPlan(documents, repair), true), exact), 1e-5) << policy;
    repair.repair_fraction = 0.2;
    const auto part = Logits(executor, SetPlan(documents, repair), false);
    EXPECT_EQ(Logits(executor, SetPlan(documents, repair), true), part) << policy;
  }
}

// Also documents of which nothing was recomputed.
TEST_P(Composition, ARepairedPromptIsFoundAgain) {
  Steps executor(LoadModel(GetParam()), DType::kF32, size_t{1} << 28, 70, 2);
  for (const char* policy : kRepairPolicies) {
    for (const double fraction : {0.0, 0.02, 0.3}) {
      const Plan plan = SetPlan({RandomTokens(90, 1), RandomTokens(30, 2), RandomTokens(64, 3), RandomTokens(5, 4)},
                                {.mode = ComposeMode::kRepair, .repair_fraction = fraction, .repair_policy = policy});
      Logits(executor, plan, true);
      int reused = 0;
      Logits(executor, plan, true, &reused);
      EXPECT_EQ(reused, plan.n_tokens() - 1) << policy << " " << fraction;
    }
  }
}

// Whatever is kept, however the work is cut and in however little memory.
TEST_P(Composition, RepairIsTheSameToTheBitWarmOrCold) {
  const auto weights = LoadModel(GetParam());
  Steps whole(weights, DType::kBf16, size_t{1} << 28, 4096, 1);
  const size_t block = whole.transformer().kv_geometry().BlockBytes();
  const std::vector<std::vector<int32_t>> documents = {RandomTokens(90, 1), RandomTokens(33, 2), RandomTokens(130, 3),
                                                       RandomTokens(64, 4)};
  for (const char* policy : kRepairPolicies) {
    const ComposeOptions repair{.mode = ComposeMode::kRepair, .repair_fraction = 0.3, .repair_policy = policy};
    const auto reference = Logits(whole, SetPlan(documents, repair), false);
    for (const int step : {1, 7, 64, 500}) {
      SCOPED_TRACE(::testing::Message() << policy << ", " << step << " tokens a step");
      Steps executor(weights, DType::kBf16, 24 * block, step, 2);
      ASSERT_EQ(Logits(executor, SetPlan(documents, repair), true), reference);
      ASSERT_EQ(Logits(executor, SetPlan(documents, repair), true), reference) << "repaired runs kept";
      // Other company leaves sources in the store, from which the first is repaired again.
      std::vector<std::vector<int32_t>> reversed(documents.rbegin(), documents.rend());
      Logits(executor, SetPlan(reversed, repair), true);
      ASSERT_EQ(Logits(executor, SetPlan(documents, repair), true), reference) << "after other company";
    }
  }
}

// With a threshold, what is recomputed is kept where it changed enough, and else the documents stay as they were.
TEST_P(Composition, WhatChangesLittleStaysAsItWasKept) {
  const auto weights = LoadModel(GetParam());
  Steps whole(weights, DType::kBf16, size_t{1} << 28, 4096, 1);
  const size_t block = whole.transformer().kv_geometry().BlockBytes();
  const std::vector<std::vector<int32_t>> documents = {RandomTokens(90, 1), RandomTokens(33, 2), RandomTokens(64, 4)};
  constexpr double kAnyChange = 1e-12, kNoChange = 1e12;
  for (const DocumentOrder order : {DocumentOrder::kGiven, DocumentOrder::kRepeat}) {
    const auto plan = [&](double fraction, double threshold) {
      return SetPlan(
          documents,
          {.mode = ComposeMode::kRepair, .order = order, .repair_fraction = fraction, .repair_threshold = threshold});
    };
    const auto repaired = Logits(whole, plan(0.3, 0), false), kept = Logits(whole, plan(0, 0), false);
    // Behind a short window nothing that is looked at sees another document.
    ASSERT_EQ(repaired == kept, std::string_view(GetParam()) == "mistral");
    for (const int step : {1, 7, 500}) {
      SCOPED_TRACE(::testing::Message() << step << " tokens a step");
      Steps executor(weights, DType::kBf16, 24 * block, step, 2);
      for (const bool warm : {false, true}) {
        ASSERT_EQ(Logits(executor, plan(0.3, kAnyChange), true), repaired) << warm;
        ASSERT_EQ(Logits(executor, plan(0.3, kNoChange), true), kept) << warm;
      }
    }
  }
}

// Kept documents stay as and where they are: rows are written where something is encoded, and blocks copied only where
// rows in them are to be recomputed. Also documents whose last block is half full.
TEST_P(Composition, KeptKeysAreNeitherCopiedNorRewritten) {
  Steps executor(LoadModel(GetParam()), DType::kBf16, size_t{1} << 28, 512, 2);
  const uint64_t block = executor.transformer().kv_geometry().BlockBytes(), row = block / kKvBlockTokens;
  const std::vector<std::vector<int32_t>> documents = {RandomTokens(90, 1), RandomTokens(33, 2), RandomTokens(130, 3),
                                                       RandomTokens(64, 4)};
  uint32_t question = 100;
  const auto moved = [&](const ComposeOptions& options) {
    Sequence sequence = executor.Begin(SetPlan(documents, options, ++question), true);
    const KvTraffic before = executor.traffic();
    while (!sequence.prompt_is_ready()) {
      Executor::Turn turn{.sequence = &sequence};
      if (executor.Step({&turn, 1}, executor.step_tokens) == 0) break;
    }
    EXPECT_TRUE(sequence.prompt_is_ready());
    return executor.traffic() - before;
  };
  moved({.mode = ComposeMode::kSet});  // from now on they are kept
  for (const ComposeMode mode : {ComposeMode::kSet, ComposeMode::kApe}) {
    const KvTraffic set = moved({.mode = mode});
    EXPECT_EQ(set.copied_bytes, 0u);
    EXPECT_EQ(set.written_bytes, 9 * row);
    EXPECT_EQ(set.read_bytes, (11 + 90 + 33 + 130 + 64 + 9) * row);
  }
  for (const char* policy : {"first", "random"})
    for (const double fraction : {0.0, 0.01, 0.1, 0.5, kEveryToken}) {
      RepairInput input;
      input.lengths = {33, 130, 64};  // the first stands where it was read
      input.budget = RepairBudget(input.lengths, fraction);
      uint64_t n_rows = 0, n_blocks = 0;
      for (const std::vector<int32_t>& chosen : FindRepairPolicy(policy).value()->choose(input)) {
        std::set<int32_t> blocks;
        for (const int32_t token : chosen) blocks.insert(token / kKvBlockTokens);
        n_rows += chosen.size();
        n_blocks += blocks.size();
      }
      const KvTraffic repair =
          moved({.mode = ComposeMode::kRepair, .repair_fraction = fraction, .repair_policy = policy});
      EXPECT_EQ(repair.copied_bytes, n_blocks * block) << policy << " " << fraction;
      EXPECT_EQ(repair.written_bytes, (n_rows + 9) * row) << policy << " " << fraction;
    }
}

TEST_P(Composition, OrderMattersWhereItIsMeantTo) {
  const auto weights = LoadModel(GetParam());
  Steps executor(weights, DType::kF32, size_t{1} << 28, 512, 1);
  std::vector<std::vector<int32_t>> documents = {RandomTokens(20, 1), RandomTokens(25, 2)};
  const auto given = Logits(executor, SetPlan(documents, ComposeMode::kExact), false);
  std::swap(documents[0], documents[1]);
  EXPECT_NE(Logits(executor, SetPlan(documents, ComposeMode::kExact), false), given);
}

TEST_P(Composition, ASetOfOneIsTheFlatPrompt) {
  // In float32, as above.
  const auto weights = LoadModel(GetParam(), WeightType::kF32);
  Steps executor(weights, DType::kF32, size_t{1} << 28, 512, 1);
  const auto set = Logits(executor, SetPlan({RandomTokens(70, 4)}), false);
  EXPECT_LT(RelativeError(set, Logits(executor, SetPlan({RandomTokens(70, 4)}, ComposeMode::kExact), false)), 1e-5);
}

TEST_P(Composition, WarmEqualsColdToTheBit) {
  const auto weights = LoadModel(GetParam());
  for (const DType kv : {DType::kF32, DType::kBf16}) {
    Steps cold(weights, kv, size_t{1} << 28, 512, 1), warm(weights, kv, size_t{1} << 28, 512, 2);
    const std::vector<int32_t> text = RandomTokens(250, 3);
    for (const int n : {30, 250, 249, 64, 65, 128, 200, 250, 1}) {
      for (const bool other_end : {false, true}) {
        std::vector<int32_t> tokens(text.begin(), text.begin() + n);
        if (other_end) tokens.back() = (tokens.back() + 1) % 200;
        const auto plan = [&] { return MakePlan(PromptNode::Text(tokens), {}, kKeys).value(); };
        int reused;
        ASSERT_EQ(Logits(warm, plan(), true, &reused), Logits(cold, plan(), false))
            << n << " tokens, " << reused << " reused";
        ASSERT_EQ(Logits(warm, plan(), true, &reused), Logits(cold, plan(), false));
        ASSERT_EQ(reused, n - 1);
      }
    }
  }
}

TEST_P(Composition, EvictionChangesNothing) {
  const auto weights = LoadModel(GetParam());
  Steps roomy(weights, DType::kBf16, size_t{1} << 28, 64, 1);
  const size_t block = roomy.transformer().kv_geometry().BlockBytes();
  for (const std::string_view policy : EvictionPolicyNames()) {
    if (policy == "belady") continue;  // needs a known future
    Steps tight(weights, DType::kBf16, 12 * block, 64, 2, policy);
    std::mt19937 random(9);
    for (int i = 0; i < 15; ++i) {
      std::vector<std::vector<int32_t>> documents;
      for (int d = 0; d < 3; ++d) documents.push_back(RandomTokens(40 + 20 * d, 100 + random() % 6));
      ASSERT_EQ(Logits(tight, SetPlan(documents), true), Logits(roomy, SetPlan(documents), true)) << policy;
    }
    EXPECT_GT(tight.store().stats().evicted_spans, 0u) << policy;
    EXPECT_GT(tight.store().stats().hit_tokens, 0u) << policy;
  }
}

TEST_P(Composition, StepsAndThreadsChangeNothing) {
  const auto weights = LoadModel(GetParam());
  Steps whole(weights, DType::kBf16, size_t{1} << 28, 4096, 1);
  const std::vector<std::vector<int32_t>> documents = {RandomTokens(90, 1), RandomTokens(33, 2), RandomTokens(130, 3)};
  for (const ComposeMode mode : {ComposeMode::kExact, ComposeMode::kSet}) {
    const auto reference = Logits(whole, SetPlan(documents, mode), false);
    for (const int step : {1, 7, 63, 64, 100})
      for (const int threads : {1, 2, 3}) {
        Steps executor(weights, DType::kBf16, size_t{1} << 28, step, threads);
        ASSERT_EQ(Logits(executor, SetPlan(documents, mode), false), reference)
            << step << " tokens a step, " << threads << " threads";
      }
  }
}

// A document and its question as two runs, placed from position `base` on.
Plan Placed(int base, const std::vector<int32_t>& document, const std::vector<int32_t>& question) {
  Plan plan;
  plan.runs.push_back({.address = Sha256("document"), .base = base, .tokens = document, .visible = {}});
  plan.runs.push_back({.address = Sha256("question"),
                       .base = base + static_cast<int>(document.size()),
                       .tokens = question,
                       .visible = {0}});
  return plan;
}

TEST_P(Composition, ASpanMayBePlacedAnywhere) {
  const auto weights = LoadModel(GetParam());
  Steps executor(weights, DType::kF32, size_t{1} << 28, 512, 1);
  const std::vector<int32_t> document = RandomTokens(150, 5), question = RandomTokens(20, 6);
  std::vector<int32_t> flat = document;
  flat.insert(flat.end(), question.begin(), question.end());
  const auto recomputed = Logits(executor, MakePlan(PromptNode::Text(flat), {}, kKeys).value(), false);
  for (const int base : {0, 1, 63, 777, 4096, 100'000}) {
    // The question's run alone at `base`: its queries turn by their distance from the document's base, whatever that
    // is.
    EXPECT_LT(RelativeError(Logits(executor, Placed(base, document, question), true), recomputed), 1e-5) << base;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Composition,
                         ::testing::Values("llama2", "llama3", "mistral", "yarn", "qwen2", "qwen3"));

}  // namespace
}  // namespace spanwise

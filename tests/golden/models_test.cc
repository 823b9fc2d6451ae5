// Small random models of every family against Hugging Face transformers. The vectors: tests/golden/README.md.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "base/thread_pool.h"
#include "kernels/kv_view.h"
#include "model/transformer.h"
#include "model/weights.h"

namespace spanwise {
namespace {

struct Prompt {
  std::vector<int32_t> ids, continuation;
  std::vector<int> positions;  // whose logits are kept, in ids and continuation together
  size_t first_row = 0;        // of its logits in the file

  std::vector<int32_t> All() const {
    std::vector<int32_t> all = ids;
    all.insert(all.end(), continuation.begin(), continuation.end());
    return all;
  }
};

struct Golden {
  std::vector<int> eos_ids;
  std::vector<Prompt> prompts;
  std::vector<float> logits;
  size_t vocab_size = 0;
  double hf_bf16_error = 0;

  std::span<const float> Row(size_t i) const { return std::span(logits).subspan(i * vocab_size, vocab_size); }
};

std::string Folder(const std::string& name) {
  const char* root = std::getenv("SPANWISE_SOURCE_DIR");
  return std::string(root ? root : ".") + "/tests/golden/models/" + name;
}

template <typename T>
std::vector<T> Numbers(const json::value& array) {
  return json::value_to<std::vector<T>>(array);
}

Golden ReadGolden(const std::string& name) {
  Golden g;
  const json::value root = ParseJson(ReadFile(Folder(name) + "/vectors.json").value(), name).value();
  g.eos_ids = Numbers<int>(root.at("eos_ids"));
  g.vocab_size = root.at("vocab_size").to_number<size_t>();
  g.hf_bf16_error = root.at("hf_bfloat16_error").to_number<double>();
  size_t n_rows = 0;
  for (const json::value& p : root.at("prompts").as_array()) {
    g.prompts.push_back({.ids = Numbers<int32_t>(p.at("ids")),
                         .continuation = Numbers<int32_t>(p.at("continuation")),
                         .positions = Numbers<int>(p.at("positions")),
                         .first_row = n_rows});
    n_rows += g.prompts.back().positions.size();
  }
  const std::string bytes = ReadFile(Folder(name) + "/logits.f32").value();
  g.logits.resize(n_rows * g.vocab_size);
  EXPECT_EQ(bytes.size(), g.logits.size() * sizeof(float));
  std::memcpy(g.logits.data(), bytes.data(), std::min(bytes.size(), g.logits.size() * sizeof(float)));
  return g;
}

// A run that owns its blocks. Fresh blocks hold NaN, so that reading a row never written shows.
class OwnedRun {
 public:
  OwnedRun(const KvGeometry& kv, int base) : kv_(kv), base_(base) {}

  void Extend(int n_tokens) {
    n_tokens_ += n_tokens;
    while (static_cast<int>(blocks_.size()) * kKvBlockTokens < n_tokens_) {
      memory_.push_back(std::make_unique<std::vector<uint32_t>>(kv_.BlockBytes() / 4, 0xFFFFFFFFu));
      writable_.push_back(reinterpret_cast<std::byte*>(memory_.back()->data()));
      blocks_.push_back(writable_.back());
    }
  }
  KvRun View() const { return {blocks_, n_tokens_, base_}; }
  std::span<std::byte* const> writable() const { return writable_; }
  int n_tokens() const { return n_tokens_; }
  int base() const { return base_; }

 private:
  KvGeometry kv_;
  int base_, n_tokens_ = 0;
  std::vector<std::unique_ptr<std::vector<uint32_t>>> memory_;
  std::vector<const std::byte*> blocks_;
  std::vector<std::byte*> writable_;
};

// Appends tokens to a run that sees `before` and itself; the logits of all new rows.
std::vector<float> Append(Transformer& model, const std::vector<const OwnedRun*>& before, OwnedRun& run,
                          std::span<const int32_t> tokens) {
  run.Extend(static_cast<int>(tokens.size()));
  std::vector<KvRun> views;
  for (const OwnedRun* r : before) views.push_back(r->View());
  views.push_back(run.View());
  std::vector<int> rows(tokens.size());
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int>(i);
  const ForwardSequence sequence{.tokens = tokens, .runs = views, .tail_blocks = run.writable(), .logit_rows = rows};
  const std::span<const float> logits = model.Forward({&sequence, 1});
  return {logits.begin(), logits.end()};
}

// The largest difference as a share of the largest expected logit; infinite when anything is not a number.
double RelativeError(std::span<const float> found, std::span<const float> expected) {
  double difference = 0, largest = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (!std::isfinite(found[i])) return HUGE_VAL;
    difference = std::max(difference, std::abs(double{found[i]} - double{expected[i]}));
    largest = std::max(largest, std::abs(double{expected[i]}));
  }
  return difference / largest;
}

// The worst error of the kept rows, given the logits of every position from `first` on.
double WorstError(const Golden& g, const Prompt& p, std::span<const float> logits, int first = 0) {
  double worst = 0;
  for (size_t i = 0; i < p.positions.size(); ++i) {
    if (p.positions[i] < first) continue;
    const auto row = static_cast<size_t>(p.positions[i] - first);
    worst = std::max(worst, RelativeError(logits.subspan(row * g.vocab_size, g.vocab_size), g.Row(p.first_row + i)));
  }
  return worst;
}

class GoldenModel : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { golden_ = ReadGolden(GetParam()); }

  std::unique_ptr<Transformer> Load(WeightType type, ThreadPool& pool) {
    auto weights = ModelWeights::Load(Folder(GetParam()), type, pool);
    EXPECT_TRUE(weights.ok()) << weights.status().message();
    return weights.ok()
               ? std::make_unique<Transformer>(*weights, type == WeightType::kF32 ? DType::kF32 : DType::kBf16, pool)
               : nullptr;
  }

  Golden golden_;
  ThreadPool pool_{2};
};

TEST_P(GoldenModel, ReadsTheEndTokens) {
  const auto model = Load(WeightType::kF32, pool_);
  ASSERT_TRUE(model);
  EXPECT_EQ(model->config().eos_ids, golden_.eos_ids);
}

TEST_P(GoldenModel, AgreesInFloat32) {
  const auto model = Load(WeightType::kF32, pool_);
  ASSERT_TRUE(model);
  for (const Prompt& p : golden_.prompts) {
    OwnedRun run(model->kv_geometry(), 0);
    const double error = WorstError(golden_, p, Append(*model, {}, run, p.All()));
    EXPECT_LT(error, 1e-4) << p.ids.size() << " tokens";
    RecordProperty("error_" + std::to_string(p.ids.size()), std::to_string(error));
  }
}

TEST_P(GoldenModel, ContinuesAlikeInFloat32) {
  const auto model = Load(WeightType::kF32, pool_);
  ASSERT_TRUE(model);
  for (const Prompt& p : golden_.prompts) {
    OwnedRun run(model->kv_geometry(), 0);
    std::vector<float> logits = Append(*model, {}, run, p.ids);
    std::vector<int32_t> continuation;
    while (continuation.size() < p.continuation.size()) {
      const auto last = std::span(logits).last(golden_.vocab_size);
      continuation.push_back(static_cast<int32_t>(std::ranges::max_element(last) - last.begin()));
      logits = Append(*model, {}, run, {&continuation.back(), 1});
    }
    EXPECT_EQ(continuation, p.continuation) << p.ids.size() << " tokens";
  }
}

TEST_P(GoldenModel, AgreesInBf16) {
  const auto model = Load(WeightType::kBf16, pool_);
  ASSERT_TRUE(model);
  double worst = 0;
  for (const Prompt& p : golden_.prompts) {
    OwnedRun run(model->kv_geometry(), 0);
    const double error = WorstError(golden_, p, Append(*model, {}, run, p.All()));
    EXPECT_LT(error, 2e-2) << p.ids.size() << " tokens";
    worst = std::max(worst, error);
  }
  RecordProperty("error", std::to_string(worst));
  RecordProperty("transformers_error", std::to_string(golden_.hf_bf16_error));
}

// These models are 64 wide: an error of 0.4 % (q8) or 8 % (q4) in each product averages out little.
TEST_P(GoldenModel, QuantisesWithinItsError) {
  for (const auto& [type, limit] : {std::pair{WeightType::kQ8_0, 0.08}, {WeightType::kQ4_0, 0.7}}) {
    const auto model = Load(type, pool_);
    ASSERT_TRUE(model);
    double worst = 0;
    for (const Prompt& p : golden_.prompts) {
      OwnedRun run(model->kv_geometry(), 0);
      worst = std::max(worst, WorstError(golden_, p, Append(*model, {}, run, p.All())));
    }
    EXPECT_LT(worst, limit) << WeightTypeName(type);
    RecordProperty("error_" + std::string(WeightTypeName(type)), std::to_string(worst));
  }
}

// One prefill, prefill in chunks, token by token, and beside other sequences: the same bits.
TEST_P(GoldenModel, DoesNotDependOnChunksOrBatchMates) {
  for (const WeightType type : {WeightType::kF32, WeightType::kBf16, WeightType::kQ4_0}) {
    const auto model = Load(type, pool_);
    ASSERT_TRUE(model);
    const std::vector<int32_t> tokens = golden_.prompts.back().All();
    OwnedRun whole(model->kv_geometry(), 0);
    const std::vector<float> expected = Append(*model, {}, whole, tokens);

    for (const size_t chunk : {1, 7, 64, 100}) {
      OwnedRun run(model->kv_geometry(), 0);
      std::vector<float> logits;
      for (size_t at = 0; at < tokens.size(); at += chunk) {
        const std::vector<float> part =
            Append(*model, {}, run, std::span(tokens).subspan(at, std::min(chunk, tokens.size() - at)));
        logits.insert(logits.end(), part.begin(), part.end());
      }
      EXPECT_EQ(logits, expected) << "in chunks of " << chunk;
    }

    std::vector<OwnedRun> runs;
    std::vector<KvRun> views;
    std::vector<std::vector<int>> rows;
    std::vector<ForwardSequence> batch;
    for (const Prompt& p : golden_.prompts) {
      runs.emplace_back(model->kv_geometry(), 0).Extend(static_cast<int>(p.ids.size()));
      views.push_back(runs.back().View());
      rows.push_back({static_cast<int>(p.ids.size()) - 1});
    }
    for (size_t i = 0; i < runs.size(); ++i) {
      views[i] = runs[i].View();
      batch.push_back({.tokens = golden_.prompts[i].ids,
                       .runs = {&views[i], 1},
                       .tail_blocks = runs[i].writable(),
                       .logit_rows = rows[i]});
    }
    const std::span<const float> logits = model->Forward(batch);
    const std::vector<float> beside(logits.begin(), logits.end());
    for (size_t i = 0; i < runs.size(); ++i) {
      OwnedRun alone(model->kv_geometry(), 0);
      const std::vector<float> own = Append(*model, {}, alone, golden_.prompts[i].ids);
      EXPECT_TRUE(std::ranges::equal(std::span(own).last(golden_.vocab_size),
                                     std::span(beside).subspan(i * golden_.vocab_size, golden_.vocab_size)))
          << "beside others, prompt " << i;
    }
  }
}

TEST_P(GoldenModel, DoesNotDependOnThreads) {
  ThreadPool one{1}, three{3};
  const std::vector<int32_t> tokens = golden_.prompts.back().All();
  std::vector<float> logits[2];
  for (ThreadPool* pool : {&one, &three}) {
    const auto model = Load(WeightType::kBf16, *pool);
    ASSERT_TRUE(model);
    OwnedRun run(model->kv_geometry(), 0);
    logits[pool == &three] = Append(*model, {}, run, tokens);
  }
  EXPECT_EQ(logits[0], logits[1]);
}

// A prompt cut into runs that are placed one after another: each run's keys count from its own beginning, and attention
// merges the runs, so this is the same model up to rounding.
TEST_P(GoldenModel, AgreesOverSeveralRuns) {
  for (const auto& [type, tolerance] : {std::pair{WeightType::kF32, 1e-4}, std::pair{WeightType::kBf16, 2e-2}}) {
    const auto model = Load(type, pool_);
    ASSERT_TRUE(model);
    const Prompt& p = golden_.prompts.back();
    const std::vector<int32_t> tokens = p.All();
    std::vector<std::unique_ptr<OwnedRun>> runs;
    std::vector<const OwnedRun*> before;
    int at = 0;
    for (const int length : {3, 64, 65, static_cast<int>(tokens.size()) - 132}) {
      runs.push_back(std::make_unique<OwnedRun>(model->kv_geometry(), at));
      const std::vector<float> logits =
          Append(*model, before, *runs.back(),
                 std::span(tokens).subspan(static_cast<size_t>(at), static_cast<size_t>(length)));
      Prompt part = p;  // the positions up to the end of this run
      std::erase_if(part.positions, [&](int position) { return position >= at + length; });
      EXPECT_LT(WorstError(golden_, part, logits, at), tolerance) << "run at " << at;
      before.push_back(runs.back().get());
      at += length;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, GoldenModel,
                         testing::Values("llama2", "llama3", "llama_bias", "llama_linear", "llama_mqa", "yarn",
                                         "yarn_factor", "yarn_mscale", "mistral", "mistral_nemo", "qwen2", "qwen25",
                                         "qwen3", "qwen3_v5", "gemma2", "gemma3", "phi3", "phi4_mini", "olmo2",
                                         "smollm3", "granite", "qwen3_moe", "qwen3_moe_mixed", "mixtral"),
                         [](const auto& model) { return std::string(model.param); });

}  // namespace
}  // namespace spanwise

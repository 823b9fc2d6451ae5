// Small GGUF models against the gguf package, transformers and llama.cpp. The vectors: tests/golden/README.md.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/thread_pool.h"
#include "kernels/kv_view.h"
#include "model/transformer.h"
#include "model/weights.h"
#include "tensor/weight_type.h"

namespace spanwise {
namespace {

std::string Path(const std::string& name) {
  const char* root = std::getenv("SPANWISE_SOURCE_DIR");
  return std::string(root ? root : ".") + "/tests/golden/" + name;
}

json::value ReadJson(const std::string& path) { return ParseJson(ReadFile(path).value(), path).value(); }

// In memory as stored, or widened to f32 or bf16; KV in f32 with f32, else in bf16.
using LoadAs = std::optional<WeightType>;
constexpr LoadAs kStored, kF32 = WeightType::kF32, kBf16 = WeightType::kBf16;

std::string_view NameOf(LoadAs type) { return type ? WeightTypeName(*type) : "stored"; }

std::unique_ptr<Transformer> Load(const std::string& path, LoadAs type, ThreadPool& pool) {
  const auto weights = ModelWeights::Load(path, type, pool);
  if (!weights.ok()) {
    ADD_FAILURE() << weights.status().message();
    return nullptr;
  }
  return std::make_unique<Transformer>(*weights, type == kF32 ? DType::kF32 : DType::kBf16, pool);
}

// The logits after the last of `ids`.
std::vector<float> Logits(Transformer& model, std::span<const int32_t> ids) {
  const int n = static_cast<int>(ids.size());
  std::vector<std::vector<std::byte>> memory;
  std::vector<std::byte*> writable;
  std::vector<const std::byte*> blocks;
  for (int i = 0; i < n; i += kKvBlockTokens) {
    memory.emplace_back(model.kv_geometry().BlockBytes());
    blocks.push_back(writable.emplace_back(memory.back().data()));
  }
  const KvRun run{blocks, n, 0};
  const int last = n - 1;
  const ForwardSequence sequence{.tokens = ids, .runs = {&run, 1}, .tail_blocks = writable, .logit_rows = {&last, 1}};
  const auto logits = model.Forward({&sequence, 1});
  return {logits.begin(), logits.end()};
}

int32_t Best(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

double Error(std::span<const float> found, std::span<const float> expected) {
  double worst = 0, largest = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    worst = std::max(worst, std::abs(static_cast<double>(found[i]) - static_cast<double>(expected[i])));
    largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
  }
  return std::isfinite(worst) ? worst / largest : HUGE_VAL;
}

struct Prompt {
  std::vector<int32_t> ids, continuation;
  json::array llama_cpp_top;       // after the prompt and after all
  std::vector<float> expected[2];  // logits of transformers there
};

struct Vectors {
  std::string file;  // one of the model's parts: any opens all
  std::vector<Prompt> prompts;
};

Vectors ReadVectors(const std::string& folder, const std::string& name) {
  Vectors vectors;
  const json::value root = ReadJson(folder + "/vectors.json");
  const json::value& model = root.at("models").at(name);
  const auto vocab = model.at("vocab_size").to_number<size_t>();
  auto at = model.at("first_value").to_number<size_t>() * sizeof(float);
  const std::string bytes = ReadFile(folder + "/logits.f32").value();
  for (const json::value& p : model.at("prompts").as_array()) {
    Prompt& prompt = vectors.prompts.emplace_back();
    prompt.ids = json::value_to<std::vector<int32_t>>(p.at("ids"));
    prompt.continuation = json::value_to<std::vector<int32_t>>(p.at("continuation"));
    prompt.llama_cpp_top = p.at("llama_cpp_top").as_array();
    for (std::vector<float>& logits : prompt.expected) {
      logits.resize(vocab);
      EXPECT_LE(at + vocab * sizeof(float), bytes.size());
      std::memcpy(logits.data(), bytes.data() + at, vocab * sizeof(float));
      at += vocab * sizeof(float);
    }
  }
  vectors.file = folder + "/" + std::string(model.at("files").as_array().back().as_string());
  return vectors;
}

// Logits of transformers over the same weights, widened.
void ExpectTransformersLogits(const Vectors& vectors, LoadAs type, double tolerance, ThreadPool& pool) {
  const auto model = Load(vectors.file, type, pool);
  ASSERT_TRUE(model);
  for (const Prompt& p : vectors.prompts) {
    std::vector<int32_t> ids = p.ids;
    EXPECT_LT(Error(Logits(*model, ids), p.expected[0]), tolerance) << NameOf(type) << ", " << ids.size() << " tokens";
    ids.insert(ids.end(), p.continuation.begin(), p.continuation.end());
    EXPECT_LT(Error(Logits(*model, ids), p.expected[1]), tolerance) << NameOf(type) << ", " << ids.size() << " tokens";
  }
}

// The same greedy tokens, and its best logits as far as it rounds activations.
void ExpectLlamaCppTokens(const Vectors& vectors, LoadAs type, ThreadPool& pool) {
  const auto model = Load(vectors.file, type, pool);
  ASSERT_TRUE(model);
  for (const Prompt& p : vectors.prompts) {
    std::vector<int32_t> ids = p.ids;
    for (const int32_t expected : p.continuation) {
      const std::vector<float> logits = Logits(*model, ids);
      ASSERT_EQ(Best(logits), expected) << NameOf(type) << " after " << ids.size();
      ids.push_back(expected);
    }
    for (const size_t at : {0, 1}) {
      const std::vector<float> logits =
          Logits(*model, at == 0 ? std::span<const int32_t>(p.ids) : std::span<const int32_t>(ids));
      const double largest = std::abs(p.llama_cpp_top[at].at(0).at(1).to_number<double>());
      for (const json::value& pair : p.llama_cpp_top[at].as_array())
        EXPECT_NEAR(logits[pair.at(0).to_number<size_t>()], pair.at(1).to_number<double>(), 4e-2 * largest);
    }
  }
}

class GgufModel : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { vectors_ = ReadVectors(Path("gguf"), GetParam()); }
  ThreadPool pool_{2};
  Vectors vectors_;
};

TEST_P(GgufModel, AgreesWithTransformersOverTheSameWeights) {
  ExpectTransformersLogits(vectors_, kF32, 1e-4, pool_);
  ExpectTransformersLogits(vectors_, kBf16, 2e-2, pool_);
  ExpectTransformersLogits(vectors_, kStored, 3e-2, pool_);
}

TEST_P(GgufModel, ContinuesAsLlamaCpp) {
  ExpectLlamaCppTokens(vectors_, kF32, pool_);
  ExpectLlamaCppTokens(vectors_, kBf16, pool_);
  ExpectLlamaCppTokens(vectors_, kStored, pool_);
}

// What python/oracles/gguf_families.py wrote, where SPANWISE_GGUF_VECTORS names the folder.
TEST(Gguf, AgreesOverEveryFamily) {
  const char* folder = std::getenv("SPANWISE_GGUF_VECTORS");
  if (!folder) GTEST_SKIP() << "SPANWISE_GGUF_VECTORS is not set";
  ThreadPool pool{2};
  const json::value root = ReadJson(std::string(folder) + "/vectors.json");
  for (const auto& model : root.at("models").as_object()) {
    SCOPED_TRACE(std::string(model.key()));
    const Vectors vectors = ReadVectors(folder, model.key());
    ExpectTransformersLogits(vectors, kF32, 1e-4, pool);
    ExpectLlamaCppTokens(vectors, kF32, pool);
  }
}

INSTANTIATE_TEST_SUITE_P(Files, GgufModel,
                         testing::Values("llama3-bf16", "qwen2-q8_0", "qwen3-q4_0", "wide-k", "nemo-q5_0",
                                         "qwen3-q4_1"),
                         [](const auto& model) {
                           std::string name = model.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// The file holds the same bf16 weights with the rows of q and k interleaved, and the positions' scaling as a tensor.
TEST(Gguf, EqualsTheSafetensorsModel) {
  ThreadPool pool{2};
  const auto ours = ModelWeights::Load(Path("models/llama3"), WeightType::kF32, pool).value();
  const auto theirs = ModelWeights::Load(Path("gguf/llama3-bf16.gguf"), WeightType::kF32, pool).value();
  EXPECT_NE(ours->digest(), theirs->digest());
  ASSERT_EQ(ours->layers().size(), theirs->layers().size());
  const auto same = [](const WeightMatrix& a, const WeightMatrix& b) {
    return a.type == b.type && a.n_out == b.n_out && a.n_in == b.n_in && std::memcmp(a.data, b.data, a.bytes()) == 0;
  };
  for (size_t i = 0; i < ours->layers().size(); ++i) {
    const LayerWeights &a = ours->layers()[i], &b = theirs->layers()[i];
    EXPECT_TRUE(same(a.q.weight, b.q.weight));
    EXPECT_TRUE(same(a.k.weight, b.k.weight));
    EXPECT_TRUE(same(a.v.weight, b.v.weight));
    EXPECT_EQ(a.attention_norm, b.attention_norm);
  }
  const json::value root = ReadJson(Path("models/llama3/vectors.json"));
  Transformer a(ours, DType::kF32, pool), b(theirs, DType::kF32, pool);
  for (const json::value& p : root.at("prompts").as_array()) {
    const auto ids = json::value_to<std::vector<int32_t>>(p.at("ids"));
    EXPECT_LT(Error(Logits(b, ids), Logits(a, ids)), 1e-4);
  }
}

TEST(Gguf, WidensBlocksToTheBit) {
  const json::value root = ReadJson(Path("gguf/blocks.json"));
  for (const WeightType type : kBlockTypes) {
    const json::value& vectors = root.at(std::string(WeightTypeName(type)));
    const std::string hex(vectors.at("blocks").as_string());
    std::vector<std::byte> blocks(hex.size() / 2);
    for (size_t i = 0; i < blocks.size(); ++i)
      blocks[i] = static_cast<std::byte>(std::stoi(hex.substr(2 * i, 2), nullptr, 16));
    std::vector<float> wide(blocks.size() / BlockOf(type).bytes * BlockOf(type).elements);
    Widen(type, blocks.data(), wide.size(), wide.data());
    const auto first = json::value_to<std::vector<float>>(vectors.at("first"));  // where to look when the hash differs
    for (size_t i = 0; i < first.size(); ++i) EXPECT_EQ(wide[i], first[i]) << WeightTypeName(type);
    EXPECT_EQ(Sha256({reinterpret_cast<const char*>(wide.data()), wide.size() * sizeof(float)}).Hex(),
              std::string(vectors.at("widened_sha256").as_string()))
        << WeightTypeName(type);
  }
}

}  // namespace
}  // namespace spanwise

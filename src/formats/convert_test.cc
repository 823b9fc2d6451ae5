#include "formats/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <vector>

#include "base/file.h"
#include "base/str.h"
#include "formats/weight_source.h"

namespace spanwise {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

std::string Golden(const std::string& name) {
  const char* root = std::getenv("SPANWISE_SOURCE_DIR");
  return std::string(root ? root : ".") + "/tests/golden/models/" + name;
}

class ConvertTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "/convert-XXXXXX";
    ASSERT_TRUE(mkdtemp(pattern.data()));
    folder_ = pattern;
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::vector<std::string> Entries() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_)) names.push_back(entry.path().filename());
    return names;
  }

  std::string folder_;
  ThreadPool pool_{2};
};

std::vector<float> Values(const StoredTensor& t) {
  std::vector<float> out(t.n_elements());
  Widen(t.type, t.data, out.size(), out.data());
  return out;
}

TEST_F(ConvertTest, KeepsEveryTensorWithinItsTypesError) {
  const auto original = WeightSource::Open(Golden("llama3")).value();  // bf16, hidden 64
  for (const auto& [type, bound] : {std::pair{WeightType::kQ8_0, 0.007}, {WeightType::kQ4_0, 0.1}}) {
    const std::string out = StrFormat("{}/{}", folder_, WeightTypeName(type));
    size_t last = 0, total = 0;
    const Status status = ConvertModel(Golden("llama3"), out, type, pool_, [&](size_t done, size_t all) {
      EXPECT_GT(done, last);
      last = done;
      total = all;
    });
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(last, total);
    const auto converted = WeightSource::Open(out).value();
    ASSERT_EQ(converted->Tensors().size(), original->Tensors().size());
    size_t blocks = 0;
    for (const StoredTensor& t : converted->Tensors()) {
      const StoredTensor before = original->Find(t.name).value();
      EXPECT_EQ(t.shape, before.shape) << t.name;
      const std::vector<float> a = Values(before), b = Values(t);
      double difference = 0, size = 0;
      for (size_t i = 0; i < a.size(); ++i) {
        difference += std::pow(double{a[i]} - double{b[i]}, 2);
        size += std::pow(double{a[i]}, 2);
      }
      const bool ends = t.name.find("embed") != std::string::npos || t.name.find("lm_head") != std::string::npos;
      EXPECT_LE(std::sqrt(difference / size), ends ? 0.007 : bound) << t.name;
      if (PlainDType(t.type)) {
        EXPECT_EQ(a, b) << t.name;
      } else {
        EXPECT_EQ(t.type, ends ? WeightType::kQ8_0 : type) << t.name;
        ++blocks;
      }
    }
    EXPECT_EQ(blocks, 16u);  // seven matrices in each of two layers, embeddings and head
    EXPECT_TRUE(FileExists(out + "/generation_config.json"));  // what else lies in the folder comes along
  }
}

TEST_F(ConvertTest, RoundsToBf16) {
  const std::string out = folder_ + "/bf16";
  ASSERT_TRUE(ConvertModel(Golden("llama2"), out, WeightType::kBf16, pool_, {}).ok());  // float32 before
  const auto converted = WeightSource::Open(out).value();
  for (const StoredTensor& t : converted->Tensors())
    EXPECT_EQ(t.type, t.shape.size() == 2 ? WeightType::kBf16 : WeightType::kF32) << t.name;
}

TEST_F(ConvertTest, LeavesBehindWhatWasMeasuredOfTheOldWeights) {
  const std::string once = folder_ + "/once", twice = folder_ + "/twice";
  ASSERT_TRUE(ConvertModel(Golden("llama2"), once, WeightType::kBf16, pool_, {}).ok());
  ASSERT_TRUE(WriteFileAtomic(once + "/spanwise.json", "{}").ok());
  ASSERT_TRUE(WriteFileAtomic(once + "/notes.txt", "").ok());
  ASSERT_TRUE(ConvertModel(once, twice, WeightType::kBf16, pool_, {}).ok());
  EXPECT_TRUE(FileExists(twice + "/notes.txt"));
  EXPECT_FALSE(FileExists(twice + "/spanwise.json"));
}

TEST_F(ConvertTest, FailsWithoutATrace) {
  const std::string out = folder_ + "/out";
  EXPECT_THAT(ConvertModel(folder_ + "/none", out, WeightType::kQ8_0, pool_, {}).message(),
              HasSubstr("no such model folder"));
  EXPECT_THAT(ConvertModel(Golden("llama3") + "/config.json", out, WeightType::kQ8_0, pool_, {}).message(),
              HasSubstr("is neither a model folder nor a GGUF file"));
  EXPECT_THAT(ConvertModel(folder_, out, WeightType::kQ8_0, pool_, {}).message(), HasSubstr("config.json"));
  EXPECT_THAT(ConvertModel(Golden("llama3"), folder_, WeightType::kQ8_0, pool_, {}).message(),
              HasSubstr("exists already"));
  EXPECT_THAT(ConvertModel(Golden("llama3"), folder_ + "/no/out", WeightType::kQ8_0, pool_, {}).message(),
              HasSubstr("cannot create a folder"));
  EXPECT_TRUE(Entries().empty());

  const std::string bad = folder_ + "/bad";  // its last matrix holds NaN
  fs::copy(Golden("llama3"), bad);
  std::string weights = ReadFile(bad + "/model.safetensors").value();
  std::fill(weights.end() - 4096, weights.end(), '\xff');
  std::ofstream(bad + "/model.safetensors", std::ios::binary) << weights;
  EXPECT_THAT(ConvertModel(bad, out, WeightType::kQ4_0, pool_, {}).message(), HasSubstr("not finite"));
  EXPECT_EQ(Entries(), std::vector<std::string>{"bad"});

  ASSERT_TRUE(ConvertModel(Golden("llama3"), out, WeightType::kQ8_0, pool_, {}).ok());
  EXPECT_THAT(ConvertModel(out, folder_ + "/again", WeightType::kQ4_0, pool_, {}).message(),
              HasSubstr("is quantised already"));
}

TEST_F(ConvertTest, RefusesConfigurationsThatLie) {
  const auto types = [](std::string_view config) { return ReadBlockTypes(config, "c"); };
  EXPECT_TRUE(types("{}").value().empty());
  EXPECT_TRUE(types(R"({"quantization_config":null})").value().empty());
  EXPECT_THAT(types(R"({"quantization_config":{"quant_method":"gptq"}})").status().message(), HasSubstr("\"gptq\""));
  EXPECT_THAT(types(R"({"quantization_config":{"quant_method":"spanwise","version":2}})").status().message(),
              HasSubstr("version 2"));
  EXPECT_THAT(types(R"({"quantization_config":{"quant_method":"spanwise","version":1}})").status().message(),
              HasSubstr("no object 'tensors'"));
  EXPECT_THAT(types(R"({"quantization_config":{"quant_method":"spanwise","version":1,"tensors":{"a":"q9"}}})")
                  .status()
                  .message(),
              HasSubstr("expected q8_0 or q4_0"));

  const std::string out = folder_ + "/q";
  ASSERT_TRUE(ConvertModel(Golden("llama3"), out, WeightType::kQ8_0, pool_, {}).ok());
  const std::string config = ReadFile(out + "/config.json").value();
  const auto open_with = [&](std::string_view from, std::string_view to) {
    std::string changed = config;
    const size_t at = changed.find(from);
    EXPECT_NE(at, std::string::npos);
    std::ofstream(out + "/config.json") << changed.replace(at, from.size(), to);
    return std::string(WeightSource::Open(out).status().message());
  };
  EXPECT_THAT(open_with("model.embed_tokens.weight", "model.nothing.weight"), HasSubstr("no such U8 tensor"));
  EXPECT_THAT(open_with(R"("q8_0")", R"("q4_0")"), HasSubstr("no whole blocks of 18 bytes"));
}

}  // namespace
}  // namespace spanwise

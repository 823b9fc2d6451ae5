// Which models are the same, whatever their files look like: the digest in every address of KV.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "base/str.h"
#include "formats/convert.h"
#include "formats/gguf.h"
#include "model/weights.h"

namespace spanwise {
namespace {

namespace fs = std::filesystem;

std::string Golden(const std::string& name) {
  const char* root = std::getenv("SPANWISE_SOURCE_DIR");
  return std::string(root ? root : ".") + "/tests/golden/" + name;
}

void Write(const std::string& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

// A safetensors file taken apart.
struct Tensors {
  json::object header;
  std::string data;

  static Tensors Read(const std::string& path) {
    const std::string bytes = ReadFile(path).value();
    uint64_t n = 0;
    std::memcpy(&n, bytes.data(), sizeof n);
    Tensors tensors{ParseJson(bytes.substr(8, n), path).value().as_object(), bytes.substr(8 + n)};
    tensors.header.erase("__metadata__");
    return tensors;
  }
  std::string Bytes(const std::string& name) const {
    const auto range = json::value_to<std::vector<size_t>>(header.at(name).at("data_offsets"));
    return data.substr(range[0], range[1] - range[0]);
  }
  void Add(const std::string& name, std::string_view dtype, const json::value& shape, const std::string& bytes) {
    header[name] = json::object{
        {"dtype", dtype}, {"shape", shape}, {"data_offsets", json::array{data.size(), data.size() + bytes.size()}}};
    data += bytes;
  }
  std::string ToBytes() const {
    std::string text = json::serialize(header);
    text.resize((text.size() + 7) / 8 * 8, ' ');
    std::string bytes(8, '\0');
    const uint64_t n = text.size();
    std::memcpy(bytes.data(), &n, sizeof n);
    return bytes + text + data;
  }
};

class ModelDigestTest : public testing::Test {
 protected:
  ModelDigestTest() : folder_((fs::temp_directory_path() / "digest.XXXXXX").string()) {
    if (!mkdtemp(folder_.data())) std::abort();
  }
  ~ModelDigestTest() override { fs::remove_all(folder_); }

  std::string Copy(const std::string& name) {
    const std::string copy = folder_ + "/" + name;
    fs::create_directories(copy);
    for (const char* file : {"config.json", "model.safetensors"})
      fs::copy_file(Golden("models/" + name + "/" + file), copy + "/" + file, fs::copy_options::overwrite_existing);
    return copy;
  }
  std::string DigestOf(const std::string& path, std::optional<WeightType> type = {}) {
    const auto weights = ModelWeights::Load(path, type, pool_);
    EXPECT_TRUE(weights.ok()) << weights.status().message();
    return weights.ok() ? (*weights)->digest().Hex() : "";
  }

  std::string folder_;
  ThreadPool pool_{2};
};

TEST_F(ModelDigestTest, DependsOnEveryBitOfEveryTensor) {
  for (const std::string name : {"llama_bias", "granite", "olmo2", "phi3", "qwen3_moe_mixed"}) {
    const std::string copy = Copy(name), file = copy + "/model.safetensors";
    const std::string base = DigestOf(copy), bytes = ReadFile(file).value();
    EXPECT_EQ(DigestOf(Golden("models/" + name)), base);
    const Tensors tensors = Tensors::Read(file);
    for (const auto& [tensor, about] : tensors.header) {
      const auto range = json::value_to<std::vector<size_t>>(about.at("data_offsets"));
      for (const size_t at : {range[0], (range[0] + range[1]) / 2 / 4 * 4, range[1] - 2}) {
        std::string changed = bytes;
        changed[changed.size() - tensors.data.size() + at] ^= 1;  // the smallest change of a number
        Write(file, changed);
        EXPECT_NE(DigestOf(copy), base) << name << " " << tensor << " " << at;
      }
    }
  }
}

TEST_F(ModelDigestTest, DependsOnEveryBitOfEveryBlock) {
  for (const std::string name : {"nemo-q5_0", "qwen3-q4_1", "wide-k"}) {
    const std::string original = Golden("gguf/" + name + ".gguf"), copy = folder_ + "/" + name + ".gguf";
    const std::string bytes = ReadFile(original).value(), base = DigestOf(original);
    const auto file = GgufFile::Parse(std::as_bytes(std::span(bytes)), name).value();
    for (const auto& [tensor, about] : file->tensors()) {
      const auto at = static_cast<size_t>(reinterpret_cast<const char*>(about.data) - bytes.data());
      for (const size_t offset : {size_t{0}, size_t{2}, about.n_bytes / 2, about.n_bytes - 2}) {
        std::string changed = bytes;
        changed[at + offset] ^= 1;
        Write(copy, changed);
        EXPECT_NE(DigestOf(copy), base) << name << " " << tensor << " " << offset;
      }
    }
  }
}

TEST_F(ModelDigestTest, DependsOnTheNumbersOfTheConfiguration) {
  const std::string copy = Copy("llama2"), path = copy + "/config.json", base = DigestOf(copy);
  const json::object config = ParseJson(ReadFile(path).value(), path).value().as_object();
  const auto with = [&](std::string_view key, const json::value& value) {
    json::object changed = config;
    changed[key] = value;
    Write(path, json::serialize(changed));
    return DigestOf(copy);
  };
  EXPECT_EQ(with("eos_token_id", 7), base);
  EXPECT_EQ(with("_name_or_path", "another name"), base);
  EXPECT_EQ(with("torch_dtype", "float16"), base);
  EXPECT_EQ(with("max_position_embeddings", 64), base);
  EXPECT_NE(with("rms_norm_eps", 2e-5), base);
  EXPECT_NE(with("rope_theta", 10001.0), base);
  EXPECT_NE(with("rope_scaling", json::object{{"rope_type", "linear"}, {"factor", 2.0}}), base);
  EXPECT_NE(with("hidden_act", "gelu_pytorch_tanh"), base);
  // Where rotations depend on the number of positions, so does the digest.
  EXPECT_NE(DigestOf(Golden("models/yarn")), DigestOf(Golden("models/yarn_factor")));
}

TEST_F(ModelDigestTest, IsTheSameForTheSameNumbersInOtherFiles) {
  const std::string copy = Copy("mistral");
  const Tensors whole = Tensors::Read(copy + "/model.safetensors");
  const std::string base = DigestOf(copy), wide = DigestOf(copy, WeightType::kF32),
                    q8 = DigestOf(copy, WeightType::kQ8_0);
  EXPECT_NE(wide, base);
  EXPECT_NE(q8, base);

  // Two files, tensors in another order.
  Tensors parts[2];
  json::object map;
  for (const auto& [name, about] : whole.header) {
    const size_t part = map.size() % 2;
    parts[part].Add(name, about.at("dtype").as_string(), about.at("shape"), whole.Bytes(name));
    map[name] = StrFormat("model-0000{}-of-00002.safetensors", part + 1);
  }
  fs::remove(copy + "/model.safetensors");
  for (size_t i = 0; i < 2; ++i)
    Write(copy + StrFormat("/model-0000{}-of-00002.safetensors", i + 1), parts[i].ToBytes());
  Write(copy + "/model.safetensors.index.json", json::serialize(json::object{{"weight_map", map}}));
  EXPECT_EQ(DigestOf(copy), base);

  // The same numbers as float32.
  const std::string f32 = Copy("mistral") + "-f32";
  fs::create_directories(f32);
  fs::copy_file(copy + "/config.json", f32 + "/config.json");
  Tensors widened;
  for (const auto& [name, about] : whole.header) {
    ASSERT_EQ(about.at("dtype").as_string(), "BF16");
    const std::string narrow = whole.Bytes(name);
    std::string bytes;
    for (size_t i = 0; i < narrow.size(); i += 2) bytes += std::string(2, '\0') + narrow.substr(i, 2);
    widened.Add(name, "F32", about.at("shape"), bytes);
  }
  Write(f32 + "/model.safetensors", widened.ToBytes());
  EXPECT_EQ(DigestOf(f32), wide);
  EXPECT_EQ(DigestOf(f32, WeightType::kBf16), base);
  EXPECT_EQ(DigestOf(f32, WeightType::kQ8_0), q8);

  // Quantised once and for all, and when it is loaded.
  const std::string source = Golden("models/mistral"), converted = folder_ + "/converted";
  ASSERT_TRUE(ConvertModel(source, converted, WeightType::kQ8_0, pool_, {}).ok());
  EXPECT_EQ(DigestOf(converted), q8);
}

}  // namespace
}  // namespace spanwise

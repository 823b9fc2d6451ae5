// Any bytes as a GGUF file: what is accepted lies inside the file, apart, and within the bounds that its readers
// promise.
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <span>
#include <string>

#include "base/check.h"
#include "formats/gguf.h"
#include "formats/gguf_config.h"
#include "formats/gguf_vocabulary.h"

namespace {

using namespace spanwise;

void CheckTensors(const GgufFile& file, std::span<const std::byte> bytes) {
  std::map<const std::byte*, const GgufTensor*> by_place;
  for (const auto& [name, tensor] : file.tensors()) {
    SW_CHECK(tensor.shape.size() >= 1 && tensor.shape.size() <= 4);
    size_t elements = 1;
    for (const int64_t dim : tensor.shape) elements *= static_cast<size_t>(dim);
    SW_CHECK(elements >= 1 && tensor.n_bytes >= 1);
    SW_CHECK(tensor.data >= bytes.data() && tensor.n_bytes <= bytes.size());
    SW_CHECK(tensor.data + tensor.n_bytes <= bytes.data() + bytes.size());
    if (tensor.type) SW_CHECK(tensor.n_bytes == WeightBytes(*tensor.type, elements));
    SW_CHECK(by_place.emplace(tensor.data, &tensor).second);
    if (!tensor.type || elements > 4096) continue;
    std::vector<float> wide(elements);
    Widen(*tensor.type, tensor.data, elements, wide.data());
  }
  const std::byte* end = bytes.data();
  for (const auto& [data, tensor] : by_place) {
    SW_CHECK(data >= end);
    end = data + tensor->n_bytes;
  }
}

void ReadEverything(const GgufFile& file) {
  constexpr int64_t kLow = std::numeric_limits<int64_t>::min(), kHigh = std::numeric_limits<int64_t>::max();
  constexpr double kHuge = std::numeric_limits<double>::infinity();
  for (const auto& item : file.metadata()) {
    const std::string& key = item.first;
    const int good = file.GetInt(key, kLow, kHigh).ok() + file.GetBool(key).ok() + file.GetInts(key, kLow, kHigh).ok() +
                     file.GetStrings(key).ok() + file.GetString(key).ok();
    SW_CHECK(good <= 1);
    if (const auto number = file.GetNumber(key, -kHuge, kHuge); number.ok()) SW_CHECK(!std::isnan(**number));
    (void)file.GetNumbers(key, -kHuge, kHuge).ok();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto file = GgufFile::Parse(bytes, "input");
  if (!file.ok()) {
    SW_CHECK(file.status().message().starts_with("input"));
    return 0;
  }
  CheckTensors(**file, bytes);
  ReadEverything(**file);
  if (const auto vocabulary = ReadGgufVocabulary(**file); vocabulary.ok()) {
    const auto n = static_cast<int32_t>(vocabulary->tokens.size());
    for (const auto& id : {vocabulary->bos_id, vocabulary->eos_id, vocabulary->eot_id, vocabulary->pad_id})
      if (id) SW_CHECK(*id >= 0 && *id < n);
    SW_CHECK(vocabulary->scores.empty() || vocabulary->scores.size() == vocabulary->tokens.size());
    SW_CHECK(vocabulary->types.empty() || vocabulary->types.size() == vocabulary->tokens.size());
  }
  const auto config = ReadGgufConfig(**file);
  if (!config.ok()) {
    SW_CHECK(!config.status().message().starts_with("input"));
    return 0;
  }
  SW_CHECK(config->n_layers >= 1 && config->n_layers <= 1024 && config->head_dim % 2 == 0);
  SW_CHECK(config->n_heads % config->n_kv_heads == 0);
  for (const int layer : config->layer_ropes) SW_CHECK(layer < static_cast<int>(config->ropes.size()));
  for (const RopeConfig& rope : config->ropes)
    if (rope.scaling == RopeConfig::Scaling::kDivided)
      SW_CHECK(rope.divisors.size() == static_cast<size_t>(config->rotary_dim / 2));
  return 0;
}

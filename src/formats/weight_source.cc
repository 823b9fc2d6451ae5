#include "formats/weight_source.h"

#include <algorithm>
#include <map>

#include "base/file.h"
#include "base/str.h"
#include "formats/convert.h"
#include "formats/gguf_source.h"
#include "formats/model_file.h"
#include "formats/safetensors.h"

namespace spanwise {
namespace {

constexpr size_t kMaxConfigBytes = size_t{16} << 20;

StoredTensor FromView(const std::string& name, const TensorView& view) {
  return {.name = name, .data = view.data, .type = StoredAs(view.dtype), .shape = view.shape, .interleaved_heads = 0};
}

class SafetensorsSource final : public WeightSource {
 public:
  static Result<std::unique_ptr<const WeightSource>> Open(const std::string& folder) {
    auto source = std::make_unique<SafetensorsSource>();
    const std::string path = folder + "/config.json", generation_path = folder + "/generation_config.json";
    if (!FileExists(path))
      return NotFound(StrFormat("{}: has no config.json; download it with the model's other files", folder));
    SW_ASSIGN_OR_RETURN(const std::string config, ReadModelText(path, kMaxConfigBytes));
    SW_ASSIGN_OR_RETURN(source->config_, ParseModelConfig(config, path));
    if (FileExists(generation_path)) {
      SW_ASSIGN_OR_RETURN(const std::string generation, ReadModelText(generation_path, kMaxConfigBytes));
      SW_RETURN_IF_ERROR(AddGenerationConfig(generation, generation_path, &source->config_));
    }
    SW_ASSIGN_OR_RETURN(const auto block_types, ReadBlockTypes(config, path));
    SW_ASSIGN_OR_RETURN(source->files_, SafetensorsModel::Open(folder));
    for (const auto& [name, type] : block_types) {
      auto tensor = Blocks(name, type, source->files_->others());
      if (!tensor.ok()) return tensor.status().WithContext(folder);
      source->blocks_.emplace(name, std::move(*tensor));
    }
    return std::unique_ptr<const WeightSource>(std::move(source));
  }

  Result<StoredTensor> Find(const std::string& name) const override {
    if (const auto found = blocks_.find(name); found != blocks_.end()) return found->second;
    SW_ASSIGN_OR_RETURN(const TensorView view, files_->Find(name));
    return FromView(name, view);
  }

  std::vector<StoredTensor> Tensors() const override {
    std::vector<StoredTensor> all;
    for (const auto& [name, view] : files_->tensors()) all.push_back(FromView(name, view));
    for (const auto& [name, tensor] : blocks_) all.push_back(tensor);
    std::ranges::sort(all, {}, &StoredTensor::name);
    return all;
  }

 private:
  // A U8 tensor [rows, bytes] as the rows of blocks that it is.
  static Result<StoredTensor> Blocks(const std::string& name, WeightType type,
                                     const std::map<std::string, OtherTensor>& others) {
    const auto found = others.find(name);
    if (found == others.end() || found->second.dtype != "U8")
      return Corruption(StrFormat("config.json gives tensor {} the type {}, but there is no such U8 tensor",
                                  Quoted(name), WeightTypeName(type)));
    const OtherTensor& tensor = found->second;
    const WeightBlock block = BlockOf(type);
    if (tensor.shape.size() != 2 || static_cast<uint64_t>(tensor.shape[1]) % block.bytes != 0)
      return Corruption(StrFormat("tensor {} of type {}: rows are no whole blocks of {} bytes", Quoted(name),
                                  WeightTypeName(type), block.bytes));
    const auto elements = static_cast<uint64_t>(tensor.shape[1]) / block.bytes * block.elements;
    return StoredTensor{.name = name,
                        .data = tensor.bytes.data(),
                        .type = type,
                        .shape = {tensor.shape[0], static_cast<int64_t>(elements)},
                        .interleaved_heads = 0};
  }

  std::map<std::string, StoredTensor> blocks_;
  std::shared_ptr<const SafetensorsModel> files_;
};

}  // namespace

size_t StoredTensor::n_elements() const {
  size_t n = 1;
  for (const int64_t d : shape) n *= static_cast<size_t>(d);
  return n;
}

size_t StoredTensor::StoredRow(size_t row) const {
  if (interleaved_heads == 0) return row;
  const size_t head_rows = static_cast<size_t>(shape[0]) / static_cast<size_t>(interleaved_heads);
  const size_t begin = row / head_rows * head_rows, within = row - begin, half = head_rows / 2;
  return begin + (within < half ? 2 * within : 2 * (within - half) + 1);
}

Result<std::unique_ptr<const WeightSource>> WeightSource::Open(const std::string& path) {
  return IsGgufPath(path) ? OpenGgufSource(path) : SafetensorsSource::Open(path);
}

}  // namespace spanwise

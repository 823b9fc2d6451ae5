// Reader of safetensors files: one file, or shards with model.safetensors.index.json. Bytes stay in the memory map.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "spanwise/status.h"
#include "tensor/tensor_view.h"

namespace spanwise {

// A tensor of a dtype that is not one of ours.
struct OtherTensor {
  std::string dtype;  // as written
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;
};

// The tensors of a model folder by name. Immutable, thread-safe; views live as long as the object.
//
// Every header is checked before anything is handed out: header length inside the file and at most 100 MB, JSON object
// of {dtype, shape, data_offsets}, shape product x dtype size equal to the range, ranges inside the file, not
// overlapping and without holes, names unique over all shards, and shards exactly as the index says. Tensors of other
// dtypes than F32/F16/BF16 are listed apart. A file that is something else altogether (a Git LFS pointer, a PyTorch
// file, formats/model_file.h) or is cut short is said to be that. Corruption names the file, tensor, value found and
// value expected.
class SafetensorsModel {
 public:
  // `folder` holds model.safetensors, or model.safetensors.index.json and its shards.
  static Result<std::shared_ptr<const SafetensorsModel>> Open(const std::string& folder);

  // One file's bytes; `name` is used in messages. For tests and fuzzing.
  static Result<std::map<std::string, TensorView>> ParseHeader(std::span<const std::byte> file, std::string_view name,
                                                               std::map<std::string, OtherTensor>* others = nullptr);

  // NotFound when there is no such tensor; Unimplemented when its dtype is not one of ours. Both name the tensor alone.
  Result<TensorView> Find(const std::string& name) const;
  const std::map<std::string, TensorView>& tensors() const { return tensors_; }
  const std::map<std::string, OtherTensor>& others() const { return others_; }
  // The mapped files, for hashing.
  const std::vector<std::shared_ptr<const MappedFile>>& files() const { return files_; }

 private:
  SafetensorsModel() = default;
  std::vector<std::shared_ptr<const MappedFile>> files_;
  std::map<std::string, TensorView> tensors_;
  std::map<std::string, OtherTensor> others_;
};

}  // namespace spanwise

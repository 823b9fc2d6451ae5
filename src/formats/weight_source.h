// Where a model's weights come from: one view of a folder of safetensors and of a GGUF file.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/hash.h"
#include "formats/model_config.h"
#include "spanwise/status.h"
#include "tensor/weight_type.h"

namespace spanwise {

// One tensor as its file stores it. `data` lives as long as the source and may be unaligned where `type` is a block
// type; plain floats are aligned as their file was.
struct StoredTensor {
  std::string name;  // in the file
  const std::byte* data = nullptr;
  WeightType type = WeightType::kF32;
  std::vector<int64_t> shape;  // row-major, the last one varies fastest; rows are whole blocks
  // Above 0: the rows are so many heads, and in each head the partner rows of a rotation, i and i + rows / 2, stand
  // beside each other, at 2 i and 2 i + 1 (GGUF's "llama" architectures).
  int interleaved_heads = 0;

  size_t n_elements() const;
  size_t n_bytes() const { return WeightBytes(type, n_elements()); }
  // Where row `row` of the Hugging Face layout stands. REQUIRES: rows are a multiple of 2 x interleaved_heads.
  size_t StoredRow(size_t row) const;
};

// Immutable, thread-safe. Every tensor handed out lies inside its file; whether its shape is the model's is for the
// caller to judge.
class WeightSource {
 public:
  // A folder with config.json and safetensors, or a GGUF file (any part of a split one). NotFound, Corruption,
  // InvalidArgument or Unimplemented name the file, and the tensor or field.
  static Result<std::unique_ptr<const WeightSource>> Open(const std::string& path);
  virtual ~WeightSource() = default;

  const ModelConfig& config() const { return config_; }
  // The tensor under its Hugging Face name ("model.layers.0.mlp.up_proj.weight"). NotFound when there is none,
  // Unimplemented when it is stored in a type that is not read; both name the tensor, and leave the model to the
  // caller.
  virtual Result<StoredTensor> Find(const std::string& name) const = 0;
  // All tensors that can be read, under their names in the file, ascending.
  virtual std::vector<StoredTensor> Tensors() const = 0;

 protected:
  ModelConfig config_;
};

}  // namespace spanwise

// The weights of a decoder model in the Hugging Face layout, checked against its configuration.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/hash.h"
#include "base/thread_pool.h"
#include "formats/model_config.h"
#include "formats/safetensors.h"
#include "kernels/ops.h"
#include "spanwise/status.h"

namespace spanwise {

// y = W x + b. The bias is empty where the model has none.
struct Linear {
  WeightMatrix weight;
  std::vector<float> bias;
};

struct LayerWeights {
  std::vector<float> attention_norm, ffn_norm;  // [hidden_dim]
  Linear q, k, v, output;
  std::vector<float> q_norm, k_norm;  // [head_dim], empty without QK-norm
  Linear gate, up, down;
};

// Matrices stay in the memory-mapped files unless the asked dtype makes them smaller (float32 to bf16: one converted
// copy). Immutable after loading; thread-safe.
class ModelWeights {
 public:
  // `folder` holds config.json and safetensors. With dtype bf16, float32 matrices are rounded; 16-bit ones are used as
  // they are with any dtype, since widening them is exact.
  // NotFound, Corruption, InvalidArgument or Unimplemented name the file, tensor or field.
  static Result<std::shared_ptr<const ModelWeights>> Load(const std::string& folder, std::optional<DType> dtype,
                                                          ThreadPool& pool);

  // Random bf16 weights of a Llama shape, in memory: for measuring speed. No biases, no QK-norm.
  static std::shared_ptr<const ModelWeights> Random(const ModelConfig& config, ThreadPool& pool);

  const ModelConfig& config() const { return config_; }
  const WeightMatrix& embedding() const { return embedding_; }
  const WeightMatrix& head() const { return head_; }
  const std::vector<float>& final_norm() const { return final_norm_; }
  const std::vector<LayerWeights>& layers() const { return layers_; }
  // SHA-256 over the configuration and every tensor's name, dtype, shape and bytes: part of every span's address.
  const Hash256& digest() const { return digest_; }
  size_t n_parameters() const { return n_parameters_; }
  size_t n_bytes() const { return n_bytes_; }
  DType matrix_dtype() const { return embedding_.dtype; }
  // REQUIRES: loaded from files.
  const SafetensorsModel& files() const { return *files_; }

 private:
  class Loader;
  ModelConfig config_;
  std::shared_ptr<const SafetensorsModel> files_;
  WeightMatrix embedding_, head_;
  std::vector<float> final_norm_;
  std::vector<LayerWeights> layers_;
  std::deque<std::vector<uint16_t>> converted_;
  Hash256 digest_;
  size_t n_parameters_ = 0, n_bytes_ = 0;
};

}  // namespace spanwise

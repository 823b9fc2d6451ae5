// The weights of a decoder model in the Hugging Face layout, checked against its configuration.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/hash.h"
#include "base/pages.h"
#include "base/thread_pool.h"
#include "formats/model_config.h"
#include "formats/weight_source.h"
#include "kernels/ops.h"
#include "spanwise/status.h"

namespace spanwise {

// The type that a user names: "f32", "bf16", "q8" or "q4". InvalidArgument for anything else.
Result<WeightType> ParseWeights(const std::string& name);

// y = W x + b. The bias is empty where the model has none.
struct Linear {
  WeightMatrix weight;
  std::vector<float> bias;
};

// down (activation(gate x) * up x)
struct FeedForwardWeights {
  Linear gate, up, down;
};

// Norm gains are [hidden_dim], or empty where the model has no such norm.
struct LayerWeights {
  std::vector<float> attention_norm, attention_post_norm, ffn_norm, ffn_post_norm;
  Linear q, k, v, output;
  std::vector<float> q_norm, k_norm;  // [head_dim] or [n_heads * head_dim], empty without QK-norm
  FeedForwardWeights ffn;             // of a layer without experts
  Linear router;                      // [n_experts, hidden_dim]
  std::vector<FeedForwardWeights> experts;
};

// Matrices are laid out in panels (tensor/panels.h), converted on the way where another type is asked for; what was
// read of the files then leaves memory again. Immutable after loading; thread-safe.
class ModelWeights {
 public:
  // `path` is a folder with config.json and safetensors, or a GGUF file. Without `type`, matrices keep the type they
  // are stored in. With kF32 all are widened to it; with kBf16 float32 and block types are rounded to it. With kQ8_0
  // and kQ4_0, plain matrices are quantised as QuantisedType says, and block types stay. REQUIRES: type is one of
  // these. NotFound, Corruption, InvalidArgument or Unimplemented name the file, tensor or field.
  static Result<std::shared_ptr<const ModelWeights>> Load(const std::string& path, std::optional<WeightType> type,
                                                          ThreadPool& pool);

  // Random weights of a Llama shape, in memory, for measuring speed: kBf16, kQ8_0 or kQ4_0 as Load makes them. No
  // biases, no QK-norm.
  static std::shared_ptr<const ModelWeights> Random(const ModelConfig& config, WeightType type, ThreadPool& pool);

  const ModelConfig& config() const { return config_; }
  const WeightMatrix& embedding() const { return embedding_; }
  const WeightMatrix& head() const { return head_; }
  const std::vector<float>& final_norm() const { return final_norm_; }
  const std::vector<LayerWeights>& layers() const { return layers_; }
  // Of what the model computes (model/digest.h): part of every span's address.
  const Hash256& digest() const { return digest_; }
  size_t n_parameters() const { return n_parameters_; }
  size_t n_bytes() const { return n_bytes_; }                             // in memory
  WeightType main_type() const { return layers_[0].output.weight.type; }  // of most matrices
  // REQUIRES: loaded from files.
  const WeightSource& source() const { return *source_; }

 private:
  class Loader;
  ModelConfig config_;
  std::unique_ptr<const WeightSource> source_;
  WeightMatrix embedding_, head_;
  std::vector<float> final_norm_;
  std::vector<LayerWeights> layers_;
  std::vector<Pages> panels_;
  Hash256 digest_;
  size_t n_parameters_ = 0, n_bytes_ = 0;
};

}  // namespace spanwise

// The architecture of a model as its Hugging Face config.json states it, checked and made explicit.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "spanwise/status.h"
#include "tensor/dtype.h"

namespace spanwise {

// How positions become rotation angles. All forms keep R(a)R(b) = R(a + b), so spans may be re-based.
// Formulas: Hugging Face transformers, modeling_rope_utils.py.
struct RopeConfig {
  enum class Scaling { kNone, kLinear, kLlama3, kYarn };
  double theta = 10000.0;
  Scaling scaling = Scaling::kNone;
  double factor = 1.0;             // linear, llama3, yarn
  double low_freq_factor = 1.0;    // llama3
  double high_freq_factor = 4.0;   // llama3
  int original_max_positions = 0;  // llama3, yarn
  double beta_fast = 32.0;         // yarn
  double beta_slow = 1.0;          // yarn
  std::optional<double>
      attention_factor;  // yarn: multiplies cosines and sines; absent: 0.1 ln(factor) + 1 (or mscale's)
  std::optional<double> mscale, mscale_all_dim;  // yarn
  bool truncate = true;                          // yarn: round the correction range to whole dimensions
};

struct ModelConfig {
  std::string model_type;  // llama, mistral, qwen2, qwen3
  int n_layers = 0;
  int hidden_dim = 0;
  int ffn_dim = 0;
  int n_heads = 0;
  int n_kv_heads = 0;
  int head_dim = 0;
  int vocab_size = 0;
  int max_positions = 0;
  float norm_eps = 1e-5f;
  bool tie_embeddings = false;
  bool qkv_bias = false;     // q, k, v projections have a bias (Qwen2; Llama with attention_bias)
  bool output_bias = false;  // so does the attention output projection (Llama with attention_bias)
  bool mlp_bias = false;
  bool qk_norm = false;      // RMSNorm over each head of q and k before rotation (Qwen3)
  std::vector<int> windows;  // [n_layers] sliding window of each layer in tokens, 0 for full attention
  RopeConfig rope;
  std::vector<int> eos_ids;  // may be empty
  std::optional<int> bos_id;
  std::optional<DType> stored_dtype;  // "torch_dtype" / "dtype", a hint only
};

// Parses config.json (and, when not empty, generation_config.json, whose EOS ids win). `where` begins every message.
// Unimplemented names the field and value this engine does not do (model_type, hidden_act, rope_type such as "dynamic"
// or "longrope", partial rotary); InvalidArgument names the field that is missing, of the wrong kind or out of range.
// Every dimension is bounded (n_layers <= 1024, dims <= 2^20, vocab <= 2^24) so that later products cannot overflow.
Result<ModelConfig> ParseModelConfig(std::string_view config_json, std::string_view generation_config_json,
                                     std::string_view where);

}  // namespace spanwise

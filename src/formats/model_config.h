// The architecture of a model as its Hugging Face config.json states it, checked and made explicit.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "spanwise/sampling.h"
#include "spanwise/status.h"
#include "tensor/activation.h"
#include "tensor/dtype.h"

namespace spanwise {

// How positions become rotation angles. All forms keep R(a)R(b) = R(a + b), so spans may be re-based.
// Formulas: Hugging Face transformers, modeling_rope_utils.py.
struct RopeConfig {
  enum class Scaling { kNone, kLinear, kLlama3, kYarn, kDivided };
  double theta = 10000.0;
  Scaling scaling = Scaling::kNone;
  double factor = 1.0;             // linear, llama3, yarn
  double low_freq_factor = 1.0;    // llama3
  double high_freq_factor = 4.0;   // llama3
  int original_max_positions = 0;  // llama3, yarn
  double beta_fast = 32.0;         // yarn
  double beta_slow = 1.0;          // yarn
  // Multiplies cosines and sines. yarn: absent means 0.1 ln(factor) + 1 (or mscale's); divided: absent means 1.
  std::optional<double> attention_factor = {};
  std::optional<double> mscale = {}, mscale_all_dim = {};  // yarn
  bool truncate = true;                                    // yarn: round the correction range to whole dimensions
  std::vector<double> divisors = {};  // divided: [rotary_dim / 2], each frequency is divided by its own
};

// How the tensors of a layer are called after "model.layers.N.". An empty name: the model has no such part.
struct LayerNames {
  std::string attention_norm = "input_layernorm";     // before attention
  std::string attention_post_norm;                    // on its output, before the residual sum
  std::string ffn_norm = "post_attention_layernorm";  // before the feed-forward layer
  std::string ffn_post_norm;
  std::string fused_qkv;      // instead of self_attn.{q,k,v}_proj: their rows one below the other
  std::string fused_gate_up;  // instead of mlp.{gate,up}_proj
  // Mixture of experts; "{}" stands for the expert's number.
  std::string router;
  std::string expert_gate, expert_up, expert_down;
};

// A mixture of experts in place of the feed-forward layer: each token goes through the n_active experts that the
// softmax of the router's logits puts first.
struct ExpertConfig {
  int n_experts = 0;  // 0: none
  int n_active = 0;
  int ffn_dim = 0;
  bool normalise = true;  // the weights of the active experts are divided by their sum
};

enum class QkNorm : uint8_t {
  kNone,
  kHead,   // RMSNorm over each head of q and of k before rotation, one gain [head_dim] (Qwen3, Gemma 3)
  kWidth,  // over all heads together, gain [n_heads * head_dim] (OLMo 2)
};

// Every difference between families that the forward pass knows of. A family's file under families/ sets those that it
// has; docs/formats/families.md says how to add one.
struct ModelConfig {
  std::string model_type;  // as config.json names it
  int n_layers = 0;
  int hidden_dim = 0;
  int ffn_dim = 0;
  int n_heads = 0;
  int n_kv_heads = 0;
  int head_dim = 0;
  int vocab_size = 0;
  int max_positions = 0;
  float norm_eps = 1e-5f;
  bool norm_adds_one = false;  // gains are stored less 1 (Gemma)
  bool tie_embeddings = false;
  bool qkv_bias = false;     // q, k, v projections have a bias (Qwen2; Llama with attention_bias)
  bool output_bias = false;  // so does the attention output projection (Llama with attention_bias)
  bool mlp_bias = false;
  QkNorm qk_norm = QkNorm::kNone;
  Activation activation = Activation::kSilu;
  float embedding_scale = 1;      // multiplies embeddings (Gemma, Granite)
  float residual_scale = 1;       // multiplies what attention and feed-forward add to the residual stream (Granite)
  float attention_scale = 0;      // multiplies q . k
  float attention_softcap = 0;    // c: scores become c tanh(score / c), 0 for none (Gemma 2)
  float logit_scale = 1;          // multiplies logits (Granite)
  float logit_softcap = 0;        // the same as attention_softcap, on logits
  std::vector<int> windows;       // [n_layers] sliding window of each layer in tokens, 0 for full attention
  std::vector<RopeConfig> ropes;  // the different rotations of the model's layers
  std::vector<int> layer_ropes;   // [n_layers] index into ropes, kNoRope for a layer without positions
  int rotary_dim = 0;             // of head_dim: the first ones are rotated, in pairs (i, i + rotary_dim / 2)
  ExpertConfig experts;
  std::vector<bool> layer_experts;  // [n_layers] whether the layer has experts
  LayerNames names;
  std::string tensor_prefix;  // before every tensor's name: "", or where the language model is a part of another
  std::vector<int> eos_ids;   // that the files state, each once; may be empty
  std::optional<int> bos_id;
  std::optional<DType> stored_dtype;  // "torch_dtype" / "dtype", a hint only
  SamplingDefaults sampling;
  std::string note;                   // what a user should know of this model here, one line, may be empty
  std::vector<std::string> warnings;  // what was wrong in its files and passed over, one line each

  static constexpr int kNoRope = -1;
};

// Parses config.json. `where` begins every message.
// Unimplemented names the field and value this engine does not do (model_type, hidden_act, rope_type such as
// "dynamic"); InvalidArgument names the field that is missing, of the wrong kind or out of range. Every dimension is
// bounded (n_layers <= 1024, dims <= 2^20, vocab <= 2^24) so that later products cannot overflow.
Result<ModelConfig> ParseModelConfig(std::string_view config_json, std::string_view where);

// Adds what generation_config.json says: further end tokens, and how to sample. A sampling value that is no number in
// its range is a warning; anything else that is wrong InvalidArgument.
Status AddGenerationConfig(std::string_view json, std::string_view where, ModelConfig* config);

// One recommended value as it was read: nullopt, and a warning, for what is not as expected.
std::optional<float> RecommendedNumber(const Result<std::optional<double>>& value, std::string_view where,
                                       std::vector<std::string>* warnings);

}  // namespace spanwise

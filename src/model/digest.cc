#include "model/digest.h"

#include <bit>
#include <string_view>
#include <vector>

#include "model/rope_frequencies.h"

namespace spanwise {
namespace {

void Add(Hasher* hasher, double value) { hasher->Field(std::bit_cast<uint64_t>(value)); }

void AddVector(Hasher* hasher, const std::vector<float>& values) {
  hasher->Field(std::string_view(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)));
}

void AddConfig(Hasher* hasher, const ModelConfig& c) {
  // A new field does not compile until it is named here, and hashed below if the forward pass reads it. What is passed
  // over: names; how weights were stored, which they show themselves; where a text ends and how the next token is
  // chosen; and the number of positions, which is in the rotations if they depend on it.
  const auto& [model_type, n_layers, hidden_dim, ffn_dim, n_heads, n_kv_heads, head_dim, vocab_size, max_positions,
               norm_eps, norm_adds_one, tie_embeddings, qkv_bias, output_bias, mlp_bias, qk_norm, activation,
               embedding_scale, residual_scale, attention_scale, attention_softcap, logit_scale, logit_softcap, windows,
               ropes, layer_ropes, rotary_dim, experts, layer_experts, names, tensor_prefix, eos_ids, bos_id,
               stored_dtype, sampling, note, warnings] = c;
  for (const int size : {n_layers, hidden_dim, ffn_dim, n_heads, n_kv_heads, head_dim, vocab_size, rotary_dim})
    hasher->Field(static_cast<uint64_t>(size));
  for (const float number :
       {norm_eps, embedding_scale, residual_scale, attention_scale, attention_softcap, logit_scale, logit_softcap})
    Add(hasher, number);
  hasher->Field(static_cast<uint64_t>(qk_norm)).Field(static_cast<uint64_t>(activation));
  const auto& [n_experts, n_active, expert_ffn_dim, normalise] = experts;
  for (const int number : {n_experts, n_active, expert_ffn_dim, int{normalise}})
    hasher->Field(static_cast<uint64_t>(number));
  for (int i = 0; i < n_layers; ++i) {
    const auto layer = static_cast<size_t>(i);
    hasher->Field(static_cast<uint64_t>(windows[layer])).Field(uint64_t{layer_experts[layer]});
    if (layer_ropes[layer] == ModelConfig::kNoRope) {
      hasher->Field("no positions");
      continue;
    }
    const RopeFrequencies turned =
        MakeRopeFrequencies(ropes[static_cast<size_t>(layer_ropes[layer])], rotary_dim, head_dim, max_positions);
    Add(hasher, turned.attention_scale);
    for (const double inverse : turned.inverse) Add(hasher, inverse);
  }
}

// All of a model's parameters, always in the same order.
struct Parameters {
  std::vector<const WeightMatrix*> matrices;
  std::vector<const std::vector<float>*> vectors;

  explicit Parameters(const ModelWeights& w) {
    matrices = {&w.embedding(), &w.head()};
    vectors = {&w.final_norm()};
    for (const LayerWeights& layer : w.layers()) {
      for (const auto* norm : {&layer.attention_norm, &layer.attention_post_norm, &layer.ffn_norm, &layer.ffn_post_norm,
                               &layer.q_norm, &layer.k_norm})
        vectors.push_back(norm);
      for (const Linear* linear : {&layer.q, &layer.k, &layer.v, &layer.output, &layer.router}) AddLinear(*linear);
      AddFeedForward(layer.ffn);
      for (const FeedForwardWeights& expert : layer.experts) AddFeedForward(expert);
    }
  }

 private:
  void AddLinear(const Linear& linear) {
    matrices.push_back(&linear.weight);
    vectors.push_back(&linear.bias);
  }
  void AddFeedForward(const FeedForwardWeights& w) {
    for (const Linear* linear : {&w.gate, &w.up, &w.down}) AddLinear(*linear);
  }
};

}  // namespace

Hash256 ModelDigest(const ModelWeights& weights, ThreadPool& pool) {
  const Parameters all(weights);
  std::vector<Hash256> hashes(all.matrices.size());
  pool.ParallelFor(hashes.size(), [&](size_t i) {
    const WeightMatrix& m = *all.matrices[i];
    if (i == 1 && m.data == all.matrices[0]->data) return;  // tied
    Hasher hasher;
    hasher.Field(WeightTypeName(m.type)).Field(static_cast<uint64_t>(m.n_out)).Field(static_cast<uint64_t>(m.n_in));
    if (m.data) hasher.Field(std::string_view(reinterpret_cast<const char*>(m.data), m.bytes()));
    hashes[i] = hasher.Finish();
  });
  if (weights.head().data == weights.embedding().data) hashes[1] = hashes[0];
  Hasher digest;
  digest.Field("spanwise model 2");
  AddConfig(&digest, weights.config());
  for (const Hash256& hash : hashes) digest.Field(hash);
  for (const std::vector<float>* values : all.vectors) AddVector(&digest, *values);
  return digest.Finish();
}

}  // namespace spanwise

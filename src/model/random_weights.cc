#include <algorithm>
#include <cmath>
#include <random>

#include "model/weights.h"

namespace spanwise {

// Values matter little to speed, but must not be zero, denormal or growing: normal with a variance that keeps
// activations level.
std::shared_ptr<const ModelWeights> ModelWeights::Random(const ModelConfig& config, WeightType type, ThreadPool& pool) {
  auto model = std::make_shared<ModelWeights>();
  ModelWeights& m = *model;
  const ModelConfig& c = m.config_ = config;
  uint64_t seed = 1;
  const auto matrix = [&](int n_out, int n_in) {
    const size_t rows = static_cast<size_t>(n_out), width = static_cast<size_t>(n_in);
    const size_t row_bytes = WeightBytes(type, width);
    const Pages& data = m.panels_.emplace_back(PanelBytes(type, rows, width));
    const float scale = 1.0f / std::sqrt(static_cast<float>(n_in));
    const uint64_t base = seed++ << 32;
    pool.ParallelFor((rows + kPanelRows - 1) / kPanelRows, [&](size_t panel) {
      std::minstd_rand random(static_cast<uint32_t>((base >> 32) * 7919 + panel));
      std::uniform_real_distribution<float> value(-1.7f * scale, 1.7f * scale);
      std::vector<float> wide(width);
      std::vector<std::byte> made(kPanelRows * row_bytes);
      const std::byte* from[kPanelRows] = {};
      const size_t first = panel * kPanelRows, n = std::min<size_t>(kPanelRows, rows - first);
      for (size_t i = 0; i < n; ++i) {
        for (float& v : wide) v = value(random);
        Narrow(type, wide.data(), width, made.data() + i * row_bytes);
        from[i] = made.data() + i * row_bytes;
      }
      PackPanel(type, from, width, data.data() + PanelBytes(type, first, width));
    });
    m.n_parameters_ += rows * width;
    m.n_bytes_ += data.size();
    return WeightMatrix{data.data(), type, n_out, n_in};
  };
  const auto ones = [](int n) { return std::vector<float>(static_cast<size_t>(n), 1.0f); };
  m.embedding_ = matrix(c.vocab_size, c.hidden_dim);
  m.head_ = c.tie_embeddings ? m.embedding_ : matrix(c.vocab_size, c.hidden_dim);
  m.final_norm_ = ones(c.hidden_dim);
  const int q_dim = c.n_heads * c.head_dim, kv_dim = c.n_kv_heads * c.head_dim;
  for (int i = 0; i < c.n_layers; ++i) {
    LayerWeights& w = m.layers_.emplace_back();
    w.attention_norm = w.ffn_norm = ones(c.hidden_dim);
    w.q.weight = matrix(q_dim, c.hidden_dim);
    w.k.weight = matrix(kv_dim, c.hidden_dim);
    w.v.weight = matrix(kv_dim, c.hidden_dim);
    w.output.weight = matrix(c.hidden_dim, q_dim);
    w.ffn.gate.weight = matrix(c.ffn_dim, c.hidden_dim);
    w.ffn.up.weight = matrix(c.ffn_dim, c.hidden_dim);
    w.ffn.down.weight = matrix(c.hidden_dim, c.ffn_dim);
  }
  m.digest_ = Hasher().Field("random").Field(static_cast<uint64_t>(m.n_parameters_)).Finish();
  return model;
}

}  // namespace spanwise

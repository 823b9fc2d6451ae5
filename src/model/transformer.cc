#include "model/transformer.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/check.h"
#include "model/rope_frequencies.h"

namespace spanwise {
namespace {

Rotation MakeRotation(const ModelConfig& c) {
  RopeFrequencies f = MakeRopeFrequencies(c.rope, c.head_dim, c.max_positions);
  return Rotation(c.head_dim, std::move(f.inverse), f.attention_scale);
}

void Grow(std::vector<float>& v, size_t n) {
  if (v.size() < n) v.resize(n);
}

}  // namespace

struct Transformer::Rows {
  // Cosines and sines of one sequence's rows at their distance from one base.
  struct Angles {
    std::vector<float> cos, sin;
    RotationTable table() const { return {cos, sin}; }
  };
  struct Sequence {
    const ForwardSequence* in;
    int first_row;  // in the batch
    int first;      // index in the run of its first row
    std::vector<int32_t> positions;
    std::map<int, Angles> by_base;         // tables of the queries; the last run's base also rotates the keys
    std::vector<RotationTable> rotations;  // one for each run
  };
  std::vector<Sequence> sequences;
  int n_rows = 0;
};

Transformer::Transformer(std::shared_ptr<const ModelWeights> weights, DType kv_dtype, ThreadPool& pool)
    : weights_(std::move(weights)),
      kv_{.n_layers = config().n_layers,
          .n_kv_heads = config().n_kv_heads,
          .head_dim = config().head_dim,
          .dtype = kv_dtype},
      rotation_(MakeRotation(config())),
      pool_(pool) {}

std::span<const float> Transformer::Forward(std::span<const ForwardSequence> sequences) {
  const ModelConfig& c = config();
  const auto hidden_dim = static_cast<size_t>(c.hidden_dim);

  Rows rows;
  std::vector<int32_t> ids;
  std::vector<int> logit_rows;
  rows.sequences.reserve(sequences.size());
  for (const ForwardSequence& in : sequences) {
    SW_DCHECK(!in.tokens.empty() && !in.runs.empty());
    const KvRun& tail = in.runs.back();
    const int n = static_cast<int>(in.tokens.size());
    Rows::Sequence& s = rows.sequences.emplace_back(Rows::Sequence{.in = &in,
                                                                   .first_row = rows.n_rows,
                                                                   .first = tail.n_tokens - n,
                                                                   .positions = {},
                                                                   .by_base = {},
                                                                   .rotations = {}});
    for (int r = 0; r < n; ++r) s.positions.push_back(tail.base + s.first + r);
    for (const KvRun& run : in.runs) {
      const auto [it, fresh] = s.by_base.try_emplace(run.base);
      if (fresh) {
        std::vector<int32_t> distances(s.positions);
        for (int32_t& p : distances) p -= run.base;
        const size_t size = distances.size() * static_cast<size_t>(c.head_dim / 2);
        it->second.cos.resize(size);
        it->second.sin.resize(size);
        rotation_.Fill(distances, it->second.cos.data(), it->second.sin.data());
      }
      s.rotations.push_back(it->second.table());
    }
    ids.insert(ids.end(), in.tokens.begin(), in.tokens.end());
    for (const int r : in.logit_rows) logit_rows.push_back(rows.n_rows + r);
    rows.n_rows += n;
  }

  const auto n_rows = static_cast<size_t>(rows.n_rows);
  const size_t q_dim = static_cast<size_t>(c.n_heads * c.head_dim),
               kv_dim = static_cast<size_t>(c.n_kv_heads * c.head_dim);
  Grow(hidden_, n_rows * hidden_dim);
  Grow(normed_, n_rows * std::max(hidden_dim, q_dim));
  Grow(qkv_, n_rows * (q_dim + 2 * kv_dim));
  Grow(attended_, n_rows * q_dim);
  Grow(gate_, n_rows * static_cast<size_t>(c.ffn_dim));
  Grow(up_, n_rows * static_cast<size_t>(c.ffn_dim));

  ops::EmbedRows(pool_, weights_->embedding(), ids.data(), rows.n_rows, hidden_.data());
  for (int layer = 0; layer < c.n_layers; ++layer) {
    const LayerWeights& w = weights_->layers()[static_cast<size_t>(layer)];
    Attention(layer, w, rows);
    FeedForward(w, rows.n_rows);
  }

  const size_t n_logits = logit_rows.size();
  if (n_logits == 0) return {};
  Grow(normed_, n_logits * hidden_dim);
  for (size_t i = 0; i < n_logits; ++i)
    ops::RmsNorm(pool_, hidden_.data() + static_cast<size_t>(logit_rows[i]) * hidden_dim, c.hidden_dim, 1, c.hidden_dim,
                 weights_->final_norm(), c.norm_eps, normed_.data() + i * hidden_dim, c.hidden_dim);
  Grow(logits_, n_logits * static_cast<size_t>(c.vocab_size));
  ops::MatMul(pool_, normed_.data(), c.hidden_dim, static_cast<int>(n_logits), weights_->head(), {}, logits_.data(),
              c.vocab_size);
  return {logits_.data(), n_logits * static_cast<size_t>(c.vocab_size)};
}

void Transformer::Attention(int layer, const LayerWeights& w, const Rows& rows) {
  const ModelConfig& c = config();
  const int q_dim = c.n_heads * c.head_dim, kv_dim = c.n_kv_heads * c.head_dim, stride = q_dim + 2 * kv_dim;
  float *q = qkv_.data(), *k = q + q_dim, *v = k + kv_dim;

  ops::RmsNorm(pool_, hidden_.data(), c.hidden_dim, rows.n_rows, c.hidden_dim, w.attention_norm, c.norm_eps,
               normed_.data(), c.hidden_dim);
  const auto project = [&](const Linear& l, float* out) {
    ops::MatMul(pool_, normed_.data(), c.hidden_dim, rows.n_rows, l.weight, l.bias, out, stride);
  };
  project(w.q, q);
  project(w.k, k);
  project(w.v, v);
  if (c.qk_norm) {
    const auto norm_heads = [&](float* x, int n_heads, const std::vector<float>& gain) {
      for (int h = 0; h < n_heads; ++h)
        ops::RmsNorm(pool_, x + h * c.head_dim, stride, rows.n_rows, c.head_dim, gain, c.norm_eps, x + h * c.head_dim,
                     stride);
    };
    norm_heads(q, c.n_heads, w.q_norm);
    norm_heads(k, c.n_kv_heads, w.k_norm);
  }

  std::vector<AttentionSequence> attention;
  attention.reserve(rows.sequences.size());
  for (const Rows::Sequence& s : rows.sequences) {
    const ptrdiff_t at = s.first_row;
    const int n = static_cast<int>(s.positions.size());
    // A key turns by its index in the run, which is its position's distance from the run's own base.
    ops::StoreKv(pool_, kv_, layer, k + at * stride, v + at * stride, stride, n, s.rotations.back(), s.in->tail_blocks,
                 s.first);
    attention.push_back({.q = q + at * stride,
                         .out = attended_.data() + at * q_dim,
                         .q_stride = stride,
                         .n_rows = n,
                         .positions = s.positions.data(),
                         .runs = s.in->runs,
                         .rotations = s.rotations});
  }
  const AttentionShape shape{.n_heads = c.n_heads,
                             .kv = kv_,
                             .layer = layer,
                             .scale = 1.0f / std::sqrt(static_cast<float>(c.head_dim)),
                             .window = c.windows[static_cast<size_t>(layer)]};
  ops::SpanAttention(pool_, shape, attention);

  ops::MatMul(pool_, attended_.data(), q_dim, rows.n_rows, w.output.weight, w.output.bias, normed_.data(),
              c.hidden_dim);
  ops::Add(pool_, hidden_.data(), normed_.data(), int64_t{rows.n_rows} * c.hidden_dim);
}

void Transformer::FeedForward(const LayerWeights& w, int n_rows) {
  const ModelConfig& c = config();
  ops::RmsNorm(pool_, hidden_.data(), c.hidden_dim, n_rows, c.hidden_dim, w.ffn_norm, c.norm_eps, normed_.data(),
               c.hidden_dim);
  ops::MatMul(pool_, normed_.data(), c.hidden_dim, n_rows, w.gate.weight, w.gate.bias, gate_.data(), c.ffn_dim);
  ops::MatMul(pool_, normed_.data(), c.hidden_dim, n_rows, w.up.weight, w.up.bias, up_.data(), c.ffn_dim);
  ops::SwiGlu(pool_, gate_.data(), up_.data(), n_rows, c.ffn_dim, gate_.data());
  ops::MatMul(pool_, gate_.data(), c.ffn_dim, n_rows, w.down.weight, w.down.bias, normed_.data(), c.hidden_dim);
  ops::Add(pool_, hidden_.data(), normed_.data(), int64_t{n_rows} * c.hidden_dim);
}

}  // namespace spanwise

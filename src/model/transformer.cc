#include "model/transformer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <map>
#include <numeric>

#include "base/check.h"
#include "kernels/element.h"
#include "model/rope_frequencies.h"

namespace spanwise {
namespace {

std::vector<Rotation> MakeRotations(const ModelConfig& c) {
  std::vector<Rotation> rotations;
  for (const RopeConfig& rope : c.ropes) {
    RopeFrequencies f = MakeRopeFrequencies(rope, c.rotary_dim, c.head_dim, c.max_positions);
    rotations.emplace_back(c.head_dim, std::move(f.inverse), f.attention_scale);
  }
  if (std::ranges::find(c.layer_ropes, ModelConfig::kNoRope) != c.layer_ropes.end())
    rotations.emplace_back(c.head_dim, std::vector<double>(static_cast<size_t>(c.head_dim / 2), 0.0));
  return rotations;
}

void Grow(std::vector<float>& v, size_t n) {
  if (v.size() < n) v.resize(n);
}

// Adds the rows of shares [n_rows, sums.size()] to the sums, in units of 2^-40, each rounded.
void AddMass(ThreadPool& pool, const float* shares, int n_rows, std::span<int64_t> sums) {
  constexpr size_t kColumns = 512;
  pool.ParallelFor((sums.size() + kColumns - 1) / kColumns, [&](size_t part) {
    const size_t begin = part * kColumns, end = std::min(sums.size(), begin + kColumns);
    for (size_t row = 0; row < static_cast<size_t>(n_rows); ++row)
      for (size_t i = begin; i < end; ++i) {
        const float share = shares[row * sums.size() + i];
        // Also where a broken model gives no number. A float and a half: nothing is rounded twice.
        // NOLINTNEXTLINE(bugprone-incorrect-roundings)
        sums[i] += share > 0 ? static_cast<int64_t>(double{std::min(share, 2.0f)} * 0x1p40 + 0.5) : 0;
      }
  });
}

// The experts with the highest scores, of equals the first ones, in ascending order, with their share of the softmax.
std::vector<std::pair<int, float>> ChooseExperts(std::span<const float> scores, int n_active, bool normalise) {
  const double max = *std::ranges::max_element(scores);
  double sum = 0;
  for (const float score : scores) sum += std::exp(score - max);
  std::vector<int> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, std::greater(), [&](int i) { return scores[static_cast<size_t>(i)]; });
  order.resize(static_cast<size_t>(n_active));
  std::ranges::sort(order);
  double active = 0;
  for (const int i : order) active += std::exp(scores[static_cast<size_t>(i)] - max);
  std::vector<std::pair<int, float>> chosen;
  for (const int i : order)
    chosen.emplace_back(
        i, static_cast<float>(std::exp(scores[static_cast<size_t>(i)] - max) / (normalise ? active : sum)));
  return chosen;
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
    int first_row;                   // in the batch
    std::vector<int32_t> at;         // index in the run of each row
    std::vector<int32_t> positions;  // of each row
    // For every rotation of the model: tables of the queries by base (the last run's base also rotates the keys), and
    // one of them for each run.
    std::vector<std::map<int, Angles>> by_base;
    std::vector<std::vector<RotationTable>> tables;
  };
  std::vector<Sequence> sequences;
  std::vector<int> logit_rows;  // in the batch
  int n_rows = 0;
};

Transformer::Transformer(std::shared_ptr<const ModelWeights> weights, DType kv_dtype, ThreadPool& pool)
    : weights_(std::move(weights)),
      kv_{.n_layers = config().n_layers,
          .n_kv_heads = config().n_kv_heads,
          .head_dim = config().head_dim,
          .dtype = kv_dtype},
      rotations_(MakeRotations(config())),
      layer_rotation_(config().layer_ropes),
      pool_(pool) {
  for (int& rotation : layer_rotation_)
    if (rotation == ModelConfig::kNoRope) rotation = static_cast<int>(rotations_.size()) - 1;
}

Transformer::Rows Transformer::Begin(std::span<const ForwardSequence> sequences) {
  const ModelConfig& c = config();
  const auto hidden_dim = static_cast<size_t>(c.hidden_dim);

  Rows rows;
  std::vector<int32_t> ids;
  rows.sequences.reserve(sequences.size());
  for (const ForwardSequence& in : sequences) {
    SW_DCHECK(!in.tokens.empty() && !in.runs.empty());
    const KvRun& tail = in.runs.back();
    const int n = static_cast<int>(in.tokens.size());
    Rows::Sequence& s = rows.sequences.emplace_back(
        Rows::Sequence{.in = &in, .first_row = rows.n_rows, .at = {}, .positions = {}, .by_base = {}, .tables = {}});
    s.at.assign(in.at.begin(), in.at.end());
    for (int r = 0; in.at.empty() && r < n; ++r) s.at.push_back(tail.n_tokens - n + r);
    for (const int32_t at : s.at) s.positions.push_back(tail.base + at);
    s.by_base.resize(rotations_.size());
    s.tables.resize(rotations_.size());
    for (size_t k = 0; k < rotations_.size(); ++k) {
      for (const KvRun& run : in.runs) {
        const auto [it, fresh] = s.by_base[k].try_emplace(run.base);
        if (fresh) {
          std::vector<int32_t> distances(s.positions);
          for (int32_t& p : distances) p -= run.base;
          const size_t size = distances.size() * static_cast<size_t>(c.head_dim / 2);
          it->second.cos.resize(size);
          it->second.sin.resize(size);
          rotations_[k].Fill(distances, it->second.cos.data(), it->second.sin.data());
        }
        s.tables[k].push_back(it->second.table());
      }
    }
    ids.insert(ids.end(), in.tokens.begin(), in.tokens.end());
    for (const int r : in.logit_rows) rows.logit_rows.push_back(rows.n_rows + r);
    rows.n_rows += n;
  }

  const auto n_rows = static_cast<size_t>(rows.n_rows);
  const size_t q_dim = static_cast<size_t>(c.n_heads * c.head_dim),
               kv_dim = static_cast<size_t>(c.n_kv_heads * c.head_dim);
  Grow(hidden_, n_rows * hidden_dim);
  Grow(normed_, n_rows * hidden_dim);
  Grow(made_, n_rows * hidden_dim);
  Grow(qkv_, n_rows * (q_dim + 2 * kv_dim));
  Grow(attended_, n_rows * q_dim);

  ops::EmbedRows(pool_, weights_->embedding(), ids.data(), rows.n_rows, hidden_.data());
  if (c.embedding_scale != 1)
    ops::ScaleAndCap(pool_, hidden_.data(), c.embedding_scale, 0, int64_t{rows.n_rows} * c.hidden_dim);
  return rows;
}

const float* Transformer::Normed(const std::vector<float>& gain, int n_rows) {
  const ModelConfig& c = config();
  if (gain.empty()) return hidden_.data();
  ops::RmsNorm(pool_, hidden_.data(), c.hidden_dim, n_rows, c.hidden_dim, gain, c.norm_eps, normed_.data(),
               c.hidden_dim);
  return normed_.data();
}

void Transformer::Layer(int layer, const Rows& rows, bool store) {
  const LayerWeights& w = weights_->layers()[static_cast<size_t>(layer)];
  Attention(layer, w, Normed(w.attention_norm, rows.n_rows), rows, store);
  AddToResidual(w.attention_post_norm, rows.n_rows);
  const float* in = Normed(w.ffn_norm, rows.n_rows);
  if (w.experts.empty()) {
    FeedForward(w.ffn, in, rows.n_rows, made_.data());
  } else {
    Experts(w, in, rows.n_rows);
  }
  AddToResidual(w.ffn_post_norm, rows.n_rows);
}

std::vector<float> Transformer::ValueDeviation(std::span<const ForwardSequence> sequences) {
  const ModelConfig& c = config();
  const Rows rows = Begin(sequences);
  Layer(0, rows, /*store=*/false);
  const LayerWeights& w = weights_->layers()[1];
  const int kv_dim = c.n_kv_heads * c.head_dim;
  ops::MatMul(pool_, Normed(w.attention_norm, rows.n_rows), c.hidden_dim, rows.n_rows, w.v.weight, w.v.bias,
              qkv_.data(), kv_dim);
  std::vector<float> deviations;
  const float* value = qkv_.data();
  for (const Rows::Sequence& s : rows.sequences) {
    for (const int32_t at : s.at) {
      const KvRun& run = s.in->runs.back();
      const auto index = static_cast<size_t>(at / kKvBlockTokens);
      const std::byte* block = run.blocks[index];
      double sum = 0;
      for (int head = 0; head < c.n_kv_heads; ++head)
        for (int i = 0; i < c.head_dim; ++i, ++value) {
          const auto kept = static_cast<size_t>(at % kKvBlockTokens * c.head_dim + i);
          const double difference =
              double{*value} -
              double{LoadElement(block + kv_.ValueOffset(1, head, run.RowsOf(index)), kv_.dtype, kept)};
          sum += difference * difference;
        }
      deviations.push_back(static_cast<float>(sum));
    }
  }
  return deviations;
}

std::vector<float> Transformer::RowAttention(const ForwardSequence& sequence, int n_layers) {
  const auto n_heads = static_cast<size_t>(config().n_heads), n_ranges = sequence.ranges.size();
  const Rows rows = Begin({&sequence, 1});
  std::vector<float> shares(sequence.tokens.size() * n_ranges);
  const float part = 1 / static_cast<float>(static_cast<size_t>(n_layers) * n_heads);
  for (int layer = 0; layer < n_layers; ++layer) {
    Layer(layer, rows, /*store=*/false);
    const float* mass = mass_.data();  // [rows, heads, ranges]
    for (size_t row = 0; row < sequence.tokens.size(); ++row)
      for (size_t head = 0; head < n_heads; ++head)
        for (size_t i = 0; i < n_ranges; ++i) shares[row * n_ranges + i] += part * *mass++;
  }
  return shares;
}

std::span<const float> Transformer::Forward(std::span<const ForwardSequence> sequences) {
  const ModelConfig& c = config();
  const auto hidden_dim = static_cast<size_t>(c.hidden_dim);
  const Rows rows = Begin(sequences);
  for (int layer = 0; layer < c.n_layers; ++layer) Layer(layer, rows, /*store=*/true);

  const std::vector<int>& logit_rows = rows.logit_rows;
  const size_t n_logits = logit_rows.size();
  if (n_logits == 0) return {};
  Grow(normed_, n_logits * hidden_dim);
  for (size_t i = 0; i < n_logits; ++i)
    ops::RmsNorm(pool_, hidden_.data() + static_cast<size_t>(logit_rows[i]) * hidden_dim, c.hidden_dim, 1, c.hidden_dim,
                 weights_->final_norm(), c.norm_eps, normed_.data() + i * hidden_dim, c.hidden_dim);
  Grow(logits_, n_logits * static_cast<size_t>(c.vocab_size));
  ops::MatMul(pool_, normed_.data(), c.hidden_dim, static_cast<int>(n_logits), weights_->head(), {}, logits_.data(),
              c.vocab_size);
  if (c.logit_scale != 1 || c.logit_softcap != 0)
    ops::ScaleAndCap(pool_, logits_.data(), c.logit_scale, c.logit_softcap,
                     static_cast<int64_t>(n_logits) * c.vocab_size);
  return {logits_.data(), n_logits * static_cast<size_t>(c.vocab_size)};
}

void Transformer::Attention(int layer, const LayerWeights& w, const float* in, const Rows& rows, bool store) {
  const ModelConfig& c = config();
  const int q_dim = c.n_heads * c.head_dim, kv_dim = c.n_kv_heads * c.head_dim, stride = q_dim + 2 * kv_dim;
  float *q = qkv_.data(), *k = q + q_dim, *v = k + kv_dim;
  ops::MatMuls(pool_, in, c.hidden_dim, rows.n_rows,
               std::array{Product{w.q.weight, w.q.bias, q, stride}, Product{w.k.weight, w.k.bias, k, stride},
                          Product{w.v.weight, w.v.bias, v, stride}});
  if (c.qk_norm != QkNorm::kNone) {
    // Over each head, or over all of them as if they were one.
    const auto norm = [&](float* x, int width, const std::vector<float>& gain) {
      const int dim = static_cast<int>(gain.size());
      for (int at = 0; at < width; at += dim)
        ops::RmsNorm(pool_, x + at, stride, rows.n_rows, dim, gain, c.norm_eps, x + at, stride);
    };
    norm(q, q_dim, w.q_norm);
    norm(k, kv_dim, w.k_norm);
  }

  const auto rotation = static_cast<size_t>(layer_rotation_[static_cast<size_t>(layer)]);
  std::vector<AttentionSequence> attention;
  attention.reserve(rows.sequences.size());
  size_t n_mass = 0;
  const auto ranges_of = [&](const Rows::Sequence& s) {
    return layer < s.in->mass_layer ? std::span<const KeyRange>() : s.in->ranges;
  };
  for (const Rows::Sequence& s : rows.sequences)
    n_mass += s.positions.size() * static_cast<size_t>(c.n_heads) * ranges_of(s).size();
  Grow(mass_, n_mass);
  float* mass = mass_.data();
  for (const Rows::Sequence& s : rows.sequences) {
    const ptrdiff_t at = s.first_row;
    const int n = static_cast<int>(s.positions.size());
    // A key turns by its index in the run, which is its position's distance from the run's own base.
    if (store)
      ops::StoreKv(pool_, kv_, layer, k + at * stride, v + at * stride, stride, s.tables[rotation].back(),
                   s.in->tail_blocks, s.at);
    attention.push_back({.q = q + at * stride,
                         .out = attended_.data() + at * q_dim,
                         .q_stride = stride,
                         .n_rows = n,
                         .positions = s.positions.data(),
                         .runs = s.in->runs,
                         .rotations = s.tables[rotation],
                         .groups = s.in->groups,
                         .mass = {ranges_of(s), mass}});
    mass += static_cast<size_t>(n * c.n_heads) * ranges_of(s).size();
  }
  const AttentionShape shape{.n_heads = c.n_heads,
                             .kv = kv_,
                             .layer = layer,
                             .scale = c.attention_scale,
                             .window = c.windows[static_cast<size_t>(layer)],
                             .softcap = c.attention_softcap};
  ops::SpanAttention(pool_, shape, attention);
  for (size_t i = 0; i < attention.size(); ++i)
    if (!attention[i].mass.ranges.empty() && !rows.sequences[i].in->mass.empty())
      AddMass(pool_, attention[i].mass.mass, attention[i].n_rows * c.n_heads, rows.sequences[i].in->mass);

  ops::MatMul(pool_, attended_.data(), q_dim, rows.n_rows, w.output.weight, w.output.bias, made_.data(), c.hidden_dim);
}

void Transformer::AddToResidual(const std::vector<float>& post_norm, int n_rows) {
  const ModelConfig& c = config();
  if (!post_norm.empty())
    ops::RmsNorm(pool_, made_.data(), c.hidden_dim, n_rows, c.hidden_dim, post_norm, c.norm_eps, made_.data(),
                 c.hidden_dim);
  ops::Add(pool_, hidden_.data(), made_.data(), c.residual_scale, int64_t{n_rows} * c.hidden_dim);
}

void Transformer::FeedForward(const FeedForwardWeights& w, const float* in, int n_rows, float* out) {
  const ModelConfig& c = config();
  const int ffn_dim = w.gate.weight.n_out;
  Grow(gate_, static_cast<size_t>(n_rows) * static_cast<size_t>(ffn_dim));
  Grow(up_, gate_.size());
  ops::MatMuls(pool_, in, c.hidden_dim, n_rows,
               std::array{Product{w.gate.weight, w.gate.bias, gate_.data(), ffn_dim},
                          Product{w.up.weight, w.up.bias, up_.data(), ffn_dim}});
  ops::GatedUnit(pool_, c.activation, gate_.data(), up_.data(), n_rows, ffn_dim, gate_.data());
  ops::MatMul(pool_, gate_.data(), ffn_dim, n_rows, w.down.weight, w.down.bias, out, c.hidden_dim);
}

void Transformer::Experts(const LayerWeights& w, const float* in, int n_rows) {
  const ModelConfig& c = config();
  const ExpertConfig& e = c.experts;
  const auto hidden_dim = static_cast<size_t>(c.hidden_dim), n_experts = static_cast<size_t>(e.n_experts);
  Grow(routed_, static_cast<size_t>(n_rows) * n_experts);
  ops::MatMul(pool_, in, c.hidden_dim, n_rows, w.router.weight, w.router.bias, routed_.data(), e.n_experts);

  // Which rows each expert gets, and with what weight.
  std::vector<std::vector<std::pair<int, float>>> rows(n_experts);
  for (int r = 0; r < n_rows; ++r) {
    const std::span<const float> scores(routed_.data() + static_cast<size_t>(r) * n_experts, n_experts);
    for (const auto& [expert, weight] : ChooseExperts(scores, e.n_active, e.normalise))
      rows[static_cast<size_t>(expert)].emplace_back(r, weight);
  }

  // A row sums its experts in their order, so that it does not matter what else is in the batch.
  std::fill_n(made_.begin(), static_cast<size_t>(n_rows) * hidden_dim, 0.0f);
  for (size_t i = 0; i < n_experts; ++i) {
    if (rows[i].empty()) continue;
    Grow(expert_in_, rows[i].size() * hidden_dim);
    Grow(expert_out_, rows[i].size() * hidden_dim);
    for (size_t k = 0; k < rows[i].size(); ++k)
      std::copy_n(in + static_cast<size_t>(rows[i][k].first) * hidden_dim, hidden_dim, &expert_in_[k * hidden_dim]);
    FeedForward(w.experts[i], expert_in_.data(), static_cast<int>(rows[i].size()), expert_out_.data());
    for (size_t k = 0; k < rows[i].size(); ++k)
      ops::Add(pool_, &made_[static_cast<size_t>(rows[i][k].first) * hidden_dim], &expert_out_[k * hidden_dim],
               rows[i][k].second, c.hidden_dim);
  }
}

}  // namespace spanwise

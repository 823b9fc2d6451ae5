#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/check.h"
#include "kernels/element.h"
#include "kernels/ref/ref.h"

namespace spanwise::ref {
namespace {

// out = R(row of table) in, pairs (i, i + dim / 2).
template <typename Out>
void RotateRow(const float* in, const RotationTable& table, int row, int dim, Out* out) {
  const int half = dim / 2;
  for (int i = 0; i < half; ++i) {
    const auto angle = static_cast<size_t>(row) * static_cast<size_t>(half) + static_cast<size_t>(i);
    const double a = in[i], b = in[i + half], cos = table.cos[angle], sin = table.sin[angle];
    out[i] = static_cast<Out>(a * cos - b * sin);
    out[i + half] = static_cast<Out>(b * cos + a * sin);
  }
}

// Softmax-weighted values of one query over some keys: o / sum is the attention, exp(max) * sum its weight.
struct State {
  double max = -std::numeric_limits<double>::infinity();
  double sum = 0;
  std::vector<double> o;
};

State AttendRun(const AttentionShape& shape, const KvRun& run, int kv_head, const std::vector<double>& q,
                int position) {
  const int dim = shape.kv.head_dim;
  const int local = position - run.base;  // the query's position as the run counts
  const int end = std::min(run.n_tokens, local + 1);
  const int begin = shape.window > 0 ? std::max(0, local - shape.window + 1) : 0;
  const KvGeometry& kv = shape.kv;
  const auto block = [&](int token) { return run.blocks[static_cast<size_t>(token / kKvBlockTokens)]; };
  const auto key = [&](int token, int i) -> double {
    return LoadElement(
        block(token) + kv.KeyOffset(shape.layer, kv_head) + kv.KeyElementOffset(token % kKvBlockTokens, i), kv.dtype,
        0);
  };
  const auto value = [&](int token, int i) -> double {
    return LoadElement(block(token) + kv.ValueOffset(shape.layer, kv_head), kv.dtype,
                       static_cast<size_t>(token % kKvBlockTokens * dim + i));
  };

  State state;
  state.o.assign(static_cast<size_t>(dim), 0.0);
  std::vector<double> scores;
  for (int token = begin; token < end; ++token) {
    double score = 0;
    for (int i = 0; i < dim; ++i) {
      score += q[static_cast<size_t>(i)] * key(token, i);
    }
    score *= static_cast<double>(shape.scale);
    const double cap = shape.softcap;
    scores.push_back(cap == 0 ? score : cap * std::tanh(score / cap));
    state.max = std::max(state.max, scores.back());
  }
  for (int token = begin; token < end; ++token) {
    const double weight = std::exp(scores[static_cast<size_t>(token - begin)] - state.max);
    state.sum += weight;
    for (int i = 0; i < dim; ++i) {
      state.o[static_cast<size_t>(i)] += weight * value(token, i);
    }
  }
  return state;
}

void Merge(State* total, const State& part) {
  if (part.sum == 0) return;  // no visible key
  const double max = std::max(total->max, part.max);
  const double keep = std::exp(total->max - max), add = std::exp(part.max - max);
  total->max = max;
  total->sum = total->sum * keep + part.sum * add;
  for (size_t i = 0; i < part.o.size(); ++i) total->o[i] = total->o[i] * keep + part.o[i] * add;
}

}  // namespace

void StoreKv(ThreadPool&, const KvGeometry& kv, int layer, const float* k, const float* v, int64_t stride, int n_rows,
             const RotationTable& table, std::span<std::byte* const> blocks, int first) {
  const int dim = kv.head_dim;
  std::vector<float> rotated(static_cast<size_t>(dim));
  for (int r = 0; r < n_rows; ++r) {
    const int token = first + r;
    std::byte* block = blocks[static_cast<size_t>(token / kKvBlockTokens)];
    const int row = token % kKvBlockTokens;
    for (int head = 0; head < kv.n_kv_heads; ++head) {
      RotateRow(k + r * stride + head * dim, table, r, dim, rotated.data());
      for (int i = 0; i < dim; ++i) {
        StoreElement(block + kv.KeyOffset(layer, head) + kv.KeyElementOffset(row, i), kv.dtype, 0,
                     rotated[static_cast<size_t>(i)]);
        StoreElement(block + kv.ValueOffset(layer, head), kv.dtype, static_cast<size_t>(row * dim + i),
                     v[r * stride + head * dim + i]);
      }
    }
  }
}

void SpanAttention(ThreadPool& pool, const AttentionShape& shape, std::span<const AttentionSequence> sequences) {
  const int dim = shape.kv.head_dim, group = shape.n_heads / shape.kv.n_kv_heads;
  for (const AttentionSequence& sequence : sequences) {
    SW_DCHECK(sequence.runs.size() == sequence.rotations.size());
    const auto n_heads = static_cast<size_t>(shape.n_heads);
    pool.ParallelFor(static_cast<size_t>(sequence.n_rows) * n_heads, [&](size_t index) {
      const int row = static_cast<int>(index / n_heads), head = static_cast<int>(index % n_heads);
      State total;
      total.o.assign(static_cast<size_t>(dim), 0.0);
      std::vector<double> q(static_cast<size_t>(dim));
      for (size_t j = 0; j < sequence.runs.size(); ++j) {
        RotateRow(sequence.q + row * sequence.q_stride + head * dim, sequence.rotations[j], row, dim, q.data());
        Merge(&total, AttendRun(shape, sequence.runs[j], head / group, q, sequence.positions[row]));
      }
      SW_DCHECK(total.sum != 0);  // some key is visible; NaN when one of those is
      float* out = sequence.out + index * static_cast<size_t>(dim);
      for (int i = 0; i < dim; ++i) out[i] = static_cast<float>(total.o[static_cast<size_t>(i)] / total.sum);
    });
  }
}

}  // namespace spanwise::ref

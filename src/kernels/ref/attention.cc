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

  double LogSumExp() const { return max + std::log(sum); }
};

// weights[i]: log of key i's weight, minus infinity for those not seen.
State AttendRun(const AttentionShape& shape, const KvRun& run, int kv_head, const std::vector<double>& q, int position,
                double inverse_temperature, std::vector<double>* log_weights) {
  const int dim = shape.kv.head_dim;
  const int local = position - run.base;  // the query's position as the run counts
  const int end = std::min(run.n_tokens, local + 1);
  const int begin = shape.window > 0 ? std::max(0, local - shape.window + 1) : 0;
  const KvGeometry& kv = shape.kv;
  const auto block = [&](int token) { return run.blocks[static_cast<size_t>(token / kKvBlockTokens)]; };
  const auto rows = [&](int token) { return run.RowsOf(static_cast<size_t>(token / kKvBlockTokens)); };
  const auto key = [&](int token, int i) -> double {
    return LoadElement(
        block(token) + kv.KeyOffset(shape.layer, kv_head, rows(token)) + kv.KeyElementOffset(token % kKvBlockTokens, i),
        kv.dtype, 0);
  };
  const auto value = [&](int token, int i) -> double {
    return LoadElement(block(token) + kv.ValueOffset(shape.layer, kv_head, rows(token)), kv.dtype,
                       static_cast<size_t>(token % kKvBlockTokens * dim + i));
  };

  State state;
  state.o.assign(static_cast<size_t>(dim), 0.0);
  log_weights->assign(static_cast<size_t>(run.n_tokens), -std::numeric_limits<double>::infinity());
  std::vector<double> scores;
  for (int token = begin; token < end; ++token) {
    double score = 0;
    for (int i = 0; i < dim; ++i) {
      score += q[static_cast<size_t>(i)] * key(token, i);
    }
    score *= static_cast<double>(shape.scale) * inverse_temperature;
    const double cap = shape.softcap;
    scores.push_back(cap == 0 ? score : cap * std::tanh(score / cap));
    (*log_weights)[static_cast<size_t>(token)] = scores.back();
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

void StoreKv(ThreadPool&, const KvGeometry& kv, int layer, const float* k, const float* v, int64_t stride,
             const RotationTable& table, std::span<std::byte* const> blocks, std::span<const int32_t> at) {
  const int dim = kv.head_dim;
  std::vector<float> rotated(static_cast<size_t>(dim));
  for (int r = 0; r < static_cast<int>(at.size()); ++r) {
    const int token = at[static_cast<size_t>(r)];
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
      std::vector<std::vector<double>> log_weights(sequence.runs.size());  // of each run's keys
      const RunGroup plain{.n_runs = static_cast<int>(sequence.runs.size())};
      size_t j = 0;
      for (const RunGroup& g : sequence.groups.empty() ? std::span(&plain, 1) : sequence.groups) {
        State state;
        state.o.assign(static_cast<size_t>(dim), 0.0);
        const size_t first = j, end = j + static_cast<size_t>(g.n_runs);
        for (; j < end; ++j) {
          RotateRow(sequence.q + row * sequence.q_stride + head * dim, sequence.rotations[j], row, dim, q.data());
          Merge(&state, AttendRun(shape, sequence.runs[j], head / group, q, sequence.positions[row],
                                  static_cast<double>(g.inverse_temperature), &log_weights[j]));
        }
        if (state.sum != 0 && g.lse_scale != 1) {
          const double change = state.LogSumExp() * (static_cast<double>(g.lse_scale) - 1);
          state.max += change;
          for (size_t run = first; run < end; ++run)
            for (double& w : log_weights[run]) w += change;
        }
        Merge(&total, state);
      }
      SW_DCHECK(total.sum != 0);  // some key is visible; NaN when one of those is
      float* out = sequence.out + index * static_cast<size_t>(dim);
      for (int i = 0; i < dim; ++i) out[i] = static_cast<float>(total.o[static_cast<size_t>(i)] / total.sum);
      const auto& [ranges, mass] = sequence.mass;
      for (size_t i = 0; i < ranges.size(); ++i) {
        double sum = 0;
        for (int token = ranges[i].begin; token < ranges[i].end; ++token)
          sum +=
              std::exp(log_weights[static_cast<size_t>(ranges[i].run)][static_cast<size_t>(token)] - total.LogSumExp());
        mass[index * ranges.size() + i] = static_cast<float>(sum);
      }
    });
  }
}

}  // namespace spanwise::ref

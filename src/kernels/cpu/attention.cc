#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <limits>
#include <numeric>

#include "base/check.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/tile-inl.h"
#include "kernels/cpu/work.h"

// Apart from its like: it must come after foreach_target.h.
#include <hwy/contrib/math/math-inl.h>

#ifndef SPANWISE_KERNELS_CPU_ATTENTION_CC_
#define SPANWISE_KERNELS_CPU_ATTENTION_CC_
namespace spanwise::cpu {

// The query vectors (rows x heads of the group) one task should have: enough to spread the widening of a block of keys
// and values, few enough that queries, outputs and that block stay in a second-level cache of 512 KiB.
inline constexpr int kTaskQueries = 96;

// One task: some query rows of a sequence with the heads that share one KV head. Query index = row * group + head.
struct AttentionTask {
  const AttentionShape* shape;
  const AttentionSequence* sequence;
  int row_begin, n_rows;
  int kv_head;
};

// Attention of one query over the keys seen so far: o / sum is the output, max + log(sum) its log-sum-exp.
struct SoftmaxState {
  float max, sum;
};

// A task's memory, carved from one allocation.
struct AttentionScratch {
  float* q;       // [n_queries, head_dim], rotated and scaled for the run
  float* keys;    // [kKvBlockTokens / 16 panels][head_dim][16]
  float* values;  // [kKvBlockTokens, padded_dim]
  float* scores;  // [n_queries, kKvBlockTokens]
  float* run_o;   // [n_queries, padded_dim]
  float* o;       // [n_queries, padded_dim]
  SoftmaxState* run_state;
  SoftmaxState* state;

  static size_t Padded(size_t head_dim) { return (head_dim + 15) / 16 * 16; }
  static size_t Floats(size_t n_queries, size_t head_dim) {
    return n_queries * (head_dim + kKvBlockTokens + 2 * Padded(head_dim) + 4) +
           kKvBlockTokens * (head_dim + Padded(head_dim));
  }
  AttentionScratch(float* at, size_t n_queries, size_t head_dim) {
    const auto take = [&](size_t n) { return std::exchange(at, at + n); };
    keys = take(kKvBlockTokens * head_dim);
    values = take(kKvBlockTokens * Padded(head_dim));
    scores = take(n_queries * kKvBlockTokens);
    run_o = take(n_queries * Padded(head_dim));
    o = take(n_queries * Padded(head_dim));
    q = take(n_queries * head_dim);
    run_state = reinterpret_cast<SoftmaxState*>(take(2 * n_queries));
    state = reinterpret_cast<SoftmaxState*>(take(2 * n_queries));
  }
};

}  // namespace spanwise::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace spanwise::cpu::HWY_NAMESPACE {

// 3 rows x 32 columns on AVX2: fewer loads a multiply-add than 6 x 16, and a block of keys is small anyway.
inline constexpr int kQueryTile = kLanes == 8 ? 3 : kMaxTileRows;

HWY_INLINE float ExpOf(float x) { return hn::GetLane(hn::Exp(DF(), hn::Set(DF(), x))); }

HWY_INLINE void Scale(float* o, int n, float factor) {  // n: a multiple of 16
  const DF d;
  const VF by = hn::Set(d, factor);
  for (int i = 0; i < n; i += kLanes) hn::StoreU(hn::Mul(hn::LoadU(d, o + i), by), d, o + i);
}

// Turns the scores of keys [begin, end) of a block into weights relative to the new running maximum, zero outside, and
// scales what the state holds to that maximum. kWhole: all keys of the block are seen, which saves the masks.
template <bool kWhole>
void SoftmaxBlock(float* scores, int begin, int end, float softcap, int padded_dim, SoftmaxState* state, float* o) {
  constexpr int kVecs = kKvBlockTokens / kLanes;
  const DF d;
  const VF lo = hn::Set(d, static_cast<float>(begin)), hi = hn::Set(d, static_cast<float>(end));
  const auto visible = [&](int j) HWY_ATTR {
    const VF index = hn::Iota(d, static_cast<float>(j * kLanes));
    return hn::And(hn::Ge(index, lo), hn::Lt(index, hi));
  };
  VF v[kVecs];
  VF max = hn::Set(d, -std::numeric_limits<float>::infinity());
  for (int j = 0; j < kVecs; ++j) {
    v[j] = hn::LoadU(d, scores + j * kLanes);
    if (softcap != 0) v[j] = hn::Mul(hn::Set(d, softcap), hn::Tanh(d, hn::Mul(v[j], hn::Set(d, 1 / softcap))));
    max = hn::Max(max, kWhole ? v[j] : hn::IfThenElse(visible(j), v[j], max));
  }
  const float new_max = HWY_MAX(state->max, hn::GetLane(hn::MaxOfLanes(d, max)));
  if (state->sum > 0 && new_max > state->max) {
    const float factor = ExpOf(state->max - new_max);
    state->sum *= factor;
    Scale(o, padded_dim, factor);
  }
  state->max = new_max;

  const VF shift = hn::Set(d, new_max);
  for (int j = 0; j < kVecs; ++j) {
    v[j] = hn::Exp(d, hn::Sub(v[j], shift));
    if (!kWhole) v[j] = hn::IfThenElseZero(visible(j), v[j]);
    hn::StoreU(v[j], d, scores + j * kLanes);
  }
  state->sum += SumVectors(v, kVecs);
}

// total += part, by log-sum-exp.
void MergeState(const SoftmaxState& part, const float* part_o, int padded_dim, SoftmaxState* total, float* total_o) {
  const DF d;
  if (total->sum == 0) {
    *total = part;
    for (int i = 0; i < padded_dim; i += kLanes) hn::StoreU(hn::LoadU(d, part_o + i), d, total_o + i);
    return;
  }
  const float max = HWY_MAX(total->max, part.max);
  const float keep = ExpOf(total->max - max), add = ExpOf(part.max - max);
  total->max = max;
  total->sum = total->sum * keep + part.sum * add;
  const VF by_keep = hn::Set(d, keep), by_add = hn::Set(d, add);
  for (int i = 0; i < padded_dim; i += kLanes) {
    const VF kept = hn::Mul(hn::LoadU(d, total_o + i), by_keep);
    hn::StoreU(hn::MulAdd(hn::LoadU(d, part_o + i), by_add, kept), d, total_o + i);
  }
}

// The keys of a run that a row sees: [begin, end), empty if begin >= end.
struct Visible {
  int begin, end;
};

HWY_INLINE Visible VisibleKeys(const KvRun& run, int window, int position) {
  const int64_t local = int64_t{position} - run.base;  // the row's position as the run counts
  const int64_t end = HWY_MIN(int64_t{run.n_tokens}, local + 1);
  const int64_t begin = window > 0 ? HWY_MAX(int64_t{0}, local - window + 1) : 0;
  return begin < end ? Visible{static_cast<int>(begin), static_cast<int>(end)} : Visible{0, 0};
}

// Widens n_tokens keys and values of one block. Rows past n_tokens may hold anything and are not read. Asks the memory
// for the same rows of the block after it, unless that is null.
void LoadBlock(const AttentionShape& shape, int kv_head, const std::byte* block, const std::byte* next, int n_tokens,
               const AttentionScratch& s) {
  const int dim = shape.kv.head_dim, padded_dim = static_cast<int>(AttentionScratch::Padded(shape.kv.head_dim));
  const size_t row_bytes = static_cast<size_t>(dim) * DTypeBytes(shape.kv.dtype);
  const size_t key_offset = shape.kv.KeyOffset(shape.layer, kv_head);
  const size_t value_offset = shape.kv.ValueOffset(shape.layer, kv_head);
  const auto ask_next = [&](size_t offset) HWY_ATTR {
    if (next == nullptr) return;
    for (size_t i = 0; i < kPanel * row_bytes; i += 64) hwy::Prefetch(next + offset + i);
  };
  for (int first = 0; first < n_tokens; first += kPanel) {
    const size_t first_bytes = static_cast<size_t>(first) * row_bytes;
    ask_next(key_offset + first_bytes);
    const std::byte* rows[kPanel];
    for (int i = 0; i < kPanel; ++i) {
      rows[i] = block + key_offset + static_cast<size_t>(HWY_MIN(first + i, n_tokens - 1)) * row_bytes;
    }
    PackPanel(rows, shape.kv.dtype, dim, s.keys + first * dim);
    ask_next(value_offset + first_bytes);
    for (int t = first; t < HWY_MIN(first + kPanel, n_tokens); ++t) {
      float* to = s.values + t * padded_dim;
      WidenRow(block + value_offset + static_cast<size_t>(t) * row_bytes, shape.kv.dtype, dim, to);
      for (int i = dim; i < padded_dim; ++i) to[i] = 0;
    }
  }
}

// One block of a run for all rows of the task.
void AttendBlock(const AttentionTask& task, const KvRun& run, int block, const AttentionScratch& s) {
  const AttentionShape& shape = *task.shape;
  const int dim = shape.kv.head_dim, padded_dim = static_cast<int>(AttentionScratch::Padded(shape.kv.head_dim));
  const int group = shape.n_heads / shape.kv.n_kv_heads;
  const int first_token = block * kKvBlockTokens;
  const int n_tokens = HWY_MIN(kKvBlockTokens, run.n_tokens - first_token);
  const int32_t* positions = task.sequence->positions + task.row_begin;
  // What row r sees of this block.
  const auto visible = [&](int r) HWY_ATTR {
    const Visible keys = VisibleKeys(run, shape.window, positions[r]);
    return Visible{HWY_MAX(0, keys.begin - first_token), HWY_MIN(n_tokens, keys.end - first_token)};
  };
  int first_row = 0, end_row = task.n_rows;
  const auto blind = [&](int r) HWY_ATTR {
    const Visible v = visible(r);
    return v.begin >= v.end;
  };
  while (first_row < end_row && blind(first_row)) ++first_row;
  while (first_row < end_row && blind(end_row - 1)) --end_row;
  if (first_row == end_row) return;

  const std::byte* next =
      first_token + kKvBlockTokens < run.n_tokens ? run.blocks[static_cast<size_t>(block) + 1] : nullptr;
  LoadBlock(shape, task.kv_head, run.blocks[static_cast<size_t>(block)], next, n_tokens, s);
  const int first_query = first_row * group;
  MultiplyPanels<FloatRight<>, Start::kZero, kQueryTile>(
      {.a = s.q + first_query * dim,
       .a_stride = dim,
       .b = reinterpret_cast<const std::byte*>(s.keys),
       .b_stride = kPanel * sizeof(float),
       .panel_stride = static_cast<int64_t>(sizeof(float)) * kPanel * dim,
       .n_k = dim,
       .c = s.scores + first_query * kKvBlockTokens,
       .c_stride = kKvBlockTokens},
      (end_row - first_row) * group, (n_tokens + kPanel - 1) / kPanel);

  // Neighbouring rows that see the same keys go through the tiles together; a key that a row does not see is left out
  // of its chains, not multiplied by zero, for its value may be anything.
  for (int r = first_row; r < end_row;) {
    const Visible keys = visible(r);
    int end = r + 1;
    while (end < end_row && visible(end).begin == keys.begin && visible(end).end == keys.end) ++end;
    if (keys.begin < keys.end) {
      for (int i = r * group; i < end * group; ++i) {
        const bool whole = keys.begin == 0 && keys.end == kKvBlockTokens;
        (whole ? SoftmaxBlock<true> : SoftmaxBlock<false>)(s.scores + i * kKvBlockTokens, keys.begin, keys.end,
                                                           shape.softcap, padded_dim, s.run_state + i,
                                                           s.run_o + i * padded_dim);
      }
      MultiplyPanels<FloatRight<>, Start::kContinue, kQueryTile>(
          {.a = s.scores + r * group * kKvBlockTokens + keys.begin,
           .a_stride = kKvBlockTokens,
           .b = reinterpret_cast<const std::byte*>(s.values + keys.begin * padded_dim),
           .b_stride = static_cast<int64_t>(sizeof(float)) * padded_dim,
           .panel_stride = kPanel * sizeof(float),
           .n_k = keys.end - keys.begin,
           .c = s.run_o + r * group * padded_dim,
           .c_stride = padded_dim},
          (end - r) * group, padded_dim / kPanel);
    }
    r = end;
  }
}

void AttendTask(const AttentionTask& task, const AttentionScratch& s) {
  const AttentionShape& shape = *task.shape;
  const AttentionSequence& sequence = *task.sequence;
  const int dim = shape.kv.head_dim, half = dim / 2, padded_dim = static_cast<int>(AttentionScratch::Padded(dim));
  const int group = shape.n_heads / shape.kv.n_kv_heads, n_queries = task.n_rows * group;
  constexpr SoftmaxState kEmpty = {-std::numeric_limits<float>::infinity(), 0};
  for (int i = 0; i < n_queries; ++i) s.state[i] = kEmpty;

  const float* rotated_by = nullptr;  // the table that s.q was rotated with
  for (size_t j = 0; j < sequence.runs.size(); ++j) {
    const KvRun& run = sequence.runs[j];
    int begin = run.n_tokens, end = 0;  // what the rows see together
    for (int r = 0; r < task.n_rows; ++r) {
      const Visible keys = VisibleKeys(run, shape.window, sequence.positions[task.row_begin + r]);
      if (keys.begin >= keys.end) continue;
      begin = HWY_MIN(begin, keys.begin);
      end = HWY_MAX(end, keys.end);
    }
    if (begin >= end) continue;

    if (rotated_by != sequence.rotations[j].cos.data()) {
      rotated_by = sequence.rotations[j].cos.data();
      for (int i = 0; i < n_queries; ++i) {
        const int64_t row = task.row_begin + i / group;
        const float* q = sequence.q + row * sequence.q_stride + (task.kv_head * group + i % group) * dim;
        RotateRow(q, sequence.rotations[j].cos.data() + row * half, sequence.rotations[j].sin.data() + row * half, half,
                  shape.scale, s.q + i * dim);
      }
    }
    for (int i = 0; i < n_queries; ++i) s.run_state[i] = kEmpty;
    for (int i = 0; i < n_queries * padded_dim; ++i) s.run_o[i] = 0;
    for (int block = begin / kKvBlockTokens; block <= (end - 1) / kKvBlockTokens; ++block) {
      AttendBlock(task, run, block, s);
    }
    for (int i = 0; i < n_queries; ++i) {
      if (s.run_state[i].sum == 0) continue;
      MergeState(s.run_state[i], s.run_o + i * padded_dim, padded_dim, s.state + i, s.o + i * padded_dim);
    }
  }

  for (int i = 0; i < n_queries; ++i) {
    const int64_t head = int64_t{task.row_begin + i / group} * shape.n_heads + task.kv_head * group + i % group;
    const float inverse = 1.0f / s.state[i].sum;
    for (int e = 0; e < dim; ++e) sequence.out[head * dim + e] = s.o[i * padded_dim + e] * inverse;
  }
}

}  // namespace spanwise::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace spanwise::cpu {

HWY_EXPORT(AttendTask);

void SpanAttention(ThreadPool& pool, const AttentionShape& shape, std::span<const AttentionSequence> sequences) {
  const int group = shape.n_heads / shape.kv.n_kv_heads;
  const int tile_rows = std::max(1, kTaskQueries / group);
  const auto tiles = [&](const AttentionSequence& sequence) { return (sequence.n_rows + tile_rows - 1) / tile_rows; };
  size_t n_tiles = 0;
  for (const AttentionSequence& sequence : sequences) {
    SW_DCHECK(sequence.runs.size() == sequence.rotations.size());
    n_tiles += static_cast<size_t>(tiles(sequence));
  }
  const auto attend = HWY_DYNAMIC_DISPATCH(AttendTask);
  const auto n_kv_heads = static_cast<size_t>(shape.kv.n_kv_heads);
  pool.ParallelFor(n_tiles * n_kv_heads, [&](size_t index) {
    // A sequence's last rows see most keys: they are handed out first, so that no thread is left with a long task.
    auto tile = static_cast<int>(index / n_kv_heads);
    const AttentionSequence* sequence = sequences.data();
    for (; tile >= tiles(*sequence); ++sequence) tile -= tiles(*sequence);
    const int row = (tiles(*sequence) - 1 - tile) * tile_rows;
    const int n_rows = std::min(tile_rows, sequence->n_rows - row);
    const auto n_queries = static_cast<size_t>(n_rows * group), dim = static_cast<size_t>(shape.kv.head_dim);
    const AttentionScratch scratch(Scratch::Floats(AttentionScratch::Floats(n_queries, dim)), n_queries, dim);
    attend({&shape, sequence, row, n_rows, static_cast<int>(index % n_kv_heads)}, scratch);
  });
}

}  // namespace spanwise::cpu
#endif

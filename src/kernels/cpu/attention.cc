#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <optional>

#include "base/check.h"
#include "kernels/cpu/attention_tiles.h"
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
  AttentionTiles* tiles;  // nullptr: by vectors
};

// Attention of one query over the keys seen so far: o / sum is the output, max + log(sum) its log-sum-exp.
struct SoftmaxState {
  float max, sum;
};

// States of a task's queries, of a run or of some merged ones.
struct QueryStates {
  float* o;             // [n_queries, padded_dim]
  SoftmaxState* state;  // [n_queries]
};

// What a task's memory depends on.
struct AttentionSizes {
  size_t n_queries, head_dim;
  size_t n_states;  // that wait to be merged at one time, at most
  size_t n_ranges;  // of attention mass

  AttentionSizes(const AttentionShape& shape, const AttentionSequence& sequence, int n_rows)
      : n_queries(static_cast<size_t>(n_rows * (shape.n_heads / shape.kv.n_kv_heads))),
        head_dim(static_cast<size_t>(shape.kv.head_dim)),
        n_ranges(sequence.mass.ranges.size()) {
    // Of n merged in pairs of neighbours, at most one tree for each bit of n waits.
    size_t largest = sequence.groups.empty() ? sequence.runs.size() : 1;
    for (const RunGroup& g : sequence.groups) largest = std::max(largest, static_cast<size_t>(g.n_runs));
    n_states =
        static_cast<size_t>(std::bit_width(std::max<size_t>(1, sequence.groups.size())) - 1 + std::bit_width(largest));
  }
};

// A task's memory, carved from one allocation.
struct AttentionScratch {
  float* q;              // [n_queries, head_dim], rotated and scaled for the run
  float* keys;           // [kKvBlockTokens / 16 panels][head_dim][16]
  float* values;         // [kKvBlockTokens, padded_dim]
  float* scores;         // [n_queries, kKvBlockTokens]
  float* o;              // [n_states, n_queries, padded_dim]
  SoftmaxState* state;   // [n_states, n_queries]
  SoftmaxState* ranges;  // [n_queries, n_ranges]; of these the sums alone, without values
  size_t n_queries, padded_dim;

  static size_t Padded(size_t head_dim) { return (head_dim + 15) / 16 * 16; }
  static size_t Floats(const AttentionSizes& n) {
    return n.n_queries * (n.head_dim + kKvBlockTokens + n.n_states * (Padded(n.head_dim) + 2) + 2 * n.n_ranges) +
           kKvBlockTokens * (n.head_dim + Padded(n.head_dim));
  }
  AttentionScratch(float* at, const AttentionSizes& n) : n_queries(n.n_queries), padded_dim(Padded(n.head_dim)) {
    const auto take = [&](size_t count) { return std::exchange(at, at + count); };
    keys = take(kKvBlockTokens * n.head_dim);
    values = take(kKvBlockTokens * padded_dim);
    scores = take(n_queries * kKvBlockTokens);
    o = take(n.n_states * n_queries * padded_dim);
    q = take(n_queries * n.head_dim);
    state = reinterpret_cast<SoftmaxState*>(take(n.n_states * 2 * n_queries));
    ranges = reinterpret_cast<SoftmaxState*>(take(2 * n_queries * n.n_ranges));
  }
  QueryStates States(size_t i) const { return {o + i * n_queries * padded_dim, state + i * n_queries}; }
};

}  // namespace spanwise::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace spanwise::cpu::HWY_NAMESPACE {

// 3 rows x 32 columns on AVX2: fewer loads a multiply-add than 6 x 16, and a block of keys is small anyway. From memory
// 4 x 16, so that four heads of a group widen a key once.
inline constexpr int kQueryTile = kLanes == 8 ? 3 : kMaxTileRows;
inline constexpr int kStreamTile = kLanes == 8 ? 4 : kMaxTileRows;
inline constexpr int kStreamQueries = 8;

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
  if (part.sum == 0) return;
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

void MergeStates(const QueryStates& part, int n_queries, int padded_dim, const QueryStates& total) {
  for (int i = 0; i < n_queries; ++i)
    MergeState(part.state[i], part.o + i * padded_dim, padded_dim, total.state + i, total.o + i * padded_dim);
}

// Adds a block's weights, relative to `max`, to the sums of the ranges that they belong to. REQUIRES: all have a part
// of the block.
void AddMass(const float* weights, float max, int first_token, int n_tokens, std::span<const KeyRange> ranges,
             SoftmaxState* sums) {
  for (size_t i = 0; i < ranges.size(); ++i) {
    const int begin = HWY_MAX(0, ranges[i].begin - first_token), end = HWY_MIN(n_tokens, ranges[i].end - first_token);
    SoftmaxState& sum = sums[i];
    if (sum.sum > 0 && max > sum.max) sum.sum *= ExpOf(sum.max - max);
    sum.max = max;
    for (int t = begin; t < end; ++t) sum.sum += weights[t];
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

// out[i] = float(from[i]).
void WidenRow(const std::byte* from, DType dtype, int n, float* HWY_RESTRICT out) {
  const DF d;
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const std::byte* at = from + static_cast<size_t>(i) * DTypeBytes(dtype);
    const VF v = dtype == DType::kBf16 ? WidenBf16(at) : hn::LoadU(d, reinterpret_cast<const float*>(at));
    hn::StoreU(v, d, out + i);
  }
  for (; i < n; ++i) out[i] = LoadElement(from, dtype, static_cast<size_t>(i));
}

// One block's keys and values of a KV head, as tiles take them.
struct BlockRight {
  const std::byte *keys, *values;
  int64_t key_row, key_panel, value_row, value_panel;  // strides in bytes
  int64_t ahead;                                       // from here to where the next block's are kept
};

// As kept.
BlockRight KeptBlock(const AttentionShape& shape, int kv_head, const std::byte* block, int rows,
                     const std::byte* next) {
  const auto bytes = static_cast<int64_t>(DTypeBytes(shape.kv.dtype));
  return {.keys = block + shape.kv.KeyOffset(shape.layer, kv_head, rows),
          .values = block + shape.kv.ValueOffset(shape.layer, kv_head, rows),
          .key_row = kPanel * bytes,
          .key_panel = kPanel * bytes * shape.kv.head_dim,
          .value_row = bytes * shape.kv.head_dim,
          .value_panel = kPanel * bytes,
          .ahead = next - block};
}

// Widened to the task's memory, n_tokens of it. What stands after them may be anything.
template <class KeyRight>
BlockRight WidenBlock(const AttentionShape& shape, const BlockRight& kept, int n_tokens, const AttentionScratch& s) {
  const int dim = shape.kv.head_dim, padded_dim = static_cast<int>(AttentionScratch::Padded(shape.kv.head_dim));
  for (int first = 0; first < n_tokens; first += kPanel) {
    const int n = HWY_MIN(kPanel, n_tokens - first);
    const std::byte* keys = kept.keys + first / kPanel * kept.key_panel;
    const std::byte* values = kept.values + first * kept.value_row;
    for (int64_t i = 0; i < kept.key_panel; i += 64) hwy::Prefetch(keys + kept.ahead + i);
    WidenRows<KeyRight>(keys, kept.key_row, dim, s.keys + first * dim);
    for (int64_t i = 0; i < n * kept.value_row; i += 64) hwy::Prefetch(values + kept.ahead + i);
    for (int t = 0; t < n; ++t) {
      float* to = s.values + (first + t) * padded_dim;
      WidenRow(values + t * kept.value_row, shape.kv.dtype, dim, to);
      for (int i = dim; i < padded_dim; ++i) to[i] = 0;
    }
  }
  constexpr int64_t kRow = kPanel * sizeof(float);
  return {.keys = reinterpret_cast<const std::byte*>(s.keys),
          .values = reinterpret_cast<const std::byte*>(s.values),
          .key_row = kRow,
          .key_panel = kRow * dim,
          .value_row = static_cast<int64_t>(sizeof(float)) * padded_dim,
          .value_panel = kRow,
          .ahead = 0};
}

// A run, the states that it is reduced to, and the ranges of attention mass that lie in it.
struct RunStates {
  const KvRun& run;
  QueryStates states;
  std::span<const KeyRange> ranges;
  SoftmaxState* range_sums;  // of the first query; n_ranges further on of the next
};

// One block of a run for all rows of the task. kTiles: by matrix tiles.
template <class KeyRight, class ValueRight, int kTileRows, bool kTiles = false>
void AttendBlock(const AttentionTask& task, const RunStates& to, int block, const AttentionScratch& s) {
  const KvRun& run = to.run;
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

  const std::byte* here = run.blocks[static_cast<size_t>(block)];
  const std::byte* next =
      first_token + kKvBlockTokens < run.n_tokens ? run.blocks[static_cast<size_t>(block) + 1] : here;
  const auto ranges_begin =
      std::ranges::partition_point(to.ranges, [&](const KeyRange& range) HWY_ATTR { return range.end <= first_token; });
  const auto ranges_end = std::partition_point(ranges_begin, to.ranges.end(), [&](const KeyRange& range) HWY_ATTR {
    return range.begin < first_token + n_tokens;
  });
  const std::span<const KeyRange> ranges(ranges_begin, ranges_end);
  SoftmaxState* const range_sums = to.range_sums + (ranges_begin - to.ranges.begin());
  BlockRight right = KeptBlock(shape, task.kv_head, here, run.RowsOf(static_cast<size_t>(block)), next);
  const int first_query = first_row * group;
  if constexpr (kTiles) {
    const TileBlock kept = {right.keys, right.values, right.ahead, n_tokens};
    task.tiles->Scores(kept, s.q + first_query * dim, (end_row - first_row) * group,
                       s.scores + first_query * kKvBlockTokens);
    task.tiles->SetValues(kept, reinterpret_cast<std::byte*>(s.values));
  } else {
    if constexpr (!KeyRight::kAsks) {
      right =
          (shape.kv.dtype == DType::kBf16 ? WidenBlock<Bf16Right> : WidenBlock<KeyRight>)(shape, right, n_tokens, s);
    }
    MultiplyPanels<KeyRight, Start::kZero, kTileRows>({.a = s.q + first_query * dim,
                                                       .a_stride = dim,
                                                       .b = right.keys,
                                                       .b_stride = right.key_row,
                                                       .panel_stride = right.key_panel,
                                                       .ahead = right.ahead,
                                                       .n_k = dim,
                                                       .c = s.scores + first_query * kKvBlockTokens,
                                                       .c_stride = kKvBlockTokens},
                                                      (end_row - first_row) * group, (n_tokens + kPanel - 1) / kPanel);
  }
  // Rows from here on wait for their values.
  [[maybe_unused]] int first_weighted = first_row;
  [[maybe_unused]] const auto add_values = [&](int end) {
    if (first_weighted < end)
      task.tiles->AddValues(s.scores + first_weighted * group * kKvBlockTokens, (end - first_weighted) * group,
                            to.states.o + first_weighted * group * padded_dim);
  };

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
                                                           shape.softcap, padded_dim, to.states.state + i,
                                                           to.states.o + i * padded_dim);
        if (!ranges.empty())
          AddMass(s.scores + i * kKvBlockTokens, to.states.state[i].max, first_token, n_tokens, ranges,
                  range_sums + static_cast<size_t>(i) * task.sequence->mass.ranges.size());
        if constexpr (kTiles) RoundToBf16InPlace(s.scores + i * kKvBlockTokens, kKvBlockTokens);
      }
      if constexpr (!kTiles)
        MultiplyPanels<ValueRight, Start::kContinue, kTileRows>(
            {.a = s.scores + r * group * kKvBlockTokens + keys.begin,
             .a_stride = kKvBlockTokens,
             .b = right.values + keys.begin * right.value_row,
             .b_stride = right.value_row,
             .panel_stride = right.value_panel,
             .ahead = right.ahead,
             .n_k = keys.end - keys.begin,
             .c = to.states.o + r * group * padded_dim,
             .c_stride = padded_dim},
            (end - r) * group, padded_dim / kPanel);
    } else if constexpr (kTiles) {
      add_values(r);
      first_weighted = end;
    }
    r = end;
  }
  if constexpr (kTiles) add_values(end_row);
}

// Reduces a run to `to`, with queries rotated and scaled as they stand in s.q.
void AttendRun(const AttentionTask& task, const RunStates& to, int begin, int end, const AttentionScratch& s) {
  const AttentionShape& shape = *task.shape;
  const int dim = shape.kv.head_dim, padded_dim = static_cast<int>(s.padded_dim);
  const int n_queries = static_cast<int>(s.n_queries);
  // Few queries take keys and values as they come from memory; for many they are widened once. (Whole panels of values
  // alone can be taken so.)
  auto* attend_block = AttendBlock<FloatRight<false>, FloatRight<false>, kQueryTile>;
  if (task.tiles) {
    attend_block = AttendBlock<Bf16Right, Bf16RowsRight, kQueryTile, true>;
  } else if (n_queries <= kStreamQueries && dim == padded_dim) {
    attend_block = shape.kv.dtype == DType::kBf16 ? AttendBlock<Bf16Right, Bf16RowsRight, kStreamTile>
                                                  : AttendBlock<FloatRight<true>, FloatRight<true>, kStreamTile>;
  }
  for (int i = 0; i < n_queries * padded_dim; ++i) to.states.o[i] = 0;
  for (int block = begin / kKvBlockTokens; block <= (end - 1) / kKvBlockTokens; ++block)
    attend_block(task, to, block, s);
}

// Rotates and scales the task's queries into s.q.
void RotateQueries(const AttentionTask& task, const RotationTable& table, float scale, const AttentionScratch& s) {
  const AttentionSequence& sequence = *task.sequence;
  const int dim = task.shape->kv.head_dim, half = dim / 2, group = task.shape->n_heads / task.shape->kv.n_kv_heads;
  for (int i = 0; i < task.n_rows * group; ++i) {
    const int64_t row = task.row_begin + i / group;
    const float* q = sequence.q + row * sequence.q_stride + (task.kv_head * group + i % group) * dim;
    RotateRow(q, table.cos.data() + row * half, table.sin.data() + row * half, half, scale, s.q + i * dim);
    if (task.tiles) RoundToBf16InPlace(s.q + i * dim, dim);
  }
}

// What the task's rows see of a run together.
Visible VisibleToAny(const AttentionTask& task, const KvRun& run) {
  Visible all = {run.n_tokens, 0};
  for (int r = 0; r < task.n_rows; ++r) {
    const Visible keys = VisibleKeys(run, task.shape->window, task.sequence->positions[task.row_begin + r]);
    if (keys.begin >= keys.end) continue;
    all = {HWY_MIN(all.begin, keys.begin), HWY_MAX(all.end, keys.end)};
  }
  return all;
}

// Multiplies the log-sum-exp of each state by a factor; the masses of its runs, sums [n_queries, n_ranges] of which
// n_own belong to them, follow.
void ScaleLogSumExp(const QueryStates& states, size_t n_queries, float factor, SoftmaxState* sums, size_t n_ranges,
                    size_t n_own) {
  for (size_t i = 0; i < n_queries; ++i) {
    SoftmaxState& state = states.state[i];
    if (state.sum == 0) continue;
    const float change = (state.max + std::log(state.sum)) * (factor - 1);
    state.max += change;
    for (size_t k = 0; k < n_own; ++k) sums[i * n_ranges + k].max += change;
  }
}

void AttendTask(const AttentionTask& task, const AttentionScratch& s) {
  const AttentionShape& shape = *task.shape;
  const AttentionSequence& sequence = *task.sequence;
  const int dim = shape.kv.head_dim, padded_dim = static_cast<int>(s.padded_dim);
  const int group = shape.n_heads / shape.kv.n_kv_heads, n_queries = static_cast<int>(s.n_queries);
  const std::span<const KeyRange> ranges = sequence.mass.ranges;
  constexpr SoftmaxState kEmpty = {-std::numeric_limits<float>::infinity(), 0};
  for (size_t i = 0; i < s.n_queries * ranges.size(); ++i) s.ranges[i] = kEmpty;

  // States wait on a stack. After leaf n the two on top are merged as often as n is even.
  size_t top = 0;
  const auto merge_top = [&] {
    --top;
    MergeStates(s.States(top), n_queries, padded_dim, s.States(top - 1));
  };
  const auto merge_pairs = [&](size_t n) {
    for (; n % 2 == 0; n /= 2) merge_top();
  };
  const float* rotated_by = nullptr;  // the table and scale that s.q was made with
  float scaled_by = 0;
  const RunGroup plain{.n_runs = static_cast<int>(sequence.runs.size())};
  const auto groups = sequence.groups.empty() ? std::span(&plain, 1) : sequence.groups;
  size_t run = 0, range = 0;
  for (size_t g = 0; g < groups.size(); ++g) {
    const size_t bottom = top, first_run = run, first_range = range;
    const float scale = shape.scale * groups[g].inverse_temperature;
    for (const size_t end_run = run + static_cast<size_t>(groups[g].n_runs); run < end_run; ++run) {
      const size_t range_begin = range;
      while (range < ranges.size() && ranges[range].run == static_cast<int>(run)) ++range;
      const QueryStates states = s.States(top++);
      for (size_t i = 0; i < s.n_queries; ++i) states.state[i] = kEmpty;
      const Visible keys = VisibleToAny(task, sequence.runs[run]);
      if (keys.begin < keys.end) {
        const RotationTable& table = sequence.rotations[run];
        if (rotated_by != table.cos.data() || scaled_by != scale) RotateQueries(task, table, scale, s);
        rotated_by = table.cos.data();
        scaled_by = scale;
        const RunStates to = {sequence.runs[run], states, ranges.subspan(range_begin, range - range_begin),
                              s.ranges + range_begin};
        AttendRun(task, to, keys.begin, keys.end, s);
      }
      merge_pairs(run - first_run + 1);
    }
    while (top > bottom + 1) merge_top();
    if (groups[g].lse_scale != 1)
      ScaleLogSumExp(s.States(bottom), s.n_queries, groups[g].lse_scale, s.ranges + first_range, ranges.size(),
                     range - first_range);
    merge_pairs(g + 1);
  }
  while (top > 1) merge_top();

  for (int i = 0; i < n_queries; ++i) {
    const int64_t head = int64_t{task.row_begin + i / group} * shape.n_heads + task.kv_head * group + i % group;
    const SoftmaxState& state = s.state[i];
    const float inverse = 1.0f / state.sum;
    for (int e = 0; e < dim; ++e) sequence.out[head * dim + e] = s.o[i * padded_dim + e] * inverse;
    const auto n_ranges = static_cast<int64_t>(ranges.size());
    float max = state.max, weight = 1;  // neighbours have the maximum in common that their block had
    for (int64_t k = 0; k < n_ranges; ++k) {
      const SoftmaxState& sum = s.ranges[i * n_ranges + k];
      if (sum.max != max) {
        max = sum.max;
        weight = ExpOf(max - state.max);
      }
      sequence.mass.mass[head * n_ranges + k] = sum.sum == 0 ? 0 : sum.sum * weight * inverse;
    }
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
  const bool by_tiles = AttendsByTiles(shape);
  const auto n_kv_heads = static_cast<size_t>(shape.kv.n_kv_heads);
  pool.ParallelFor(n_tiles * n_kv_heads, [&](size_t index) {
    // A sequence's last rows see most keys: they are handed out first, so that no thread is left with a long task.
    auto tile = static_cast<int>(index / n_kv_heads);
    const AttentionSequence* sequence = sequences.data();
    for (; tile >= tiles(*sequence); ++sequence) tile -= tiles(*sequence);
    const int row = (tiles(*sequence) - 1 - tile) * tile_rows;
    const int n_rows = std::min(tile_rows, sequence->n_rows - row);
    const AttentionSizes sizes(shape, *sequence, n_rows);
    const AttentionScratch scratch(Scratch::Floats(AttentionScratch::Floats(sizes)), sizes);
    std::optional<AttentionTiles> registers;
    if (by_tiles) registers.emplace(shape.kv.head_dim);
    attend({&shape, sequence, row, n_rows, static_cast<int>(index % n_kv_heads), registers ? &*registers : nullptr},
           scratch);
  });
}

}  // namespace spanwise::cpu
#endif

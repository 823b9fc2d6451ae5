// Every operation of the engine on arrays, declared once. kernels/ref holds the scalar oracle, kernels/cpu the fast
// path; both define the functions below in their own namespace (ref::, cpu::) and ops.cc picks one at start-up:
// SPANWISE_ISA=ref|portable|avx2|avx512|avx512bf16|amx forces it, otherwise the fastest the processor has.
//
// All activations are float32; weights and KV may be float32, bf16 or (weights) f16 and are widened exactly, so the
// element type is only where rounding already happened. Two products round their rows, too: those with block types
// (kernels/rounded.h) and, on avx512bf16 and amx, those with bf16 (kernels/cpu/bf16_dots.cc, tiles.cc).
//
// Invariance, on which exactness rests: the value of an output row depends on its own inputs alone and is the same
// to the bit for every number of rows, every split into calls and every number of threads. Hence each output element is
// reduced in one fixed order (docs/decisions/0001-row-invariant-kernels.md).
//
// All sizes are the caller's promise, checked with SW_DCHECK only. Nothing here allocates except per-thread scratch
// that is kept, and nothing here fails. Thread-compatible: one caller at a time per ThreadPool.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/thread_pool.h"
#include "kernels/kv_code.h"
#include "kernels/kv_view.h"
#include "spanwise/status.h"
#include "tensor/activation.h"
#include "tensor/dtype.h"
#include "tensor/panels.h"

namespace spanwise {

// A weight matrix in panels of 16 outputs (tensor/panels.h), aligned to nothing.
struct WeightMatrix {
  const std::byte* data = nullptr;
  WeightType type = WeightType::kF32;
  int n_out = 0;
  int n_in = 0;

  bool quantised() const { return !PlainDType(type); }
  DType dtype() const { return *PlainDType(type); }  // REQUIRES: !quantised()
  size_t bytes() const { return PanelBytes(type, static_cast<size_t>(n_out), static_cast<size_t>(n_in)); }
};

// A vector of weights (norm gains, biases), widened to float32 when the model is loaded.
using WeightVector = std::span<const float>;

// Cosines and sines of a rotation by some positions: row r holds head_dim/2 values each.
struct RotationTable {
  std::span<const float> cos;  // [n_rows, head_dim / 2]
  std::span<const float> sin;  // [n_rows, head_dim / 2]
};

// Some neighbouring runs that enter attention with a temperature and a weight of their own (APE, specs/composition.md
// section 2): their keys' scores are multiplied by inverse_temperature, before any cap, and the log-sum-exp of their
// merged state by lse_scale. The states of groups are merged as those of runs are.
struct RunGroup {
  int n_runs = 0;
  float inverse_temperature = 1;
  float lse_scale = 1;
};

// Neighbouring keys of a run.
struct KeyRange {
  int run = 0;  // index into AttentionSequence::runs
  int begin = 0, end = 0;
};

// How much of each row's attention goes to some keys: of row r and head h, mass[(r * n_heads + h) * ranges.size() + i]
// is the sum of the softmax over ranges[i]. The ranges are in ascending order and do not overlap; where they cover all
// keys the masses of a row and head sum to 1.
struct AttentionMass {
  std::span<const KeyRange> ranges;
  float* mass = nullptr;
};

// Attention of the query rows of one sequence over its runs, and how its queries are re-based.
//
// A query at position p scores key i of a run with base b by rotating the query by (p - b), since the key is rotated by
// i: R(p - b) q . R(i) k = q . R(b + i - p) k (DESIGN.md section 1). rotations[j] belongs to runs[j] and has a row for
// every query row; runs with equal base may share a table.
//
// Query row r sees key i of run j iff
//     begin <= i < end, end = min(n_tokens, p - b + 1), begin = window > 0 ? max(0, p - b - window + 1) : 0.
// (The new rows' own keys and values are already stored in the last run; causality follows from positions, because all
//  other runs lie wholly before the rows' positions or are limited by the same rule.)
//
// Reduction: each run is reduced on its own, block after block with the running maximum; the states (max, sum, o) of
// the runs, of one with no visible key the empty state, are then merged by log-sum-exp, pairs of neighbours first and
// an odd one last (docs/composition.md, "One tree"). At least one key is visible to each row.
struct AttentionSequence {
  const float* q = nullptr;  // [n_rows, n_heads, head_dim], not rotated; row stride q_stride floats
  float* out = nullptr;      // [n_rows, n_heads, head_dim] dense
  int64_t q_stride = 0;
  int n_rows = 0;
  const int32_t* positions = nullptr;  // [n_rows] position p of each row
  std::span<const KvRun> runs;         // the last one holds the rows themselves
  std::span<const RotationTable> rotations;
  std::span<const RunGroup> groups = {};  // all runs in their order; empty: one plain group
  AttentionMass mass = {};                // computed only where there are ranges; changes nothing else
};

struct AttentionShape {
  int n_heads = 0;
  KvGeometry kv;  // n_heads is a multiple of kv.n_kv_heads
  int layer = 0;
  float scale = 0;    // multiplies q . k, usually 1 / sqrt(head_dim)
  int window = 0;     // sliding window in tokens, 0 for none
  float softcap = 0;  // c: scaled scores become c tanh(score / c); 0 for none
};

// One of the products of some rows: y[r, o] = sum_i x[r, i] * w[o, i] + bias[o].
struct Product {
  WeightMatrix w;
  WeightVector bias;     // empty or n_out
  float* y = nullptr;    // [n_rows, w.n_out], must not overlap x or another y
  int64_t y_stride = 0;  // floats
};

namespace ops {

// The products of x [n_rows, n_in], row stride x_stride, with some matrices, all of n_in inputs. Together they take
// less time than one after another: rows are prepared once, and threads that are done with one go on with the next.
// Results are the same.
void MatMuls(ThreadPool& pool, const float* x, int64_t x_stride, int n_rows, std::span<const Product> products);

// One of them.
// Block types are multiplied in integers: each row of x is rounded to int8 in groups of 32 first (kernels/rounded.h).
void MatMul(ThreadPool& pool, const float* x, int64_t x_stride, int n_rows, const WeightMatrix& w, WeightVector bias,
            float* y, int64_t y_stride);

// y[r] = x[r] / sqrt(mean(x[r]^2) + eps) * gain. Rows of `dim` floats; strides in floats; y may be x.
// Also used per head for QK-norm (rows are heads then).
void RmsNorm(ThreadPool& pool, const float* x, int64_t x_stride, int n_rows, int dim, WeightVector gain, float eps,
             float* y, int64_t y_stride);

// out[r, i] = activation(gate[r, i]) * up[r, i]; [n_rows, dim] dense; out may be gate.
void GatedUnit(ThreadPool& pool, Activation activation, const float* gate, const float* up, int n_rows, int dim,
               float* out);

// x[i] += y[i] * scale, one rounding; n floats.
void Add(ThreadPool& pool, float* x, const float* y, float scale, int64_t n);

// x[i] = x[i] * scale, then cap * tanh(x[i] / cap) unless cap is 0; n floats.
void ScaleAndCap(ThreadPool& pool, float* x, float scale, float cap, int64_t n);

// out[r] = w[ids[r]] widened to float32; [n_rows, w.n_in]. REQUIRES: 0 <= ids[r] < w.n_out.
void EmbedRows(ThreadPool& pool, const WeightMatrix& w, const int32_t* ids, int n_rows, float* out);

// Rotates the keys of new rows by their index in the run, rounds keys and values to the KV dtype and stores them.
// Row r goes to token index at[r] of the run, i.e. blocks[at[r] / 64], row at[r] % 64.
//   k, v    [n_rows, n_kv_heads, head_dim] float32 with row stride `stride` floats
//   table   rotation by index at[r], pairs (i, i + head_dim / 2) (half-split, as in Hugging Face's Llama)
//   at      [n_rows], no index twice
void StoreKv(ThreadPool& pool, const KvGeometry& kv, int layer, const float* k, const float* v, int64_t stride,
             const RotationTable& table, std::span<std::byte* const> blocks, std::span<const int32_t> at);

// Rounds the keys or values of one head of a block, n_tokens of them, to codes: FitCodes for each group, the nearest
// code for each element (docs/formats/span-store.md); codes past the last token or element are 0. The same bits on
// every path where all elements are finite; where not, what is written may not be. REQUIRES: offsets where the code has
// them.
void EncodeKeys(const KvGeometry& kv, const std::byte* keys, int n_tokens, const CodedHeadOut& head);
void EncodeValues(const KvGeometry& kv, const std::byte* values, int n_tokens, const CodedHeadOut& head);

// Gives the keys or values of one head back, as they lie in a block: of keys the panels in use, of values the first
// n_tokens rows. The same bits on every path, where scales and offsets are finite: a scale times a code is exact in
// float32, so that each element is rounded once there, when the offset is added.
void DecodeKeys(const KvGeometry& kv, const CodedHead& head, int n_tokens, std::byte* keys);
void DecodeValues(const KvGeometry& kv, const CodedHead& head, int n_tokens, std::byte* values);

// See AttentionSequence. The sequences are independent; work is split over (sequence, row tile, KV head).
void SpanAttention(ThreadPool& pool, const AttentionShape& shape, std::span<const AttentionSequence> sequences);

// Chooses the path for all later calls: "ref", or the name of a vector target ("portable", "avx2", "avx512",
// "avx512bf16", "amx"). "" means the value of SPANWISE_ISA, or where that is unset the fastest the processor has.
// InvalidArgument for an unknown name, Unavailable for one this build or processor lacks; the path in use then stays.
// Not while an op is running. Front ends call SelectIsa("") first; if nobody did, the first op does so and aborts with
// the message if it fails.
Status SelectIsa(std::string_view name);

// The name of the path in use.
const char* Isa();

// The name of the formulas it computes: paths of one name give the same bits ("avx2" and "avx512" do), so that KV made
// by one is exact under the other.
const char* Formulas();

}  // namespace ops
}  // namespace spanwise

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/matmul.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "base/check.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/tile-inl.h"
#include "kernels/cpu/work.h"

#ifndef SPANWISE_KERNELS_CPU_MATMUL_CC_
#define SPANWISE_KERNELS_CPU_MATMUL_CC_
namespace spanwise::cpu {

// Inputs are reduced in blocks of this many, part of the result's definition: within a block one chain of multiply-adds
// from zero, the blocks added in ascending order.
inline constexpr int kBlockIn = 256;
// Outputs and rows of one task's block. Packed, 256 x 64 weights and 192 x 256 activations stay in a second-level
// cache of 512 KiB, and a panel of 16 outputs fills half a first-level one of 32 KiB.
inline constexpr int kBlockOut = 64;
inline constexpr int kBlockRows = 192;

struct MatMulArgs {
  const float* x;
  int64_t x_stride;
  WeightMatrix w;
  WeightVector bias;
  float* y;
  int64_t y_stride;
};

struct MatMulBlockRange {
  int row_begin, row_end, out_begin, out_end;  // at most kBlockRows, kBlockOut
};

}  // namespace spanwise::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace spanwise::cpu::HWY_NAMESPACE {

// The last, partial panel: computed at its full width, of which `width` columns exist.
void MultiplyLastPanel(TileArgs t, int n_rows, int width, bool first) {
  HWY_ALIGN float sums[kMaxTileRows * kPanel];
  float* y = t.c;
  const int64_t y_stride = t.c_stride;
  t.c = sums;
  t.c_stride = kPanel;
  for (int r = 0; r < n_rows; r += kMaxTileRows) {
    const int n = HWY_MIN(kMaxTileRows, n_rows - r);
    MultiplyPanels<Start::kZero>(t, n, 1);
    t.a += n * t.a_stride;
    for (int i = 0; i < n; ++i, y += y_stride) {
      for (int o = 0; o < width; ++o) y[o] = first ? sums[i * kPanel + o] : y[o] + sums[i * kPanel + o];
    }
  }
}

// Few rows stage so many bytes of each weight row before they transpose them, a line further apart than they are long:
// the rows themselves often lie a power of two apart, so that a little of each would all fall on the same lines of the
// cache.
inline constexpr size_t kStageBytes = 512, kStageStride = kStageBytes + 64;

HWY_INLINE void StageRow(const std::byte* from, size_t n_bytes, std::byte* to) {
  const HWY_CAPPED(uint8_t, 4 * kPanel) d;
  const auto* source = reinterpret_cast<const uint8_t*>(from);
  auto* target = reinterpret_cast<uint8_t*>(to);
  size_t i = 0;
  for (; i + hn::Lanes(d) <= n_bytes; i += hn::Lanes(d)) hn::StoreU(hn::LoadU(d, source + i), d, target + i);
  for (; i < n_bytes; ++i) target[i] = source[i];
}

// Asks the memory for the part of the next stage that corresponds to 16 bytes of each of kLanes rows at `offset`: whole
// lines of a quarter of the rows.
HWY_INLINE void PrefetchStage(const std::byte* next, size_t row_bytes, size_t offset) {
  const std::byte* at = next + offset / 16 % 4 * (kLanes / 4) * row_bytes + offset / 64 * 64;
  for (int i = 0; i < kLanes / 4; ++i, at += row_bytes) __builtin_prefetch(at, 0, 2);  // to the second level
}

// Continues kRows x kGroups chains by n_k staged inputs.
template <class Columns, int kRows, int kGroups>
HWY_INLINE void ContinueChains(const float* x, int64_t x_stride, const std::byte* stage, DType dtype, int n_k,
                               const std::byte* next, size_t row_bytes, VF chains[kRows][kGroups]) {
  const DF d;
  int k = 0;
  for (; k + Columns::kStep <= n_k; k += Columns::kStep) {
    const size_t offset = static_cast<size_t>(k) * DTypeBytes(dtype);
#pragma GCC unroll 16
    for (int g = 0; g < kGroups; ++g) {
      PrefetchStage(next + static_cast<size_t>(g * kLanes) * row_bytes, row_bytes, offset);
      const std::byte* group = stage + static_cast<size_t>(g * kLanes) * kStageStride + offset;
      VF v[Columns::kStep];
      Columns::Load([&](int row) HWY_ATTR { return group + static_cast<size_t>(row) * kStageStride; }, v);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
        for (int i = 0; i < Columns::kStep; ++i) {
          chains[r][g] = hn::MulAdd(hn::Set(d, x[r * x_stride + k + i]), v[i], chains[r][g]);
        }
      }
    }
  }
  for (; k < n_k; ++k) {
    for (int g = 0; g < kGroups; ++g) {
      HWY_ALIGN float column[kLanes];
      for (int i = 0; i < kLanes; ++i) {
        const std::byte* row = stage + static_cast<size_t>(g * kLanes + i) * kStageStride;
        column[i] = LoadElement(row, dtype, static_cast<size_t>(k));
      }
      for (int r = 0; r < kRows; ++r) {
        chains[r][g] = hn::MulAdd(hn::Set(d, x[r * x_stride + k]), hn::Load(d, column), chains[r][g]);
      }
    }
  }
}

// Few rows: the weights go through the transposition straight into the chains of kRows x kGroups vectors of outputs.
// n_out is a multiple of kGroups * kLanes.
template <class Columns, int kRows, int kGroups>
void StreamOutputs(const MatMulArgs& args, int row_begin, int out_begin, int n_out, std::byte* stage) {
  const DF d;
  constexpr int kOut = kGroups * kLanes;
  const WeightMatrix& w = args.w;
  const size_t element_bytes = DTypeBytes(w.dtype()), row_bytes = static_cast<size_t>(w.n_in) * element_bytes;
  const int stage_in = static_cast<int>(kStageBytes / element_bytes);
  for (int out = out_begin; out < out_begin + n_out; out += kOut) {
    const std::byte* weights = w.data + static_cast<size_t>(out) * row_bytes;
    VF sums[kRows][kGroups] = {}, chains[kRows][kGroups] = {};
    for (int k0 = 0; k0 < w.n_in; k0 += stage_in) {
      const size_t n_bytes = static_cast<size_t>(HWY_MIN(stage_in, w.n_in - k0)) * element_bytes;
      const std::byte* from = weights + static_cast<size_t>(k0) * element_bytes;
      const std::byte* next = k0 + stage_in < w.n_in ? from + kStageBytes : weights + kOut * row_bytes;
      for (int i = 0; i < kOut; ++i) {
        StageRow(from + static_cast<size_t>(i) * row_bytes, n_bytes, stage + static_cast<size_t>(i) * kStageStride);
      }
      if (k0 > 0 && k0 % kBlockIn == 0) {  // a block is complete
        for (int r = 0; r < kRows; ++r) {
          for (int g = 0; g < kGroups; ++g) {
            sums[r][g] = k0 == kBlockIn ? chains[r][g] : hn::Add(sums[r][g], chains[r][g]);
            chains[r][g] = hn::Zero(d);
          }
        }
      }
      ContinueChains<Columns, kRows, kGroups>(args.x + row_begin * args.x_stride + k0, args.x_stride, stage, w.dtype(),
                                              static_cast<int>(n_bytes / element_bytes), next, row_bytes, chains);
    }
    for (int r = 0; r < kRows; ++r) {
      for (int g = 0; g < kGroups; ++g) {
        const int at = out + g * kLanes;
        VF sum = w.n_in <= kBlockIn ? chains[r][g] : hn::Add(sums[r][g], chains[r][g]);
        if (!args.bias.empty()) sum = hn::Add(sum, hn::LoadU(d, args.bias.data() + at));
        hn::StoreU(sum, d, args.y + (row_begin + r) * args.y_stride + at);
      }
    }
  }
}

// How many outputs from the first one on StreamBlock will do: none if there are too many rows to gain by it.
int StreamableOutputs(const MatMulArgs& args, const MatMulBlockRange& range) {
  if (kLanes < 8 || range.row_end - range.row_begin > 4 || args.w.dtype() == DType::kF16) return 0;
  return (range.out_end - range.out_begin) / (4 * kLanes) * (4 * kLanes);
}

template <class Columns>
void StreamBlock(const MatMulArgs& args, const MatMulBlockRange& range, int n_out, std::byte* stage) {
  switch (range.row_end - range.row_begin) {
    case 1:
      return StreamOutputs<Columns, 1, 4>(args, range.row_begin, range.out_begin, n_out, stage);
    case 2:
      return StreamOutputs<Columns, 2, 4>(args, range.row_begin, range.out_begin, n_out, stage);
    case 3:
      return StreamOutputs<Columns, 3, 2>(args, range.row_begin, range.out_begin, n_out, stage);
    case 4:
      return StreamOutputs<Columns, 4, 2>(args, range.row_begin, range.out_begin, n_out, stage);
  }
}

void MatMulBlock(const MatMulArgs& args, MatMulBlockRange range, float* panels) {
  if (const int n = StreamableOutputs(args, range); n > 0) {
    if (args.w.dtype() == DType::kBf16) {
      StreamBlock<Bf16Columns>(args, range, n, reinterpret_cast<std::byte*>(panels));
    } else {
      StreamBlock<F32Columns>(args, range, n, reinterpret_cast<std::byte*>(panels));
    }
    range.out_begin += n;
    if (range.out_begin == range.out_end) return;
  }
  const WeightMatrix& w = args.w;
  const size_t element_bytes = DTypeBytes(w.dtype());
  const int n_rows = range.row_end - range.row_begin, n_out = range.out_end - range.out_begin;
  const int n_whole = n_out / kPanel, n_panels = (n_out + kPanel - 1) / kPanel;
  float* y = args.y + range.row_begin * args.y_stride + range.out_begin;

  for (int k0 = 0; k0 < w.n_in; k0 += kBlockIn) {
    const int n_k = HWY_MIN(kBlockIn, w.n_in - k0);
    for (int p = 0; p < n_panels; ++p) {
      const std::byte* rows[kPanel];
      for (int i = 0; i < kPanel; ++i) {
        const int out = HWY_MIN(range.out_begin + p * kPanel + i, range.out_end - 1);
        rows[i] =
            w.data + (static_cast<size_t>(out) * static_cast<size_t>(w.n_in) + static_cast<size_t>(k0)) * element_bytes;
      }
      PackPanel(rows, w.dtype(), n_k, panels + p * kPanel * kBlockIn);
    }
    TileArgs t = {.a = args.x + range.row_begin * args.x_stride + k0,
                  .a_stride = args.x_stride,
                  .b = panels,
                  .b_stride = kPanel,
                  .panel_stride = kPanel * kBlockIn,
                  .n_k = n_k,
                  .c = y,
                  .c_stride = args.y_stride};
    const bool first = k0 == 0;
    if (first) {
      MultiplyPanels<Start::kZero>(t, n_rows, n_whole);
    } else {
      MultiplyPanels<Start::kAdd>(t, n_rows, n_whole);
    }
    if (n_panels > n_whole) {
      t.b += n_whole * t.panel_stride;
      t.c += n_whole * kPanel;
      MultiplyLastPanel(t, n_rows, n_out - n_whole * kPanel, first);
    }
  }
  if (!args.bias.empty()) {
    const float* bias = args.bias.data() + range.out_begin;
    for (int r = 0; r < n_rows; ++r) {
      for (int o = 0; o < n_out; ++o) y[r * args.y_stride + o] += bias[o];
    }
  }
}

}  // namespace spanwise::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace spanwise::cpu {

HWY_EXPORT(MatMulBlock);

void MatMul(ThreadPool& pool, const float* x, int64_t x_stride, int n_rows, const WeightMatrix& w, WeightVector bias,
            float* y, int64_t y_stride) {
  SW_DCHECK(w.n_out >= 1 && w.n_in >= 1 && (bias.empty() || bias.size() == static_cast<size_t>(w.n_out)));
  if (n_rows <= 0) return;
  if (w.quantised()) return MatMulQuantised(pool, x, x_stride, n_rows, w, bias, y, y_stride);
  const MatMulArgs args = {x, x_stride, w, bias, y, y_stride};
  const auto block_matmul = HWY_DYNAMIC_DISPATCH(MatMulBlock);
  const int n_even = (n_rows + kBlockRows - 1) / kBlockRows;
  const int block_rows = ((n_rows + n_even - 1) / n_even + 5) / 6 * 6;  // even blocks of whole tiles
  const int n_row_blocks = (n_rows + block_rows - 1) / block_rows;
  const int n_out_blocks = (w.n_out + kBlockOut - 1) / kBlockOut;
  const size_t work = static_cast<size_t>(std::min(n_rows, block_rows)) * kBlockOut * static_cast<size_t>(w.n_in);
  // Neighbours share their weights: the row blocks are the inner index.
  ForRanges(pool, static_cast<size_t>(n_row_blocks) * static_cast<size_t>(n_out_blocks), work,
            [&](size_t begin, size_t end) {
              float* panels = Scratch::Floats(size_t{kBlockIn} * kBlockOut);
              for (size_t i = begin; i < end; ++i) {
                const int row = static_cast<int>(i % static_cast<size_t>(n_row_blocks)) * block_rows;
                const int out = static_cast<int>(i / static_cast<size_t>(n_row_blocks)) * kBlockOut;
                block_matmul(args, {row, std::min(n_rows, row + block_rows), out, std::min(w.n_out, out + kBlockOut)},
                             panels);
              }
            });
}

}  // namespace spanwise::cpu
#endif

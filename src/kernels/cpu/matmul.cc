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
// Outputs of one task's block. Packed, 256 x 64 floats fill an eighth of a second-level cache of 512 KiB, and a panel
// of 16 half a first-level one of 32 KiB.
inline constexpr int kBlockOut = 64;
// Rows of one task's block: with 256 inputs each, less than half the second-level cache.
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

void MatMulBlock(const MatMulArgs& args, const MatMulBlockRange& range, float* panels) {
  const WeightMatrix& w = args.w;
  const size_t element_bytes = DTypeBytes(w.dtype);
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
      const int prefetch_bytes = kBlockIn * static_cast<int>(element_bytes);
      PackPanel(rows, w.dtype, n_k, prefetch_bytes, panels + p * kPanel * kBlockIn);
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
  const MatMulArgs args = {x, x_stride, w, bias, y, y_stride};
  const auto block_matmul = HWY_DYNAMIC_DISPATCH(MatMulBlock);
  const int n_even = (n_rows + kBlockRows - 1) / kBlockRows;
  const int block_rows = ((n_rows + n_even - 1) / n_even + 5) / 6 * 6;  // even blocks of whole tiles
  const int n_row_blocks = (n_rows + block_rows - 1) / block_rows;
  const int n_out_blocks = (w.n_out + kBlockOut - 1) / kBlockOut;
  const size_t work = static_cast<size_t>(block_rows) * kBlockOut * static_cast<size_t>(w.n_in);
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

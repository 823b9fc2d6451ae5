#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/matmul.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "base/check.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/tile-inl.h"
#include "kernels/cpu/work.h"
#include "kernels/rounded.h"

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
// So many rows at most take weights as they come from memory.
inline constexpr int kStreamRows = 8;

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
template <class Right>
void MultiplyLastPanel(TileArgs t, int n_rows, int width, bool first) {
  HWY_ALIGN float sums[kMaxTileRows * kPanel];
  float* y = t.c;
  const int64_t y_stride = t.c_stride;
  t.c = sums;
  t.c_stride = kPanel;
  for (int r = 0; r < n_rows; r += kMaxTileRows) {
    const int n = HWY_MIN(kMaxTileRows, n_rows - r);
    MultiplyPanels<Right, Start::kZero>(t, n, 1);
    t.a += n * t.a_stride;
    for (int i = 0; i < n; ++i, y += y_stride) {
      for (int o = 0; o < width; ++o) y[o] = first ? sums[i * kPanel + o] : y[o] + sums[i * kPanel + o];
    }
  }
}

// One block of inputs for all outputs of a range, the last of which may be a partial panel.
template <class Right>
void MultiplyBlockIn(TileArgs t, int n_rows, int n_out, bool first) {
  const int n_whole = n_out / kPanel;
  if (first) {
    MultiplyPanels<Right, Start::kZero>(t, n_rows, n_whole);
  } else {
    MultiplyPanels<Right, Start::kAdd>(t, n_rows, n_whole);
  }
  if (n_out % kPanel == 0) return;
  t.b += n_whole * t.panel_stride;
  t.c += n_whole * kPanel;
  MultiplyLastPanel<Right>(t, n_rows, n_out % kPanel, first);
}

// Many rows multiply a block of weights that has been widened once; few take it as it comes from memory.
template <class Right>
void MultiplyRange(const MatMulArgs& args, const MatMulBlockRange& range, float* panels) {
  const WeightMatrix& w = args.w;
  const int n_rows = range.row_end - range.row_begin, n_out = range.out_end - range.out_begin;
  const auto row_bytes = static_cast<int64_t>(DTypeBytes(w.dtype())) * kPanel;
  const auto panel_bytes = static_cast<int64_t>(PanelBytes(w.type, kPanelRows, static_cast<size_t>(w.n_in)));
  const std::byte* weights = w.data + range.out_begin / kPanel * panel_bytes;
  const bool widen = n_rows > kStreamRows && w.dtype() != DType::kF32;
  for (int k0 = 0; k0 < w.n_in; k0 += kBlockIn) {
    TileArgs t = {.a = args.x + range.row_begin * args.x_stride + k0,
                  .a_stride = args.x_stride,
                  .b = weights + k0 * row_bytes,
                  .b_stride = row_bytes,
                  .panel_stride = panel_bytes,
                  .ahead = kStreamAhead,
                  .n_k = HWY_MIN(kBlockIn, w.n_in - k0),
                  .c = args.y + range.row_begin * args.y_stride + range.out_begin,
                  .c_stride = args.y_stride};
    if (!widen) {
      MultiplyBlockIn<Right>(t, n_rows, n_out, k0 == 0);
      continue;
    }
    for (int p = 0; p * kPanel < n_out; ++p) {
      WidenRows<Right>(t.b + p * panel_bytes, row_bytes, t.n_k, panels + p * kPanel * kBlockIn);
    }
    t.b = reinterpret_cast<const std::byte*>(panels);
    t.b_stride = kPanel * sizeof(float);
    t.panel_stride = kBlockIn * t.b_stride;
    MultiplyBlockIn<FloatRight<false>>(t, n_rows, n_out, k0 == 0);
  }
}

void MatMulBlock(const MatMulArgs& args, MatMulBlockRange range, float* panels) {
  switch (args.w.dtype()) {
    case DType::kF32:
      MultiplyRange<FloatRight<true>>(args, range, panels);
      break;
    case DType::kBf16:
      MultiplyRange<Bf16Right>(args, range, panels);
      break;
    case DType::kF16:
      MultiplyRange<F16Right>(args, range, panels);
      break;
  }
  if (args.bias.empty()) return;
  const float* bias = args.bias.data() + range.out_begin;
  for (int r = range.row_begin; r < range.row_end; ++r) {
    float* y = args.y + r * args.y_stride + range.out_begin;
    for (int o = 0; o < range.out_end - range.out_begin; ++o) y[o] += bias[o];
  }
}

}  // namespace spanwise::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace spanwise::cpu {

HWY_EXPORT(MatMulBlock);

namespace {

void MatMulsPlain(ThreadPool& pool, const float* x, int64_t x_stride, int n_rows, std::span<const Product> products) {
  const auto block_matmul = HWY_DYNAMIC_DISPATCH(MatMulBlock);
  const int n_even = (n_rows + kBlockRows - 1) / kBlockRows;
  const int block_rows = ((n_rows + n_even - 1) / n_even + 5) / 6 * 6;  // even blocks of whole tiles
  const auto n_row_blocks = static_cast<size_t>((n_rows + block_rows - 1) / block_rows);
  const size_t work =
      static_cast<size_t>(std::min(n_rows, block_rows)) * kBlockOut * static_cast<size_t>(products[0].w.n_in);
  const auto loop_of = [&](size_t i) {
    return Pieces(n_row_blocks * static_cast<size_t>((products[i].w.n_out + kBlockOut - 1) / kBlockOut), work);
  };
  // Neighbours share their weights: the row blocks are the inner index.
  ForEachRange(pool, products.size(), loop_of, [&](size_t of, size_t begin, size_t end) {
    const Product& p = products[of];
    const MatMulArgs args = {x, x_stride, p.w, p.bias, p.y, p.y_stride};
    float* panels = Scratch::Floats(size_t{kBlockIn} * kBlockOut);
    for (size_t i = begin; i < end; ++i) {
      const int row = static_cast<int>(i % n_row_blocks) * block_rows;
      const int out = static_cast<int>(i / n_row_blocks) * kBlockOut;
      block_matmul(args, {row, std::min(n_rows, row + block_rows), out, std::min(p.w.n_out, out + kBlockOut)}, panels);
    }
  });
}

// The way that a matrix is multiplied, and what it asks of the rows.
enum class Way { kPlain, kBf16Dots, kBf16Tiles, kGroupsOf16, kGroupsOf32 };

Way WayOf(const WeightMatrix& w) {
  if (w.quantised()) return SumGroup(w.type) == 16 ? Way::kGroupsOf16 : Way::kGroupsOf32;
  if (w.type != WeightType::kBf16) return Way::kPlain;
  return UsesTiles() ? Way::kBf16Tiles : UsesBf16Dots() ? Way::kBf16Dots : Way::kPlain;
}

decltype(ops::MatMuls)* MultiplyBy(Way way) {
  switch (way) {
    case Way::kPlain:
      return MatMulsPlain;
    case Way::kBf16Dots:
      return MatMulsBf16Dots;
    case Way::kBf16Tiles:
      return MatMulsBf16Tiles;
    default:
      return MatMulsQuantised;
  }
}

}  // namespace

void MatMuls(ThreadPool& pool, const float* x, int64_t x_stride, int n_rows, std::span<const Product> products) {
  if (n_rows <= 0) return;
  for (size_t begin = 0; begin < products.size();) {
    const Way way = WayOf(products[begin].w);
    size_t end = begin;
    for (; end < products.size() && WayOf(products[end].w) == way; ++end) {
      SW_DCHECK(products[end].w.n_out >= 1 && products[end].w.n_in >= 1);
      SW_DCHECK(products[end].w.n_in == products[0].w.n_in);
      SW_DCHECK(products[end].bias.empty() || products[end].bias.size() == static_cast<size_t>(products[end].w.n_out));
    }
    MultiplyBy(way)(pool, x, x_stride, n_rows, products.subspan(begin, end - begin));
    begin = end;
  }
}

}  // namespace spanwise::cpu
#endif

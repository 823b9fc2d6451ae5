#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/elementwise.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cstring>

#include "base/check.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/tile-inl.h"
#include "kernels/cpu/work.h"

// Apart from its like: it must come after foreach_target.h.
#include <hwy/contrib/math/math-inl.h>

#ifndef SPANWISE_KERNELS_CPU_ELEMENTWISE_CC_
#define SPANWISE_KERNELS_CPU_ELEMENTWISE_CC_
namespace spanwise::cpu {

struct StoreKvArgs {
  KvGeometry kv;
  int layer;
  const float* k;
  const float* v;
  int64_t stride;
  RotationTable table;
  std::byte* const* blocks;
  const int32_t* at;
};

}  // namespace spanwise::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace spanwise::cpu::HWY_NAMESPACE {

// Calls body(offset, vector of in[offset..]) along a row; the last vector is padded with zeros, so that an element gets
// the same arithmetic wherever it stands.
template <class Body>
HWY_INLINE void StoreEach(int64_t n, float* out, const Body& body, const float* in0, const float* in1) {
  const DF d;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) hn::StoreU(body(hn::LoadU(d, in0 + i), hn::LoadU(d, in1 + i)), d, out + i);
  if (i == n) return;
  HWY_ALIGN float a[kPanel] = {}, b[kPanel] = {};
  for (int64_t j = i; j < n; ++j) {
    a[j - i] = in0[j];
    b[j - i] = in1[j];
  }
  hn::Store(body(hn::Load(d, a), hn::Load(d, b)), d, a);
  for (int64_t j = i; j < n; ++j) out[j] = a[j - i];
}

void RmsNormRow(const float* x, int dim, const float* gain, float eps, float* y) {
  const DF d;
  VF sums[kVecsPerPanel];
  for (int j = 0; j < kVecsPerPanel; ++j) sums[j] = hn::Zero(d);
  const auto add = [&](const float* from) HWY_ATTR {
    for (int j = 0; j < kVecsPerPanel; ++j) {
      const VF v = hn::LoadU(d, from + j * kLanes);
      sums[j] = hn::MulAdd(v, v, sums[j]);
    }
  };
  int i = 0;
  for (; i + kPanel <= dim; i += kPanel) add(x + i);
  if (i < dim) {
    float rest[kPanel] = {};
    for (int j = i; j < dim; ++j) rest[j - i] = x[j];
    add(rest);
  }
  const VF inverse =
      hn::Div(hn::Set(d, 1.0f), hn::Sqrt(hn::Set(d, SumVectors(sums, kVecsPerPanel) / static_cast<float>(dim) + eps)));
  StoreEach(
      dim, y, [&](VF v, VF g) HWY_ATTR { return hn::Mul(hn::Mul(v, inverse), g); }, x, gain);
}

void GeluRange(const float* gate, const float* up, int64_t n, float* out) {
  const DF d;
  const VF half = hn::Set(d, 0.5f), root = hn::Set(d, 0.7978845608028654f), cubic = hn::Set(d, 0.044715f);
  StoreEach(
      n, out,
      [&](VF g, VF u) HWY_ATTR {
        const VF inner = hn::Mul(root, hn::MulAdd(hn::Mul(cubic, hn::Mul(g, g)), g, g));
        return hn::Mul(hn::Mul(hn::Mul(g, half), hn::Add(hn::Set(d, 1.0f), hn::Tanh(d, inner))), u);
      },
      gate, up);
}

void SwiGluRange(const float* gate, const float* up, int64_t n, float* out) {
  const DF d;
  const VF one = hn::Set(d, 1.0f);
  // exp never sees a positive argument, so it cannot overflow: sigmoid(g) = 1 / (1 + e^-g) = e^g / (1 + e^g).
  const auto swiglu = [&](VF g, VF u) HWY_ATTR {
    const VF e = hn::Exp(d, hn::Neg(hn::Abs(g)));
    const VF sigmoid = hn::Div(hn::IfThenElse(hn::Ge(g, hn::Zero(d)), one, e), hn::Add(one, e));
    return hn::Mul(hn::Mul(g, sigmoid), u);
  };
  StoreEach(n, out, swiglu, gate, up);
}

void AddRange(float* x, const float* y, float scale, int64_t n) {
  const VF by = hn::Set(DF(), scale);
  StoreEach(
      n, x, [&](VF a, VF b) HWY_ATTR { return hn::MulAdd(b, by, a); }, x, y);
}

void ScaleAndCapRange(float* x, float scale, float cap, int64_t n) {
  const DF d;
  const VF by = hn::Set(d, scale), limit = hn::Set(d, cap), inverse = hn::Set(d, cap == 0 ? 0 : 1 / cap);
  StoreEach(
      n, x,
      [&](VF a, VF) HWY_ATTR {
        const VF scaled = hn::Mul(a, by);
        return cap == 0 ? scaled : hn::Mul(limit, hn::Tanh(d, hn::Mul(scaled, inverse)));
      },
      x, x);
}

void NarrowRow(const float* in, int n, DType dtype, std::byte* out) {
  const DF d;
  const hn::RebindToSigned<DF> di;
  const hn::Rebind<uint16_t, DF> d16;
  int i = 0;
  for (; dtype == DType::kBf16 && i + kLanes <= n; i += kLanes) {
    const auto rounded = hn::ShiftRight<16>(RoundToBf16(hn::LoadU(d, in + i)));
    hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di, rounded)), d16, reinterpret_cast<uint16_t*>(out) + i);
  }
  for (; i < n; ++i) StoreElement(out, dtype, static_cast<size_t>(i), in[i]);
}

void StoreKvRow(const StoreKvArgs& args, int row, float* scratch) {
  const KvGeometry& kv = args.kv;
  const int token = args.at[row], half = kv.head_dim / 2;
  std::byte* block = args.blocks[token / kKvBlockTokens];
  const int row_in_block = token % kKvBlockTokens;
  const size_t row_bytes = static_cast<size_t>(kv.head_dim) * DTypeBytes(kv.dtype);
  // A panel of keys holds pairs of bf16, or single floats, in units of 4 bytes: one unit of each token, then the next.
  constexpr size_t kUnit = 4, kUnitStride = kUnit * kPanelRows;
  const size_t first_unit = kv.KeyElementOffset(row_in_block, 0);
  const float* cos = args.table.cos.data() + static_cast<int64_t>(row) * half;
  const float* sin = args.table.sin.data() + static_cast<int64_t>(row) * half;
  for (int head = 0; head < kv.n_kv_heads; ++head) {
    const int64_t from = row * args.stride + head * kv.head_dim;
    RotateRow(args.k + from, cos, sin, half, 1.0f, scratch);
    auto* narrowed = reinterpret_cast<std::byte*>(scratch + kv.head_dim);
    NarrowRow(scratch, kv.head_dim, kv.dtype, narrowed);
    std::byte* key = block + kv.KeyOffset(args.layer, head) + first_unit;
    for (size_t i = 0; i < row_bytes / kUnit; ++i) std::memcpy(key + i * kUnitStride, narrowed + i * kUnit, kUnit);
    NarrowRow(args.v + from, kv.head_dim, kv.dtype,
              block + kv.ValueOffset(args.layer, head) + static_cast<size_t>(row_in_block) * row_bytes);
  }
}

}  // namespace spanwise::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace spanwise::cpu {

HWY_EXPORT(RmsNormRow);
HWY_EXPORT(SwiGluRange);
HWY_EXPORT(GeluRange);
HWY_EXPORT(AddRange);
HWY_EXPORT(ScaleAndCapRange);
HWY_EXPORT(StoreKvRow);

void RmsNorm(ThreadPool& pool, const float* x, int64_t x_stride, int n_rows, int dim, WeightVector gain, float eps,
             float* y, int64_t y_stride) {
  SW_DCHECK(gain.size() == static_cast<size_t>(dim));
  const auto norm_row = HWY_DYNAMIC_DISPATCH(RmsNormRow);
  ForRanges(pool, static_cast<size_t>(n_rows), static_cast<size_t>(dim) * 4, [&](size_t begin, size_t end) {
    for (auto r = static_cast<int64_t>(begin); r < static_cast<int64_t>(end); ++r) {
      norm_row(x + r * x_stride, dim, gain.data(), eps, y + r * y_stride);
    }
  });
}

void GatedUnit(ThreadPool& pool, Activation activation, const float* gate, const float* up, int n_rows, int dim,
               float* out) {
  const auto range =
      activation == Activation::kSilu ? HWY_DYNAMIC_DISPATCH(SwiGluRange) : HWY_DYNAMIC_DISPATCH(GeluRange);
  const size_t n = static_cast<size_t>(n_rows) * static_cast<size_t>(dim);
  ForRanges(pool, n, 16, [&](size_t begin, size_t end) {
    range(gate + begin, up + begin, static_cast<int64_t>(end - begin), out + begin);
  });
}

void Add(ThreadPool& pool, float* x, const float* y, float scale, int64_t n) {
  const auto range = HWY_DYNAMIC_DISPATCH(AddRange);
  ForRanges(pool, static_cast<size_t>(n), 4,
            [&](size_t begin, size_t end) { range(x + begin, y + begin, scale, static_cast<int64_t>(end - begin)); });
}

void ScaleAndCap(ThreadPool& pool, float* x, float scale, float cap, int64_t n) {
  const auto range = HWY_DYNAMIC_DISPATCH(ScaleAndCapRange);
  ForRanges(pool, static_cast<size_t>(n), 8,
            [&](size_t begin, size_t end) { range(x + begin, scale, cap, static_cast<int64_t>(end - begin)); });
}

void EmbedRows(ThreadPool& pool, const WeightMatrix& w, const int32_t* ids, int n_rows, float* out) {
  ForRanges(pool, static_cast<size_t>(n_rows), static_cast<size_t>(w.n_in) * 4, [&](size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r) {
      SW_DCHECK(ids[r] >= 0 && ids[r] < w.n_out);
      const auto n_in = static_cast<size_t>(w.n_in);
      WidenPanelRow(w.type, w.data, static_cast<size_t>(ids[r]), n_in, out + r * n_in);
    }
  });
}

void StoreKv(ThreadPool& pool, const KvGeometry& kv, int layer, const float* k, const float* v, int64_t stride,
             const RotationTable& table, std::span<std::byte* const> blocks, std::span<const int32_t> at) {
  const auto store_row = HWY_DYNAMIC_DISPATCH(StoreKvRow);
  const StoreKvArgs args = {kv, layer, k, v, stride, table, blocks.data(), at.data()};
  const size_t work = static_cast<size_t>(kv.n_kv_heads) * static_cast<size_t>(kv.head_dim) * 8;
  ForRanges(pool, at.size(), work, [&](size_t begin, size_t end) {
    float* scratch = Scratch::Floats(2 * static_cast<size_t>(kv.head_dim));  // a key rotated, and that narrowed
    for (size_t r = begin; r < end; ++r) store_row(args, static_cast<int>(r), scratch);
  });
}

}  // namespace spanwise::cpu
#endif

// What matrix product and attention share: a register tile that multiplies rows by panels, the packing of rows into
// panels, and the widening, narrowing and rotation of rows. Included once per vector target.
//
// A panel is 16 columns wide on every target, and each result is one chain of fused multiply-adds over k in ascending
// order. A chain lives in one vector lane, so neither the lanes of the target nor the shape of the tile that held it
// show in the result.

#if defined(SPANWISE_KERNELS_CPU_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)  // Highway's include guard per target
#ifdef SPANWISE_KERNELS_CPU_TILE_INL_H_
#undef SPANWISE_KERNELS_CPU_TILE_INL_H_
#else
#define SPANWISE_KERNELS_CPU_TILE_INL_H_
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <cstddef>
#include <cstdint>

#include "kernels/element.h"

HWY_BEFORE_NAMESPACE();
namespace spanwise::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

inline constexpr int kPanel = 16;

using DF = HWY_CAPPED(float, kPanel);
using VF = hn::Vec<DF>;
inline constexpr int kLanes = static_cast<int>(hn::MaxLanes(DF()));
inline constexpr int kVecsPerPanel = kPanel / kLanes;

// How many panels a tile of so many rows spans: enough chains in flight to hide the latency of the multiply-add, few
// enough to stay in registers (16 of them, 32 with 16 lanes).
constexpr int TilePanels(int rows) {
  if (kLanes == 16) return 4;
  if (kLanes == 8) return rows == 1 ? 4 : rows <= 3 ? 2 : 1;
  return 1;
}
inline constexpr int kMaxTileRows = kLanes >= 8 ? 6 : 2;

enum class Start {
  kZero,      // c = a b
  kContinue,  // c = the chains of a b, begun from c
  kAdd,       // c = c + a b
};

// Far enough for memory to answer, near enough that the line is still there.
inline constexpr int kStreamAhead = 1024;

// The right side b of a product, in panels: Load(at, v) widens the kStep rows at `at`, kStep * 16 elements, to
// v[step][vector]. kAhead: how many bytes ahead to ask the memory for, 0 for what lies in a cache.
template <int kAheadOf = 0>
struct FloatRight {
  static constexpr int kStep = 1, kAhead = kAheadOf;
  static HWY_INLINE void Load(const std::byte* at, VF v[kStep][kVecsPerPanel]) {
    for (int j = 0; j < kVecsPerPanel; ++j) v[0][j] = hn::LoadU(DF(), reinterpret_cast<const float*>(at) + j * kLanes);
  }
};

// Pairs of rows, a pair's elements side by side.
struct Bf16Right {
  static constexpr int kStep = 2, kAhead = kStreamAhead;
  static HWY_INLINE void Load(const std::byte* at, VF v[kStep][kVecsPerPanel]) {
    const DF d;
    const hn::RebindToUnsigned<DF> du;
    for (int j = 0; j < kVecsPerPanel; ++j) {
      const auto pair = hn::LoadU(du, reinterpret_cast<const uint32_t*>(at) + j * kLanes);
      v[0][j] = hn::BitCast(d, hn::ShiftLeft<16>(pair));
      v[1][j] = hn::BitCast(d, hn::And(pair, hn::Set(du, 0xFFFF0000u)));
    }
  }
};

struct F16Right {
  static constexpr int kStep = 1, kAhead = kStreamAhead;
  static HWY_INLINE void Load(const std::byte* at, VF v[kStep][kVecsPerPanel]) {
    const hn::Rebind<hwy::float16_t, DF> d16;
    for (int j = 0; j < kVecsPerPanel; ++j)
      v[0][j] = hn::PromoteTo(DF(), hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(at) + j * kLanes));
  }
};

// c[r, j] over kRows x kPanels * 16. a [kRows, n_k] in floats with row stride a_stride; b [n_k, 16] per panel with
// row stride b_stride and panels panel_stride apart, in bytes; c in floats with row stride c_stride. Where n_k is no
// multiple of Right::kStep, b's last rows go on with zeros.
template <class Right, int kRows, int kPanels, Start kStart>
HWY_INLINE void Tile(const float* HWY_RESTRICT a, int64_t a_stride, const std::byte* HWY_RESTRICT b, int64_t b_stride,
                     int64_t panel_stride, int n_k, float* HWY_RESTRICT c, int64_t c_stride) {
  constexpr int kVecs = kPanels * kVecsPerPanel;
  const DF d;
  VF sum[kRows][kVecs];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (int j = 0; j < kVecs; ++j) {
      sum[r][j] = kStart == Start::kContinue ? hn::LoadU(d, c + r * c_stride + j * kLanes) : hn::Zero(d);
    }
  }
  // The first n steps of the right side's rows at k.
  const auto step = [&](int k, int n) HWY_ATTR __attribute__((always_inline)) {
#pragma GCC unroll 16
    for (int p = 0; p < kPanels; ++p) {
      VF right[Right::kStep][kVecsPerPanel];
      Right::Load(b + k * b_stride + p * panel_stride, right);
      if (Right::kAhead > 0) __builtin_prefetch(b + k * b_stride + p * panel_stride + Right::kAhead);
#pragma GCC unroll 2
      for (int i = 0; i < n; ++i) {
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) {
          const VF left = hn::Set(d, a[r * a_stride + k + i]);
#pragma GCC unroll 16
          for (int j = 0; j < kVecsPerPanel; ++j) {
            VF& s = sum[r][p * kVecsPerPanel + j];
            s = hn::MulAdd(left, right[i][j], s);
          }
        }
      }
    }
  };
  int k = 0;
  for (; k + Right::kStep <= n_k; k += Right::kStep) step(k, Right::kStep);
  if (k < n_k) step(k, n_k - k);
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (int j = 0; j < kVecs; ++j) {
      float* to = c + r * c_stride + j * kLanes;
      hn::StoreU(kStart == Start::kAdd ? hn::Add(hn::LoadU(d, to), sum[r][j]) : sum[r][j], d, to);
    }
  }
}

struct TileArgs {
  const float* a;
  int64_t a_stride;
  const std::byte* b;
  int64_t b_stride, panel_stride;  // bytes
  int n_k;
  float* c;
  int64_t c_stride;
};

// kRows rows over n_panels panels.
template <class Right, int kRows, Start kStart>
HWY_INLINE void TileRow(const TileArgs& t, int n_panels) {
  constexpr int kPanels = TilePanels(kRows);
  int p = 0;
  for (; p + kPanels <= n_panels; p += kPanels) {
    Tile<Right, kRows, kPanels, kStart>(t.a, t.a_stride, t.b + p * t.panel_stride, t.b_stride, t.panel_stride, t.n_k,
                                        t.c + p * kPanel, t.c_stride);
  }
  if constexpr (kPanels > 1) {
    for (; p < n_panels; ++p) {
      Tile<Right, kRows, 1, kStart>(t.a, t.a_stride, t.b + p * t.panel_stride, t.b_stride, 0, t.n_k, t.c + p * kPanel,
                                    t.c_stride);
    }
  }
}

// Any number of rows over n_panels whole panels. kTileRows: rows per tile, at most kMaxTileRows.
template <class Right, Start kStart, int kTileRows = kMaxTileRows>
void MultiplyPanels(TileArgs t, int n_rows, int n_panels) {
  // Tiles of one width go down all rows before the next panels come, which so stay in the first-level cache.
  constexpr int kPanels = TilePanels(kTileRows);
  const int n_whole = n_rows / kTileRows * kTileRows;
  for (int p = 0; n_whole > 0 && p < n_panels; p += kPanels) {
    TileArgs part = t;
    part.b += p * t.panel_stride;
    part.c += p * kPanel;
    for (int r = 0; r < n_whole; r += kTileRows) {
      TileRow<Right, kTileRows, kStart>(part, HWY_MIN(kPanels, n_panels - p));
      part.a += kTileRows * t.a_stride;
      part.c += kTileRows * t.c_stride;
    }
  }
  t.a += n_whole * t.a_stride;
  t.c += n_whole * t.c_stride;
  switch (n_rows - n_whole) {
    case 1:
      return TileRow<Right, 1, kStart>(t, n_panels);
    case 2:
      if constexpr (kTileRows > 2) return TileRow<Right, 2, kStart>(t, n_panels);
      break;
    case 3:
      if constexpr (kTileRows > 3) return TileRow<Right, 3, kStart>(t, n_panels);
      break;
    case 4:
      if constexpr (kTileRows > 4) return TileRow<Right, 4, kStart>(t, n_panels);
      break;
    case 5:
      if constexpr (kTileRows > 5) return TileRow<Right, 5, kStart>(t, n_panels);
      break;
  }
}

// Columns::Load(at, v) widens kStep consecutive elements of kLanes rows to v[0 .. kStep), v[k] holding element k of
// each row; at(row) is where a row's elements begin.
#if HWY_TARGET != HWY_SCALAR

// Lanes 4 b .. 4 b + 3 of the result are the 128 bits at at(row + 4 b), as T.
template <typename T, class At>
HWY_INLINE hn::VFromD<HWY_CAPPED(T, kPanel)> LoadBlocks(const At& at, int row) {
  const HWY_CAPPED(T, kPanel) d;
  const hn::FixedTag<T, 4> d4;
  const auto load = [&](int r) HWY_ATTR {
    const hn::FixedTag<uint8_t, 16> d8;
    return hn::BitCast(d4, hn::LoadU(d8, reinterpret_cast<const uint8_t*>(at(r))));
  };
  if constexpr (kLanes == 4) {
    return load(row);
  } else if constexpr (kLanes == 8) {
    return hn::Combine(d, load(row + 4), load(row));
  } else {
    const hn::FixedTag<T, 8> half;
    return hn::Combine(d, hn::Combine(half, load(row + 12), load(row + 8)),
                       hn::Combine(half, load(row + 4), load(row)));
  }
}

// Turns v[i] = row i, lanes k into v[k] = column k, lanes i, within each 128 bits.
template <class D, class V>
HWY_INLINE void Transpose4(D d, V v[4]) {
  const V a = hn::InterleaveLower(d, v[0], v[2]), b = hn::InterleaveLower(d, v[1], v[3]);
  const V e = hn::InterleaveUpper(d, v[0], v[2]), f = hn::InterleaveUpper(d, v[1], v[3]);
  v[0] = hn::InterleaveLower(d, a, b);
  v[1] = hn::InterleaveUpper(d, a, b);
  v[2] = hn::InterleaveLower(d, e, f);
  v[3] = hn::InterleaveUpper(d, e, f);
}

struct F32Columns {
  static constexpr int kStep = 4;
  template <class At>
  static HWY_INLINE void Load(const At& at, VF v[kStep]) {
    for (int i = 0; i < 4; ++i) v[i] = LoadBlocks<float>(at, i);
    Transpose4(DF(), v);
  }
};

struct Bf16Columns {
  static constexpr int kStep = 8;
  template <class At>
  static HWY_INLINE void Load(const At& at, VF v[kStep]) {
    const hn::RebindToUnsigned<DF> du;
    hn::VFromD<decltype(du)> pairs[4];  // transposed as pairs of elements, then told apart
    for (int i = 0; i < 4; ++i) pairs[i] = LoadBlocks<uint32_t>(at, i);
    Transpose4(du, pairs);
    for (int i = 0; i < 4; ++i) {
      v[2 * i] = hn::BitCast(DF(), hn::ShiftLeft<16>(pairs[i]));
      v[2 * i + 1] = hn::BitCast(DF(), hn::And(pairs[i], hn::Set(du, 0xFFFF0000u)));
    }
  }
};

#else

template <DType kType>
struct ScalarColumns {
  static constexpr int kStep = 1;
  template <class At>
  static HWY_INLINE void Load(const At& at, VF v[kStep]) {
    v[0] = hn::Set(DF(), LoadElement(at(0), kType, 0));
  }
};
using F32Columns = ScalarColumns<DType::kF32>;
using Bf16Columns = ScalarColumns<DType::kBf16>;

#endif

// Packs n_k elements of kLanes rows into a column group of a panel: out[k * 16 + row].
template <class Columns>
HWY_INLINE void PackLanes(const std::byte* const* rows, DType dtype, int n_k, float* HWY_RESTRICT out) {
  int k = 0;
  for (; k + Columns::kStep <= n_k; k += Columns::kStep) {
    VF v[Columns::kStep];
    const size_t offset = static_cast<size_t>(k) * DTypeBytes(dtype);
    Columns::Load([&](int row) HWY_ATTR { return rows[row] + offset; }, v);
    for (int i = 0; i < Columns::kStep; ++i) hn::StoreU(v[i], DF(), out + (k + i) * kPanel);
  }
  for (; k < n_k; ++k) {
    for (int i = 0; i < kLanes; ++i) out[k * kPanel + i] = LoadElement(rows[i], dtype, static_cast<size_t>(k));
  }
}

HWY_INLINE VF WidenBf16(const std::byte* from) {
  const DF d;
  const hn::RebindToUnsigned<DF> du;
  const hn::Rebind<uint16_t, DF> d16;
  const auto bits = hn::LoadU(d16, reinterpret_cast<const uint16_t*>(from));
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, bits)));
}

// out[i] = float(from[i]). dtype: one that KV may have, as below.
inline void WidenRow(const std::byte* from, DType dtype, int n, float* HWY_RESTRICT out) {
  const DF d;
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const std::byte* at = from + static_cast<size_t>(i) * DTypeBytes(dtype);
    const VF v = dtype == DType::kBf16 ? WidenBf16(at) : hn::LoadU(d, reinterpret_cast<const float*>(at));
    hn::StoreU(v, d, out + i);
  }
  for (; i < n; ++i) out[i] = LoadElement(from, dtype, static_cast<size_t>(i));
}

// Packs 16 rows of n_k elements into one panel: out[k * 16 + row] = float(rows[row][k]). rows point at their first
// element; where fewer than 16 rows exist the caller repeats one.
inline void PackPanel(const std::byte* const rows[kPanel], DType dtype, int n_k, float* HWY_RESTRICT out) {
  for (int group = 0; group < kPanel; group += kLanes) {
    if (dtype == DType::kBf16) {
      PackLanes<Bf16Columns>(rows + group, dtype, n_k, out + group);
    } else {
      PackLanes<F32Columns>(rows + group, dtype, n_k, out + group);
    }
  }
}

// out = R in * scale over pairs (i, i + half). Not fused, so that every target rotates alike to the bit.
inline void RotateRow(const float* in, const float* cos, const float* sin, int half, float scale,
                      float* HWY_RESTRICT out) {
  const DF d;
  const VF factor = hn::Set(d, scale);
  int i = 0;
  for (; i + kLanes <= half; i += kLanes) {
    const VF a = hn::LoadU(d, in + i), b = hn::LoadU(d, in + half + i);
    const VF c = hn::LoadU(d, cos + i), s = hn::LoadU(d, sin + i);
    hn::StoreU(hn::Mul(hn::Sub(hn::Mul(a, c), hn::Mul(b, s)), factor), d, out + i);
    hn::StoreU(hn::Mul(hn::Add(hn::Mul(b, c), hn::Mul(a, s)), factor), d, out + half + i);
  }
  for (; i < half; ++i) {
    out[i] = (in[i] * cos[i] - in[half + i] * sin[i]) * scale;
    out[half + i] = (in[half + i] * cos[i] + in[i] * sin[i]) * scale;
  }
}

// The sum of a vector by halves: of 8 lanes, lane i with lane i + 4, then + 2, then + 1.
#if HWY_TARGET == HWY_SCALAR
HWY_INLINE float SumHalves(DF, VF v) { return hn::GetLane(v); }
#else
template <class D>
HWY_INLINE float SumHalves(D, hn::VFromD<D> v) {
  if constexpr (hn::MaxLanes(D()) == 1) {
    return hn::GetLane(v);
  } else {
    const hn::Half<D> half;
    return SumHalves(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  }
}
#endif

// The sum of n vectors, n a power of two, by halves all the way: the same for every width of vector.
HWY_INLINE float SumVectors(VF* v, int n) {
  for (n /= 2; n > 0; n /= 2) {
    for (int j = 0; j < n; ++j) v[j] = hn::Add(v[j], v[j + n]);
  }
  return SumHalves(DF(), v[0]);
}

}  // namespace spanwise::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif

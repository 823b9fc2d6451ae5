// What matrix product and attention share: a register tile that multiplies rows by panels, and the widening and
// rotation of rows. Included once per vector target.
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
// v[step][vector]. kAsks: it comes from memory, which is to be asked for it ahead.
template <bool kAsksOf>
struct FloatRight {
  static constexpr int kStep = 1;
  static constexpr bool kAsks = kAsksOf;
  static HWY_INLINE void Load(const std::byte* at, VF v[kStep][kVecsPerPanel]) {
    for (int j = 0; j < kVecsPerPanel; ++j) v[0][j] = hn::LoadU(DF(), reinterpret_cast<const float*>(at) + j * kLanes);
  }
};

// Pairs of rows, a pair's elements side by side.
struct Bf16Right {
  static constexpr int kStep = 2;
  static constexpr bool kAsks = true;
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
  static constexpr int kStep = 1;
  static constexpr bool kAsks = true;
  static HWY_INLINE void Load(const std::byte* at, VF v[kStep][kVecsPerPanel]) {
    const hn::Rebind<hwy::float16_t, DF> d16;
    for (int j = 0; j < kVecsPerPanel; ++j)
      v[0][j] = hn::PromoteTo(DF(), hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(at) + j * kLanes));
  }
};

HWY_INLINE VF WidenBf16(const std::byte* from) {
  const DF d;
  const hn::RebindToUnsigned<DF> du;
  const hn::Rebind<uint16_t, DF> d16;
  const auto bits = hn::LoadU(d16, reinterpret_cast<const uint16_t*>(from));
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, bits)));
}

// FloatToBf16, lane by lane: the bf16 in the upper half.
HWY_INLINE hn::Vec<hn::RebindToUnsigned<DF>> RoundToBf16(VF v) {
  const hn::RebindToUnsigned<DF> du;
  const auto bits = hn::BitCast(du, v);
  const auto bias = hn::Add(hn::Set(du, 0x7FFFu), hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u)));
  const auto quiet = hn::Or(bits, hn::Set(du, 0x400000u));
  return hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(v)), quiet, hn::Add(bits, bias));
}

// Rows of bf16, one after another.
struct Bf16RowsRight {
  static constexpr int kStep = 1;
  static constexpr bool kAsks = true;
  static HWY_INLINE void Load(const std::byte* at, VF v[kStep][kVecsPerPanel]) {
    for (int j = 0; j < kVecsPerPanel; ++j) v[0][j] = WidenBf16(at + j * kLanes * 2);
  }
};

// Widens n_k rows of a panel.
template <class Right>
void WidenRows(const std::byte* from, int64_t row_bytes, int n_k, float* to) {
  for (int k = 0; k < n_k; k += Right::kStep) {
    VF v[Right::kStep][kVecsPerPanel];
    Right::Load(from + k * row_bytes, v);
    for (int i = 0; i < Right::kStep; ++i) {
      for (int j = 0; j < kVecsPerPanel; ++j) hn::StoreU(v[i][j], DF(), to + (k + i) * kPanel + j * kLanes);
    }
  }
}

// c[r, j] over kRows x kPanels * 16. a [kRows, n_k] in floats with row stride a_stride; b [n_k, 16] per panel with
// row stride b_stride and panels panel_stride apart, in bytes; c in floats with row stride c_stride. Where n_k is no
// multiple of Right::kStep, b's last rows go on with zeros. ahead: memory is asked for what stands so many bytes after
// what is multiplied.
template <class Right, int kRows, int kPanels, Start kStart>
HWY_INLINE void Tile(const float* HWY_RESTRICT a, int64_t a_stride, const std::byte* HWY_RESTRICT b, int64_t b_stride,
                     int64_t panel_stride, int64_t ahead, int n_k, float* HWY_RESTRICT c, int64_t c_stride) {
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
      if (Right::kAsks) __builtin_prefetch(b + k * b_stride + p * panel_stride + ahead);
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
  int64_t b_stride, panel_stride, ahead;  // bytes
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
    Tile<Right, kRows, kPanels, kStart>(t.a, t.a_stride, t.b + p * t.panel_stride, t.b_stride, t.panel_stride, t.ahead,
                                        t.n_k, t.c + p * kPanel, t.c_stride);
  }
  if constexpr (kPanels > 1) {
    for (; p < n_panels; ++p) {
      Tile<Right, kRows, 1, kStart>(t.a, t.a_stride, t.b + p * t.panel_stride, t.b_stride, 0, t.ahead, t.n_k,
                                    t.c + p * kPanel, t.c_stride);
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

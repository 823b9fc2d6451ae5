// Panels of block types (tensor/panels.h) to what is multiplied: bytes, scales and minima. Included once per vector
// target.

#if defined(SPANWISE_KERNELS_CPU_UNPACK_INL_H_) == defined(HWY_TARGET_TOGGLE)  // Highway's include guard per target
#ifdef SPANWISE_KERNELS_CPU_UNPACK_INL_H_
#undef SPANWISE_KERNELS_CPU_UNPACK_INL_H_
#else
#define SPANWISE_KERNELS_CPU_UNPACK_INL_H_
#endif

#include <hwy/highway.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/quantised.h"
#include "tensor/panels.h"

HWY_BEFORE_NAMESPACE();
namespace spanwise::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_SCALAR

template <int kBits, int kTake>
void UnpackLines(const uint8_t* from, uint8_t* to) {
  static_assert(kTake == 0);
  for (size_t i = 0; i < kLinesOfGroup * kLine; ++i) {
    const size_t line = i / kLine, at = i % kLine;
    int v = line < 4 ? from[i] & 15 : from[i - 4 * kLine] >> 4;
    if (kBits == 5) v |= (from[4 * kLine + at] >> line & 1) << 4;
    if (kBits == 6) v |= (from[(4 + line / 4) * kLine + at] >> 2 * (line % 4) & 3) << 4;
    to[i] = static_cast<uint8_t>(v);
  }
}

#else

// Bytes shifted left by kBits (right if below zero); what crosses from one byte into the next is for a mask to remove.
template <int kBits, class D, class V>
HWY_INLINE V ShiftBytes(D d, V v) {
  const hn::Repartition<uint16_t, D> d16;
  if constexpr (kBits >= 0) {
    return hn::BitCast(d, hn::ShiftLeft<kBits>(hn::BitCast(d16, v)));
  } else {
    return hn::BitCast(d, hn::ShiftRight<-kBits>(hn::BitCast(d16, v)));
  }
}

// The eight lines of a group, as bytes, less kTake.
template <int kBits, int kTake>
HWY_INLINE void UnpackLines(const uint8_t* from, uint8_t* to) {
  const HWY_CAPPED(uint8_t, 64) d;
  const auto take = hn::Set(d, static_cast<uint8_t>(kTake));
  if constexpr (kBits == 8) {
    for (size_t i = 0; i < kLinesOfGroup * kLine; i += hn::Lanes(d))
      hn::StoreU(hn::Sub(hn::LoadU(d, from + i), take), d, to + i);
    return;
  }
  const auto low_mask = hn::Set(d, 15);
  for (size_t at = 0; at < kLine; at += hn::Lanes(d)) {
    const auto store = [&](size_t line, auto v)
                           HWY_ATTR { hn::StoreU(kTake == 0 ? v : hn::Sub(v, take), d, to + line * kLine + at); };
    hn::VFromD<decltype(d)> low[4], high[4];
#pragma GCC unroll 4
    for (size_t c = 0; c < 4; ++c) {
      const auto v = hn::LoadU(d, from + c * kLine + at);
      low[c] = hn::And(v, low_mask);
      high[c] = hn::And(ShiftBytes<-4>(d, v), low_mask);
    }
    if constexpr (kBits == 5) {
      const auto v = hn::LoadU(d, from + 4 * kLine + at);
      const auto bit = hn::Set(d, 16);
      low[0] = hn::Or(low[0], hn::And(ShiftBytes<4>(d, v), bit));
      low[1] = hn::Or(low[1], hn::And(ShiftBytes<3>(d, v), bit));
      low[2] = hn::Or(low[2], hn::And(ShiftBytes<2>(d, v), bit));
      low[3] = hn::Or(low[3], hn::And(ShiftBytes<1>(d, v), bit));
      high[0] = hn::Or(high[0], hn::And(v, bit));
      high[1] = hn::Or(high[1], hn::And(ShiftBytes<-1>(d, v), bit));
      high[2] = hn::Or(high[2], hn::And(ShiftBytes<-2>(d, v), bit));
      high[3] = hn::Or(high[3], hn::And(ShiftBytes<-3>(d, v), bit));
    }
    if constexpr (kBits == 6) {
      const auto bits = hn::Set(d, 48);
      const auto add = [&](auto* lines, size_t line) HWY_ATTR {
        const auto v = hn::LoadU(d, from + line * kLine + at);
        lines[0] = hn::Or(lines[0], hn::And(ShiftBytes<4>(d, v), bits));
        lines[1] = hn::Or(lines[1], hn::And(ShiftBytes<2>(d, v), bits));
        lines[2] = hn::Or(lines[2], hn::And(v, bits));
        lines[3] = hn::Or(lines[3], hn::And(ShiftBytes<-2>(d, v), bits));
      };
      add(low, 4);
      add(high, 5);
    }
    for (size_t c = 0; c < 4; ++c) {
      store(c, low[c]);
      store(c + 4, high[c]);
    }
  }
}

#endif

HWY_INLINE void WidenHalves(const std::byte* from, float out[kPanelRows]) {
#if HWY_TARGET <= HWY_AVX2
  const auto* bits = reinterpret_cast<const __m128i*>(from);
  _mm256_store_ps(out, _mm256_cvtph_ps(_mm_loadu_si128(bits)));
  _mm256_store_ps(out + 8, _mm256_cvtph_ps(_mm_loadu_si128(bits + 1)));
#else
  for (size_t o = 0; o < kPanelRows; ++o) {
    uint16_t bits;
    std::memcpy(&bits, from + 2 * o, 2);
    out[o] = F16ToFloat(bits);
  }
#endif
}

// Unpacks n_blocks blocks of a panel: their groups' bytes less kTake, unless tiles take them as they are, scales d s
// and minima m t.
template <WeightType kType, bool kStream, int kTake>
HWY_INLINE void UnpackBlocks(const std::byte* block, size_t n_blocks, PanelScratch& s) {
  constexpr PanelBlock kAt = PanelBlockOf(kType);
  constexpr int kBits = KindOf(kType).bits;
  constexpr bool kMinima = KindOf(kType).minima;
  constexpr size_t kN = kAt.n_scales == 0 ? 1 : kAt.n_scales;
  for (size_t b = 0; b < n_blocks; ++b, block += kAt.bytes) {
    float *scale = s.scale + b * kN * kPanelRows, *min = s.min + b * kN * kPanelRows;
    if constexpr (kAt.n_scales == 0) {
      WidenHalves(block, scale);
      if constexpr (kMinima) WidenHalves(block + kAt.m, min);
    } else {
      alignas(64) float d[kPanelRows];
      WidenHalves(block, d);
      const auto* bytes = reinterpret_cast<const int8_t*>(block + kAt.s);
      for (size_t j = 0; j < kN; ++j)
        for (size_t o = 0; o < kPanelRows; ++o)
          scale[j * kPanelRows + o] = d[o] * static_cast<float>(bytes[j * kPanelRows + o]);
    }
    if constexpr (kMinima && kAt.n_scales != 0) {
      alignas(64) float m[kPanelRows];
      WidenHalves(block + kAt.m, m);
      const auto* bytes = reinterpret_cast<const uint8_t*>(block + kAt.t);
      for (size_t j = 0; j < kN; ++j)
        for (size_t o = 0; o < kPanelRows; ++o)
          min[j * kPanelRows + o] = m[o] * static_cast<float>(bytes[j * kPanelRows + o]);
    }
    for (size_t g = 0; g < kAt.n_groups; ++g) {
      const auto* from = reinterpret_cast<const uint8_t*>(block + kAt.groups + g * kAt.group_bytes);
      const size_t at = b * kAt.n_groups + g;
      if constexpr ((kBits == 8 && kTake == 0) || (kStream && kBits == 4)) {
        s.groups[at] = from;
      } else {
        uint8_t* to = s.bytes + at * kLinesOfGroup * kLine;
        UnpackLines<kBits, kTake>(from, to);
        s.groups[at] = to;
      }
    }
  }
}

}  // namespace spanwise::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif

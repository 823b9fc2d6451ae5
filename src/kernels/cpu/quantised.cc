// Products with matrices of block types, as kernels/rounded.h defines them.
//
// A panel's integers are unpacked, 256 inputs at a time, to bytes in the first-level cache and multiplied by tiles of
// rows. A line of 64 bytes holds four neighbouring inputs of 16 outputs, and the same four inputs of a row are
// broadcast against it.
#include "kernels/cpu/quantised.h"

#include <cstring>

#include "base/check.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/work.h"
#include "kernels/rounded.h"
#include "tensor/panels.h"

// Its own set of targets: dot products of bytes came with Ice Lake (HWY_AVX3_DL), the rest of the kernels gain nothing
// from it.
#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3)
#define HWY_WANT_AVX3_DL

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/quantised.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/unpack-inl.h"

#ifndef SPANWISE_KERNELS_CPU_QUANTISED_CC_
#define SPANWISE_KERNELS_CPU_QUANTISED_CC_
namespace spanwise::cpu {

inline constexpr int kBlockPanels = 2;  // panels of one task's block
// So many rows at least are multiplied by matrix tiles, where they are used.
inline constexpr int kTiledRows = 24;
// So many rows take weights as they come from memory, and ask it ahead by so many bytes.
inline constexpr int kStreamRows = 8;
inline constexpr size_t kStreamAhead = 4096;
// One row takes so many panels at once where it can, and asks for each so many bytes ahead; so do matrix tiles.
inline constexpr int kMostPanels = 4;
inline constexpr size_t kRowAhead = 1024;

// The rows of a tile from input k0 on, where a scale of the weights spans 32 / kScales inputs.
template <int kScales>
class TileRows {
 public:
  TileRows(const RoundedRows& x, int row, int k0)
      : n_in_(x.n_in),
        n_groups_(x.n_in / kRoundedGroup),
        q_(x.q + int64_t{row} * n_in_ + k0),
        scale_(x.scale + int64_t{row} * n_groups_ + k0 / kRoundedGroup),
        sums_(x.sums + (int64_t{row} * n_groups_ + k0 / kRoundedGroup) * kScales) {}

  const int8_t* At(int r, int k) const { return q_ + r * n_in_ + k; }
  // Four neighbours.
  int32_t Four(int r, int k) const {
    int32_t four;
    std::memcpy(&four, At(r, k), 4);
    return four;
  }
  float Scale(int r, int g) const { return scale_[r * n_groups_ + g]; }
  int32_t Sum(int r, int g, int j) const { return sums_[(r * n_groups_ + g) * kScales + j]; }

 private:
  const int64_t n_in_, n_groups_;
  const int8_t* const q_;
  const float* const scale_;
  const int32_t* const sums_;
};

struct QuantisedArgs {
  WeightType type;
  const std::byte* panels;
  int n_panels;  // at most kMostPanels for one row and for tiles, else kBlockPanels
  RoundedRows x;
  int n_rows;
  bool tiles;         // multiply by matrix tiles
  const float* bias;  // of the panel's outputs, or null
  float* y;           // of the first row and output
  int64_t y_stride;
  int width;  // outputs that exist
};

}  // namespace spanwise::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace spanwise::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

void RoundRow(const float* x, int n_in, int sum_group, const RoundedRow& to) {
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
  for (int g = 0; g < n_in / kRoundedGroup; ++g)
    to.scale[g * to.step] = RoundGroup(x + g * kRoundedGroup, to.q + g * to.q_step);
#else
  const HWY_CAPPED(float, 8) d;
  const hn::RebindToSigned<decltype(d)> di;
  const hn::Rebind<int8_t, decltype(d)> d8;
  constexpr int kLanes = static_cast<int>(hn::MaxLanes(d));
  for (int g = 0; g < n_in / kRoundedGroup; ++g) {
    const float* from = x + g * kRoundedGroup;
    auto largest = hn::Zero(d);
    for (int i = 0; i < kRoundedGroup; i += kLanes) largest = hn::Max(largest, hn::Abs(hn::LoadU(d, from + i)));
    const float a = hn::GetLane(hn::MaxOfLanes(d, largest));
    const float up = a < kSmallestRounded ? 0 : 127 / a;
    for (int i = 0; i < kRoundedGroup; i += kLanes) {
      const auto r = hn::NearestInt(hn::Mul(hn::LoadU(d, from + i), hn::Set(d, up)));
      hn::StoreU(hn::DemoteTo(d8, hn::Min(hn::Max(r, hn::Set(di, -127)), hn::Set(di, 127))), d8,
                 to.q + g * to.q_step + i);
    }
    to.scale[g * to.step] = up == 0 ? 0 : a / 127;
  }
#endif
  for (int g = 0; g < n_in / kRoundedGroup; ++g) {
    const int8_t* q = to.q + g * to.q_step;
    int32_t sums[2] = {};
    for (int i = 0; i < kRoundedGroup; ++i) sums[i / 16] += q[i];
    if (sum_group == kRoundedGroup) {
      to.sums[g * to.step] = sums[0] + sums[1];
    } else {
      to.sums[2 * g * to.step] = sums[0];
      to.sums[(2 * g + 1) * to.step] = sums[1];
    }
  }
}

// How integers become a chain's terms: bits of the weights, scale groups of 32 inputs, offset, minima.
template <int kBitsOf, int kScalesOf, int kOffsetOf, bool kMinimaOf>
struct Terms {
  static constexpr int kBits = kBitsOf, kScales = kScalesOf, kOffset = kOffsetOf;
  static constexpr bool kMinima = kMinimaOf;
};
template <WeightType kType>
using TermsOf =
    Terms<KindOf(kType).bits, KindOf(kType).scale_group == 16 ? 2 : 1, KindOf(kType).offset, KindOf(kType).minima>;

#if HWY_TARGET == HWY_AVX3_DL

constexpr int kTileRows = 6, kTilePanels = 2;
// Processors of this target have the instruction; Highway 1.0's list of options for the compiler leaves it out.
#define SW_BYTE_DOTS __attribute__((target("avx512vnni")))

// The instruction multiplies unsigned bytes by signed ones: 8-bit weights are made unsigned by 128, which counts as
// their offset.
template <class T>
constexpr int kOffsetOfDots = T::kBits == 8 ? 128 : T::kOffset;

// Continues the chains of kRows rows in kPanels panels by n_groups groups, which begin at input k0. kStream: the
// weights come from memory, four bits still two to a byte.
template <class T, int kRows, int kPanels, bool kStream>
SW_BYTE_DOTS void ContinueTile(PanelScratch* s, int n_groups, const RoundedRows& x, int row, int k0) {
  const TileRows<T::kScales> rows(x, row, k0);
  constexpr int kOffset = kOffsetOfDots<T>;
  constexpr bool kPacked = kStream && T::kBits == 4;
  int32_t start[kRows][kChunkGroups * T::kScales];  // of the sums: what the offset takes off
  if (kOffset != 0)
    for (int r = 0; r < kRows; ++r)
      for (int i = 0; i < n_groups * T::kScales; ++i)
        start[r][i] = -kOffset * rows.Sum(r, i / T::kScales, i % T::kScales);
  __m512 y[kRows][kPanels];
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int p = 0; p < kPanels; ++p) y[r][p] = _mm512_load_ps(s[p].sums + (row + r) * kPanelRows);
  }
  const __m512i flip = _mm512_set1_epi8(static_cast<char>(0x80)), low = _mm512_set1_epi8(15);
  for (int g = 0; g < n_groups; ++g) {
    const uint8_t* line[kPanels];
    for (int p = 0; p < kPanels; ++p) {
      line[p] = s[p].groups[g];
      if (!kStream && row == 0) s[p].AskForNext(g);
    }
    for (int j = 0; j < T::kScales; ++j) {
      constexpr int kLines = 8 / T::kScales;
      const int k = g * kRoundedGroup + j * 4 * kLines;
      __m512i dots[kRows][kPanels];
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
        for (int p = 0; p < kPanels; ++p)
          dots[r][p] = kOffset == 0 ? _mm512_setzero_si512() : _mm512_set1_epi32(start[r][g * T::kScales + j]);
      }
#pragma GCC unroll 8
      for (int c = 0; c < (kPacked ? kLines / 2 : kLines); ++c) {
        __m512i w[kPanels], high[kPanels];
#pragma GCC unroll 2
        for (int p = 0; p < kPanels; ++p, line[p - 1] += kLine) {
          if (kStream) __builtin_prefetch(line[p] + kStreamAhead);
          w[p] = _mm512_loadu_si512(line[p]);
          if (kStream && T::kBits == 8) w[p] = _mm512_xor_si512(w[p], flip);
          if (kPacked) {
            high[p] = _mm512_and_si512(_mm512_srli_epi32(w[p], 4), low);
            w[p] = _mm512_and_si512(w[p], low);
          }
        }
#pragma GCC unroll 6
        for (int r = 0; r < kRows; ++r) {
          const __m512i four = _mm512_set1_epi32(rows.Four(r, k + 4 * c));
#pragma GCC unroll 2
          for (int p = 0; p < kPanels; ++p) dots[r][p] = _mm512_dpbusd_epi32(dots[r][p], w[p], four);
          if constexpr (kPacked) {
            const __m512i later = _mm512_set1_epi32(rows.Four(r, k + 16 + 4 * c));
#pragma GCC unroll 2
            for (int p = 0; p < kPanels; ++p) dots[r][p] = _mm512_dpbusd_epi32(dots[r][p], high[p], later);
          }
        }
      }
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) {
        const __m512 e = _mm512_set1_ps(rows.Scale(r, g));
#pragma GCC unroll 2
        for (int p = 0; p < kPanels; ++p) {
          const __m512 scale = _mm512_mul_ps(_mm512_load_ps(s[p].scale + (g * T::kScales + j) * kPanelRows), e);
          y[r][p] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[r][p]), scale, y[r][p]);
        }
      }
    }
    if (T::kMinima) {
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) {
        const __m512 e = _mm512_set1_ps(rows.Scale(r, g)), n = _mm512_set1_ps(static_cast<float>(rows.Sum(r, g, 0)));
#pragma GCC unroll 2
        for (int p = 0; p < kPanels; ++p)
          y[r][p] = _mm512_fnmadd_ps(n, _mm512_mul_ps(_mm512_load_ps(s[p].min + g * kPanelRows), e), y[r][p]);
      }
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int p = 0; p < kPanels; ++p) _mm512_store_ps(s[p].sums + (row + r) * kPanelRows, y[r][p]);
  }
}

SW_BYTE_DOTS HWY_INLINE __m512 HalvesAt(const uint8_t* at) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
}

// Continues a row's chains at `y` by one group, `at` a block in a panel.
template <WeightType kType>
SW_BYTE_DOTS HWY_INLINE void ContinueGroup(const uint8_t* at, const int8_t* row, float row_scale, int32_t row_sum,
                                           float* y) {
  using T = TermsOf<kType>;
  constexpr int kOffset = kOffsetOfDots<T>;
  const __m512i flip = _mm512_set1_epi8(static_cast<char>(0x80)), low = _mm512_set1_epi8(15);
  const uint8_t* lines = at + PanelBlockOf(kType).groups;
  const auto four = [&](int k) SW_BYTE_DOTS __attribute__((always_inline)) {
    int32_t v;
    std::memcpy(&v, row + k, 4);
    return _mm512_set1_epi32(v);
  };
  __m512i even = _mm512_set1_epi32(-kOffset * row_sum), odd = _mm512_setzero_si512();  // two chains, half the wait
  if constexpr (T::kBits == 8) {
#pragma GCC unroll 4
    for (int c = 0; c < 8; c += 2) {
      const __m512i w0 = _mm512_loadu_si512(lines + c * kLine), w1 = _mm512_loadu_si512(lines + (c + 1) * kLine);
      even = _mm512_dpbusd_epi32(even, _mm512_xor_si512(w0, flip), four(4 * c));
      odd = _mm512_dpbusd_epi32(odd, _mm512_xor_si512(w1, flip), four(4 * c + 4));
    }
  } else {
    const __m512i bit = _mm512_set1_epi8(16);
    const __m512i fifth = T::kBits == 5 ? _mm512_loadu_si512(lines + 4 * kLine) : _mm512_setzero_si512();
#pragma GCC unroll 4
    for (unsigned c = 0; c < 4; ++c) {
      const __m512i w = _mm512_loadu_si512(lines + c * kLine);
      __m512i w0 = _mm512_and_si512(w, low), w1 = _mm512_and_si512(_mm512_srli_epi32(w, 4), low);
      if constexpr (T::kBits == 5) {
        constexpr int kAOrBoth = 0xF8;  // the first operand, or the other two together
        w0 = _mm512_ternarylogic_epi32(w0, _mm512_slli_epi32(fifth, 4 - c), bit, kAOrBoth);
        w1 = _mm512_ternarylogic_epi32(w1, _mm512_srli_epi32(fifth, c), bit, kAOrBoth);
      }
      even = _mm512_dpbusd_epi32(even, w0, four(4 * static_cast<int>(c)));
      odd = _mm512_dpbusd_epi32(odd, w1, four(16 + 4 * static_cast<int>(c)));
    }
  }
  const __m512 e = _mm512_set1_ps(row_scale), dots = _mm512_cvtepi32_ps(_mm512_add_epi32(even, odd));
  __m512 sum = _mm512_fmadd_ps(dots, _mm512_mul_ps(HalvesAt(at), e), _mm512_load_ps(y));
  if constexpr (T::kMinima)
    sum = _mm512_fnmadd_ps(_mm512_set1_ps(static_cast<float>(row_sum)),
                           _mm512_mul_ps(HalvesAt(at + PanelBlockOf(kType).m), e), sum);
  _mm512_store_ps(y, sum);
}

#elif HWY_TARGET == HWY_AVX2

constexpr int kTileRows = 4, kTilePanels = 1;
#define SW_BYTE_DOTS

// Sums are made in the order written: left alone, compilers balance them and so need far more registers than there are.
HWY_INLINE void InOrder(__m256i& v) { asm("" : "+x"(v)); }

HWY_INLINE __m256i FourOf(const int8_t* q) {
  int32_t four;
  std::memcpy(&four, q, 4);
  return _mm256_set1_epi32(four);
}

// As above, in two halves of 8 outputs. Products of bytes are added in pairs, then in 16 bits as long as the integers'
// bits allow, then in 32. Signed weights lend their sign to the row's bytes.
template <class T, int kRows, int kPanels, bool kStream>
void ContinueTile(PanelScratch* panel, int n_groups, const RoundedRows& x, int row, int k0) {
  static_assert(kPanels == 1);
  PanelScratch& s = *panel;
  float* sums = s.sums + row * kPanelRows;
  const TileRows<T::kScales> rows(x, row, k0);
  const __m256i ones = _mm256_set1_epi16(1), low = _mm256_set1_epi8(15);
  constexpr bool kPacked = kStream && T::kBits == 4;
  // Lines whose sums of pairs fit in 16 bits: (2^bits - 1) x 127 x 2 for each.
  constexpr int kRun = T::kBits == 4 ? 8 : T::kBits == 5 ? 4 : T::kBits == 6 ? 2 : 1;
  for (int g = 0; g < n_groups; ++g) {
    const uint8_t* line = s.groups[g];
    if (!kStream && row == 0) s.AskForNext(g);
    for (int j = 0; j < T::kScales; ++j) {
      constexpr int kLines = 8 / T::kScales;
      const int k = g * kRoundedGroup + j * 4 * kLines;
      __m256i dots[kRows][2];
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) dots[r][0] = dots[r][1] = _mm256_setzero_si256();
#pragma GCC unroll 8
      for (int c0 = 0; c0 < kLines; c0 += kRun) {
        __m256i pairs[kRows][2];
        // Adds the products of line c, or begins with them.
        const auto add = [&](int c, __m256i w0, __m256i w1, bool begin) HWY_ATTR __attribute__((always_inline)) {
          const __m256i u0 = T::kBits == 8 ? _mm256_abs_epi8(w0) : w0, u1 = T::kBits == 8 ? _mm256_abs_epi8(w1) : w1;
#pragma GCC unroll 4
          for (int r = 0; r < kRows; ++r) {
            const __m256i b = _mm256_set1_epi32(rows.Four(r, k + 4 * c));
            const __m256i p0 = _mm256_maddubs_epi16(u0, T::kBits == 8 ? _mm256_sign_epi8(b, w0) : b);
            const __m256i p1 = _mm256_maddubs_epi16(u1, T::kBits == 8 ? _mm256_sign_epi8(b, w1) : b);
            pairs[r][0] = begin ? p0 : _mm256_add_epi16(pairs[r][0], p0);
            pairs[r][1] = begin ? p1 : _mm256_add_epi16(pairs[r][1], p1);
            InOrder(pairs[r][0]);
            InOrder(pairs[r][1]);
          }
        };
#pragma GCC unroll 8
        for (int c = c0; c < (kPacked ? kLines / 2 : c0 + kRun); ++c, line += kLine) {
          if (kStream) __builtin_prefetch(line + kStreamAhead);
          const __m256i w0 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(line));
          const __m256i w1 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(line + 32));
          if constexpr (kPacked) {
            add(c, _mm256_and_si256(w0, low), _mm256_and_si256(w1, low), c == c0);
            add(c + 4, _mm256_and_si256(_mm256_srli_epi16(w0, 4), low), _mm256_and_si256(_mm256_srli_epi16(w1, 4), low),
                false);
          } else {
            add(c, w0, w1, c == c0);
          }
        }
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
          dots[r][0] = _mm256_add_epi32(dots[r][0], _mm256_madd_epi16(pairs[r][0], ones));
          dots[r][1] = _mm256_add_epi32(dots[r][1], _mm256_madd_epi16(pairs[r][1], ones));
        }
      }
      const float* scale = s.scale + (g * T::kScales + j) * kPanelRows;
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const __m256i offset = _mm256_set1_epi32(T::kOffset * rows.Sum(r, g, j));
        const __m256 d = _mm256_set1_ps(rows.Scale(r, g));
        float* y = sums + r * kPanelRows;
#pragma GCC unroll 2
        for (int h = 0; h < 2; ++h) {
          const __m256i dot = T::kOffset == 0 ? dots[r][h] : _mm256_sub_epi32(dots[r][h], offset);
          const __m256 scaled = _mm256_mul_ps(_mm256_load_ps(scale + 8 * h), d);
          _mm256_store_ps(y + 8 * h, _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), scaled, _mm256_load_ps(y + 8 * h)));
        }
      }
    }
    if (T::kMinima) {
      const float* min = s.min + g * kPanelRows;
      for (int r = 0; r < kRows; ++r) {
        const __m256 d = _mm256_set1_ps(rows.Scale(r, g)), n = _mm256_set1_ps(static_cast<float>(rows.Sum(r, g, 0)));
        float* y = sums + r * kPanelRows;
        for (int h = 0; h < 2; ++h)
          _mm256_store_ps(
              y + 8 * h, _mm256_fnmadd_ps(n, _mm256_mul_ps(_mm256_load_ps(min + 8 * h), d), _mm256_load_ps(y + 8 * h)));
      }
    }
  }
}

HWY_INLINE __m256 HalvesAt(const uint8_t* at, int half) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at) + half));
}

// Continues a row's chains at `y` by one group, `at` a block in a panel.
template <WeightType kType>
HWY_INLINE void ContinueGroup(const uint8_t* at, const int8_t* row, float row_scale, int32_t row_sum, float* y) {
  using T = TermsOf<kType>;
  const __m256i ones = _mm256_set1_epi16(1), low = _mm256_set1_epi8(15), bit = _mm256_set1_epi8(16);
  const __m256i offset = _mm256_set1_epi32(T::kOffset * row_sum);
  const __m256 e = _mm256_set1_ps(row_scale);
  const auto* lines = reinterpret_cast<const __m256i*>(at + PanelBlockOf(kType).groups);
#pragma GCC unroll 2
  for (int h = 0; h < 2; ++h) {
    __m256i dots;
    if constexpr (T::kBits == 8) {
      dots = _mm256_setzero_si256();
#pragma GCC unroll 8
      for (int c = 0; c < 8; ++c) {
        const __m256i w = _mm256_loadu_si256(lines + 2 * c + h);
        const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(FourOf(row + 4 * c), w));
        dots = _mm256_add_epi32(dots, _mm256_madd_epi16(pairs, ones));
      }
    } else {
      __m256i low_pairs, high_pairs;
#pragma GCC unroll 4
      for (int c = 0; c < 4; ++c) {
        const __m256i w = _mm256_loadu_si256(lines + 2 * c + h);
        __m256i w0 = _mm256_and_si256(w, low), w1 = _mm256_and_si256(_mm256_srli_epi16(w, 4), low);
        if constexpr (T::kBits == 5) {
          const __m256i fifth = _mm256_loadu_si256(lines + 8 + h);
          w0 = _mm256_or_si256(w0, _mm256_and_si256(_mm256_slli_epi16(fifth, 4 - c), bit));
          w1 = _mm256_or_si256(w1, _mm256_and_si256(_mm256_srli_epi16(fifth, c), bit));
        }
        const __m256i p0 = _mm256_maddubs_epi16(w0, FourOf(row + 4 * c));
        const __m256i p1 = _mm256_maddubs_epi16(w1, FourOf(row + 16 + 4 * c));
        low_pairs = c == 0 ? p0 : _mm256_add_epi16(low_pairs, p0);
        high_pairs = c == 0 ? p1 : _mm256_add_epi16(high_pairs, p1);
      }
      dots = T::kBits == 4  // of five bits, 16 hold the sums of four lines, not of eight
                 ? _mm256_madd_epi16(_mm256_add_epi16(low_pairs, high_pairs), ones)
                 : _mm256_add_epi32(_mm256_madd_epi16(low_pairs, ones), _mm256_madd_epi16(high_pairs, ones));
      if constexpr (T::kOffset != 0) dots = _mm256_sub_epi32(dots, offset);
    }
    __m256 sum =
        _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots), _mm256_mul_ps(HalvesAt(at, h), e), _mm256_load_ps(y + 8 * h));
    if constexpr (T::kMinima)
      sum = _mm256_fnmadd_ps(_mm256_set1_ps(static_cast<float>(row_sum)),
                             _mm256_mul_ps(HalvesAt(at + PanelBlockOf(kType).m, h), e), sum);
    _mm256_store_ps(y + 8 * h, sum);
  }
}

#else

constexpr int kTileRows = 1, kTilePanels = 1;

template <class T, int kRows, int kPanels, bool kStream>
void ContinueTile(PanelScratch* panel, int n_groups, const RoundedRows& x, int row, int k0) {
  static_assert(!kStream && kPanels == 1);
  PanelScratch& s = *panel;
  float* sums = s.sums + row * kPanelRows;
  const TileRows<T::kScales> rows(x, row, k0);
  constexpr int kInputs = kRoundedGroup / T::kScales;
  for (int g = 0; g < n_groups; ++g) {
    const int8_t* q = rows.At(0, g * kRoundedGroup);
    const float e = rows.Scale(0, g);
    for (int o = 0; o < kPanelRows; ++o) {
      for (int j = 0; j < T::kScales; ++j) {
        int32_t dot = 0;
        for (int i = j * kInputs; i < (j + 1) * kInputs; ++i) {
          const int w = s.groups[g][i / 4 * static_cast<int>(kLine) + 4 * o + i % 4];
          dot += ((T::kBits == 8 ? static_cast<int8_t>(w) : w) - T::kOffset) * q[i];
        }
        sums[o] = std::fma(static_cast<float>(dot), s.scale[(g * T::kScales + j) * kPanelRows + o] * e, sums[o]);
      }
      if (T::kMinima)
        sums[o] = std::fma(static_cast<float>(rows.Sum(0, g, 0)), -(s.min[g * kPanelRows + o] * e), sums[o]);
    }
  }
}

#endif

#ifdef SW_BYTE_DOTS

// One row by some panels of types whose blocks are groups, side by side: several streams keep the memory busier than
// one.
template <WeightType kType>
SW_BYTE_DOTS void MultiplyRow(const QuantisedArgs& a, PanelScratch* s) {
  static_assert(PanelBlockOf(kType).n_scales == 0 && PanelBlockOf(kType).n_groups == 1);
  static_assert(KindOf(kType).bits == 8 || KindOf(kType).bits == 4 || KindOf(kType).bits == 5);
  constexpr size_t kBlockBytes = PanelBlockOf(kType).bytes;
  const int n_groups = a.x.n_in / kRoundedGroup;
  const size_t panel_bytes = static_cast<size_t>(n_groups) * kBlockBytes;
  const auto* block = reinterpret_cast<const uint8_t*>(a.panels);
  for (int g = 0; g < n_groups; ++g, block += kBlockBytes) {
    for (int p = 0; p < a.n_panels; ++p) {
      const uint8_t* at = block + static_cast<size_t>(p) * panel_bytes;
#pragma GCC unroll 16
      for (size_t i = 0; i < kBlockBytes; i += kLine) __builtin_prefetch(at + kRowAhead + i);
      ContinueGroup<kType>(at, a.x.q + g * kRoundedGroup, a.x.scale[g], a.x.sums[g], s[p].sums);
    }
  }
}

#endif

template <class T, int kPanels, bool kStream>
void ContinueRows(PanelScratch* s, int n_groups, const RoundedRows& x, int n_rows, int k0) {
  int row = 0;
  for (; row + kTileRows <= n_rows; row += kTileRows)
    ContinueTile<T, kTileRows, kPanels, kStream>(s, n_groups, x, row, k0);
  if constexpr (kTileRows > 4) {
    if (row + 4 <= n_rows) {
      ContinueTile<T, 4, kPanels, kStream>(s, n_groups, x, row, k0);
      row += 4;
    }
  }
  if constexpr (kTileRows > 1) {
    if (row + 2 <= n_rows) {
      ContinueTile<T, 2, kPanels, kStream>(s, n_groups, x, row, k0);
      row += 2;
    }
  }
  if (row < n_rows) ContinueTile<T, 1, kPanels, kStream>(s, n_groups, x, row, k0);
}

// What is taken off unpacked bytes before they are multiplied.
#if HWY_TARGET == HWY_AVX3_DL
template <class T>
constexpr int kTakenOff = T::kBits == 8 ? 128 : 0;
#else
template <class T>
constexpr int kTakenOff = 0;
#endif

// Calls body(k0, n_groups) for one chunk of inputs after the other, unpacked in all panels, which are followed by those
// that are multiplied next.
template <WeightType kType, bool kStream, int kTake, class Body>
HWY_INLINE void ForChunks(const QuantisedArgs& a, int panel, int n_panels, PanelScratch* s, const Body& body) {
  const auto elements = static_cast<int>(BlockOf(kType).elements);
  constexpr size_t block_bytes = PanelBlockOf(kType).bytes;
  const size_t panel_bytes = PanelBytes(kType, kPanelRows, static_cast<size_t>(a.x.n_in));
  const std::byte* block = a.panels + static_cast<size_t>(panel) * panel_bytes;
  constexpr int kChunk = kChunkGroups * kRoundedGroup;
  for (int k0 = 0; k0 < a.x.n_in; k0 += kChunk) {
    const int n = HWY_MIN(kChunk, a.x.n_in - k0);
    const auto n_blocks = static_cast<size_t>(n / elements);
    const bool last = k0 + n == a.x.n_in;
    for (int p = 0; p < n_panels; ++p) {
      const std::byte* from = block + static_cast<size_t>(p) * panel_bytes;
      UnpackBlocks<kType, kStream, kTake>(from, n_blocks, s[p]);
      s[p].next = from + n_blocks * block_bytes + (last ? static_cast<size_t>(n_panels - 1) * panel_bytes : 0);
      s[p].next_group_bytes = n_blocks * block_bytes * kRoundedGroup / static_cast<size_t>(n);
    }
    block += n_blocks * block_bytes;
    body(k0, n / kRoundedGroup);
  }
}

template <WeightType kType, int kPanels, bool kStream>
void MultiplyTiles(const QuantisedArgs& a, int panel, PanelScratch* s) {
  using T = TermsOf<kType>;
  ForChunks<kType, kStream, kStream ? 0 : kTakenOff<T>>(a, panel, kPanels, s, [&](int k0, int n_groups) {
    ContinueRows<T, kPanels, kStream>(s, n_groups, a.x, a.n_rows, k0);
  });
}

template <WeightType kType>
void MultiplyBlocks(const QuantisedArgs& a, PanelScratch* s) {
#if HWY_TARGET == HWY_AVX3_DL
  if (a.tiles) {
    using T = TermsOf<kType>;
    ByteTiles tiles;
    ForChunks<kType, false, T::kOffset>(a, 0, a.n_panels, s, [&](int k0, int n_groups) {
      tiles.Continue({s, static_cast<size_t>(a.n_panels)}, {T::kScales, T::kMinima}, n_groups, a.x, a.n_rows, k0);
    });
    return;
  }
#endif
#ifdef SW_BYTE_DOTS
  if constexpr (KindOf(kType).scale_group == 0) {
    if (a.n_rows == 1) return MultiplyRow<kType>(a, s);
  }
#endif
  for (int p = 0; p < a.n_panels; p += kTilePanels) {
    const bool all = p + kTilePanels <= a.n_panels;
    if constexpr (kTileRows > 1) {
      if (a.n_rows <= kStreamRows) {
        all ? MultiplyTiles<kType, kTilePanels, true>(a, p, s + p) : MultiplyTiles<kType, 1, true>(a, p, s + p);
        continue;
      }
    }
    all ? MultiplyTiles<kType, kTilePanels, false>(a, p, s + p) : MultiplyTiles<kType, 1, false>(a, p, s + p);
  }
}

// By the row of a.type among the block types.
template <size_t kRow = 0>
void MultiplyType(const QuantisedArgs& a, PanelScratch* s) {
  if constexpr (kRow < kBlockTypes.size()) {
    a.type == kBlockTypes[kRow] ? MultiplyBlocks<kBlockTypes[kRow]>(a, s) : MultiplyType<kRow + 1>(a, s);
  }
}

// s: one for each panel.
void MultiplyPanels(const QuantisedArgs& a, PanelScratch* s) {
  for (int p = 0; p < a.n_panels; ++p)
    std::memset(s[p].sums, 0, static_cast<size_t>(a.n_rows) * kPanelRows * sizeof(float));
  MultiplyType(a, s);
  for (int p = 0; p < a.n_panels; ++p) {
    const int width = HWY_MIN(kPanelRows, a.width - p * kPanelRows);
    const float* bias = a.bias ? a.bias + p * kPanelRows : nullptr;
    for (int r = 0; r < a.n_rows; ++r) {
      float* y = a.y + r * a.y_stride + p * kPanelRows;
      const float* sums = s[p].sums + r * kPanelRows;
      for (int o = 0; o < width; ++o) y[o] = bias ? sums[o] + bias[o] : sums[o];
    }
  }
}

#undef SW_BYTE_DOTS

}  // namespace spanwise::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace spanwise::cpu {

HWY_EXPORT(RoundRow);
HWY_EXPORT(MultiplyPanels);

void MatMulsQuantised(ThreadPool& pool, const float* x, int64_t x_stride, int n_rows,
                      std::span<const Product> products) {
  const auto rows = static_cast<size_t>(n_rows), n_in = static_cast<size_t>(products[0].w.n_in);
  const bool tiles = UsesTiles() && n_rows >= kTiledRows;
  // The rounded rows: 8 bits and a share of a scale and of two sums for each input.
  const size_t rows_kept = (rows + kRowsOfTile - 1) / kRowsOfTile * kRowsOfTile;
  float* memory = Scratch::Floats<1>(rows_kept * (n_in / 32 + n_in / 16 + n_in / 4));
  const RoundedRows rounded = {.q = reinterpret_cast<int8_t*>(memory + rows_kept * (n_in / 32 + n_in / 16)),
                               .scale = memory,
                               .sums = reinterpret_cast<int32_t*>(memory + rows_kept * (n_in / 32)),
                               .n_in = products[0].w.n_in,
                               .sum_group = SumGroup(products[0].w.type)};
  const size_t n_sums = n_in / static_cast<size_t>(rounded.sum_group);
  const auto round_row = HWY_DYNAMIC_DISPATCH(RoundRow);
  const size_t together = tiles ? kRowsOfTile : 1;  // rows that are kept beside one another
  ForRanges(pool, rows, n_in * 4, [&](size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r) {
      const size_t first = r / together * together, in = r % together;
      round_row(x + static_cast<int64_t>(r) * x_stride, rounded.n_in, rounded.sum_group,
                {.q = rounded.q + first * n_in + in * kRoundedGroup,
                 .scale = rounded.scale + first * (n_in / 32) + in,
                 .sums = rounded.sums + first * n_sums + in,
                 .q_step = static_cast<int64_t>(together) * kRoundedGroup,
                 .step = static_cast<int64_t>(together)});
    }
  });

  const auto multiply_panels = HWY_DYNAMIC_DISPATCH(MultiplyPanels);
  const size_t n_row_blocks = (rows + kQuantisedRows - 1) / kQuantisedRows;
  const size_t at_once = rows == 1 || tiles ? kMostPanels : kBlockPanels;
  const size_t work = std::min<size_t>(rows, kQuantisedRows) * at_once * kPanelRows * n_in / 2;
  const auto n_panels = [&](size_t of) {
    return (static_cast<size_t>(products[of].w.n_out) + kPanelRows - 1) / kPanelRows;
  };
  const auto loop_of = [&](size_t of) { return Pieces((n_panels(of) + at_once - 1) / at_once * n_row_blocks, work); };
  ForEachRange(pool, products.size(), loop_of, [&](size_t of, size_t begin, size_t end) {
    const Product& p = products[of];
    const size_t panel_bytes = PanelBytes(p.w.type, kPanelRows, n_in);
    static_assert(alignof(PanelScratch) <= 64 && sizeof(PanelScratch) % sizeof(float) == 0);
    auto* scratch =
        reinterpret_cast<PanelScratch*>(Scratch::Floats(kMostPanels * sizeof(PanelScratch) / sizeof(float)));
    for (size_t i = begin; i < end; ++i) {
      const size_t panel = i / n_row_blocks * at_once, first = i % n_row_blocks * kQuantisedRows;
      const int out = static_cast<int>(panel) * kPanelRows;
      multiply_panels({.type = p.w.type,
                       .panels = p.w.data + panel * panel_bytes,
                       .n_panels = static_cast<int>(std::min(at_once, n_panels(of) - panel)),
                       .x = {.q = rounded.q + first * n_in,
                             .scale = rounded.scale + first * (n_in / 32),
                             .sums = rounded.sums + first * n_sums,
                             .n_in = rounded.n_in,
                             .sum_group = rounded.sum_group},
                       .n_rows = static_cast<int>(std::min<size_t>(rows - first, kQuantisedRows)),
                       .tiles = tiles,
                       .bias = p.bias.empty() ? nullptr : p.bias.data() + out,
                       .y = p.y + static_cast<int64_t>(first) * p.y_stride + out,
                       .y_stride = p.y_stride,
                       .width = p.w.n_out - out},
                      scratch);
    }
  });
}

}  // namespace spanwise::cpu
#endif

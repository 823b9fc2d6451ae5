// A product of tiles takes 16 inputs or 32, those that share a scale, of up to 16 rows and of a panel. Its sums are
// stored, since tiles can only be read from memory, and scaled by vectors some products later, when they have arrived:
// the products themselves run beside that.
#include "kernels/cpu/quantised.h"

#if defined(__x86_64__) && defined(__linux__)

#include <algorithm>

#include "kernels/cpu/tile_config.h"
#include "kernels/rounded.h"

namespace spanwise::cpu {
namespace {

constexpr int kLag = 2, kRing = 4;  // products between one and the scaling of its sums; sums that are kept

// Where the rows and the panel of a product stand.
struct ByteProduct {
  const int8_t* rows;
  const uint8_t* lines;
};

// Two sets of registers in turn, so that neighbouring products wait for none of each other's.
template <int kSet>
SW_TILE_TARGET inline void Multiply(const ByteProduct& p, int32_t* sums) {
  if constexpr (kSet == 0) {
    _tile_zero(0);
    _tile_loadd(4, p.rows, kRoundedGroup);
    _tile_loadd(6, p.lines, kLine);
    _tile_dpbssd(0, 4, 6);
    _tile_stored(0, sums, kLine);
  } else {
    _tile_zero(1);
    _tile_loadd(5, p.rows, kRoundedGroup);
    _tile_loadd(7, p.lines, kLine);
    _tile_dpbssd(1, 5, 7);
    _tile_stored(1, sums, kLine);
  }
}

// GCC 12 warns of what its own intrinsic leaves undefined.
SW_TILE_TARGET inline __m512 ToFloats(__m512i v) { return (__m512) __builtin_convertvector((__v16si)v, __v16sf); }

// Continues the chains of kRows rows, or fewer, from `row` on.
template <int kRows, int kScales, bool kMinima>
SW_TILE_TARGET void ContinueRows(PanelScratch& s, int n_groups, const RoundedRows& x, int row, int k0) {
  constexpr int kInputs = kRoundedGroup / kScales;
  const int64_t first = int64_t{row} * x.n_in + int64_t{k0} * kTile;  // of the inputs in tiles
  const int8_t* q = x.q + first;
  const float* e = x.scale + first / kRoundedGroup;
  const int32_t* row_sums = x.sums + first / kRoundedGroup;  // where there are minima
  float* y_rows = s.sums + row * kPanelRows;
  alignas(64) int32_t sums[kRing][kTile * kPanelRows];
  __m512 y[kRows];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) y[r] = _mm512_load_ps(y_rows + r * kPanelRows);
  const int n = n_groups * kScales;
  FinishWrites();
  for (int i = 0; i < n + kLag; ++i) {
    if (i < n) {
      const int g = i / kScales, j = i % kScales;
      if (row == 0 && j == 0) s.AskForNext(g);
      const ByteProduct product = {q + g * kTile * kRoundedGroup + j * kInputs, s.groups[g] + j * kInputs / 4 * kLine};
      i % 2 == 0 ? Multiply<0>(product, sums[i % kRing]) : Multiply<1>(product, sums[i % kRing]);
    }
    if (i < kLag) continue;
    const int at = i - kLag;
    const int32_t* dots = sums[at % kRing];
    const float* of_row = e + at / kScales * kTile;
    const __m512 scale = _mm512_load_ps(s.scale + at * kPanelRows);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r)
      y[r] = _mm512_fmadd_ps(ToFloats(_mm512_load_si512(dots + r * kPanelRows)),
                             _mm512_mul_ps(scale, _mm512_set1_ps(of_row[r])), y[r]);
    if constexpr (kMinima) {
      const __m512 min = _mm512_load_ps(s.min + at * kPanelRows);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r)
        y[r] = _mm512_fnmadd_ps(ToFloats(_mm512_set1_epi32(row_sums[at * kTile + r])),
                                _mm512_mul_ps(min, _mm512_set1_ps(of_row[r])), y[r]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) _mm512_store_ps(y_rows + r * kPanelRows, y[r]);
}

template <int kScales, bool kMinima>
void ContinueTile(PanelScratch& s, int n_groups, const RoundedRows& x, int row, int n_rows, int k0) {
  (n_rows > 8   ? ContinueRows<16, kScales, kMinima>
   : n_rows > 4 ? ContinueRows<8, kScales, kMinima>
                : ContinueRows<4, kScales, kMinima>)(s, n_groups, x, row, k0);
}

}  // namespace

ByteTiles::~ByteTiles() {
  if (n_rows_ != 0) ReleaseTiles();
}

void ByteTiles::Set(int n_rows, int scales_of_group) {
  if (n_rows == n_rows_ && scales_of_group == scales_of_group_) return;
  n_rows_ = n_rows;
  scales_of_group_ = scales_of_group;
  const int inputs = kRoundedGroup / scales_of_group;
  TileConfig config;
  for (const int sums : {0, 1}) config.Set(sums, n_rows, kLine);
  for (const int rows : {4, 5}) config.Set(rows, n_rows, inputs);
  for (const int lines : {6, 7}) config.Set(lines, inputs / 4, kLine);
  LoadTileConfig(config);
}

void ByteTiles::Continue(std::span<PanelScratch> panels, ByteTerms terms, int n_groups, const RoundedRows& x,
                         int n_rows, int k0) {
  const auto continue_tile = terms.scales_of_group == 2 ? ContinueTile<2, false>
                             : terms.minima             ? ContinueTile<1, true>
                                                        : ContinueTile<1, false>;
  for (int row = 0; row < n_rows; row += kTile) {
    const int n = std::min(kTile, n_rows - row);
    Set(n, terms.scales_of_group);
    for (PanelScratch& s : panels) continue_tile(s, n_groups, x, row, n, k0);
  }
}

}  // namespace spanwise::cpu

#else

namespace spanwise::cpu {

ByteTiles::~ByteTiles() = default;
void ByteTiles::Continue(std::span<PanelScratch>, ByteTerms, int, const RoundedRows&, int, int) {}

}  // namespace spanwise::cpu

#endif

#include "kernels/cpu/attention_tiles.h"

#include "kernels/cpu/cpu.h"
#include "kernels/element.h"

#if defined(__x86_64__) && defined(__linux__)

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cpu/tile_config.h"

namespace spanwise::cpu {
namespace {

constexpr int64_t kLine = 64, kTileBytes = 1024;
constexpr int64_t kScoreBytes = kKvBlockTokens * sizeof(float);  // of a query

// What memory is asked for, a few lines at a time, so that it never has more to bring than it can: half of the next
// block's keys beside the products with this one's, the rest and its values beside the pairing of these.
class Lines {
 public:
  Lines(const std::byte* from, int64_t bytes) : at_(from), end_(from + bytes) {}
  void Ask(int n) {
    for (; n > 0 && at_ < end_; --n, at_ += kLine) __builtin_prefetch(at_);
  }

 private:
  const std::byte* at_;
  const std::byte* end_;
};
constexpr int kAskedByKeys = 8;  // beside 1024 bytes of them

// Scores of up to 16 queries, q_bytes apart, and of 64 keys, whose panels are panel_bytes apart; those behind the panel
// `last` are not read.
SW_TILE_TARGET void MultiplyKeys(const float* q, int64_t q_bytes, const std::byte* keys, int64_t panel_bytes, int last,
                                 Lines& next, float* scores) {
  const std::byte* second = keys + std::min(1, last) * panel_bytes;
  const std::byte* third = keys + std::min(2, last) * panel_bytes;
  const std::byte* fourth = keys + std::min(3, last) * panel_bytes;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t at = 0; at < panel_bytes; at += kTileBytes) {
    _tile_loadd(4, reinterpret_cast<const std::byte*>(q) + at / kTile, q_bytes);
    _tile_loadd(6, keys + at, kLine);
    _tile_dpbf16ps(0, 4, 6);
    next.Ask(kAskedByKeys);
    _tile_loadd(7, second + at, kLine);
    _tile_dpbf16ps(1, 4, 7);
    next.Ask(kAskedByKeys);
    _tile_loadd(6, third + at, kLine);
    _tile_dpbf16ps(2, 4, 6);
    next.Ask(kAskedByKeys);
    _tile_loadd(7, fourth + at, kLine);
    _tile_dpbf16ps(3, 4, 7);
    next.Ask(kAskedByKeys);
  }
  _tile_stored(0, scores, kScoreBytes);
  _tile_stored(1, scores + kTile, kScoreBytes);
  _tile_stored(2, scores + 2 * kTile, kScoreBytes);
  _tile_stored(3, scores + 3 * kTile, kScoreBytes);
}

// 32 elements of the outputs of up to 16 queries, o_bytes apart, continued by all tokens of a block; the values of the
// second half of it are half_bytes behind those of the first.
SW_TILE_TARGET void MultiplyValues(const float* weights, const std::byte* values, int64_t half_bytes, float* o,
                                   int64_t o_bytes) {
  _tile_loadd(0, o, o_bytes);
  _tile_loadd(1, o + kTile, o_bytes);
  _tile_loadd(4, weights, kScoreBytes);
  _tile_loadd(6, values, kLine);
  _tile_dpbf16ps(0, 4, 6);
  _tile_loadd(7, values + kTileBytes, kLine);
  _tile_dpbf16ps(1, 4, 7);
  _tile_loadd(5, reinterpret_cast<const std::byte*>(weights) + kLine, kScoreBytes);
  _tile_loadd(6, values + half_bytes, kLine);
  _tile_dpbf16ps(0, 5, 6);
  _tile_loadd(7, values + half_bytes + kTileBytes, kLine);
  _tile_dpbf16ps(1, 5, 7);
  _tile_stored(0, o, o_bytes);
  _tile_stored(1, o + kTile, o_bytes);
}

// Puts 32 elements of two tokens side by side: 16 of them to `to`, the others to the tile behind it. What is not finite
// becomes zero; whether there was any.
SW_TILE_TARGET inline bool Pair(const std::byte* token, const std::byte* next_token, std::byte* to) {
  const __m512i exponent = _mm512_set1_epi16(0x7F80);
  __m512i a = _mm512_loadu_si512(token), b = next_token ? _mm512_loadu_si512(next_token) : _mm512_setzero_si512();
  const __mmask32 of_a = _mm512_cmpeq_epi16_mask(_mm512_and_si512(a, exponent), exponent);
  const __mmask32 of_b = _mm512_cmpeq_epi16_mask(_mm512_and_si512(b, exponent), exponent);
  if (__builtin_expect((of_a | of_b) != 0, 0)) {
    a = _mm512_mask_blend_epi16(of_a, a, _mm512_setzero_si512());
    b = _mm512_mask_blend_epi16(of_b, b, _mm512_setzero_si512());
  }
  // Within each quarter of a register: elements 0 to 3, then 4 to 7 of both.
  const __m512i low = _mm512_unpacklo_epi16(a, b), high = _mm512_unpackhi_epi16(a, b);
  const __m512i first = _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0),
                second = _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4);
  _mm512_store_si512(to, _mm512_permutex2var_epi64(low, first, high));
  _mm512_store_si512(to + kTileBytes, _mm512_permutex2var_epi64(low, second, high));
  return (of_a | of_b) != 0;
}

SW_TILE_TARGET void Round(float* x, int n) {
  auto* to = reinterpret_cast<std::byte*>(x);
  for (int i = 0; i < n; i += 32, to += kLine)
    _mm512_storeu_si512(to, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + i + 16), _mm512_loadu_ps(x + i)));
}

SW_TILE_TARGET bool PairAll(const TileBlock& block, int head_dim, std::byte* room) {
  const int64_t row = int64_t{head_dim} * 2, half = kTileBytes * head_dim / 16, bytes = kKvBlockTokens * row;
  Lines keys(block.keys + block.ahead + bytes / 2, block.ahead == 0 ? 0 : bytes / 2);
  Lines values(block.values + block.ahead, block.ahead == 0 ? 0 : bytes);
  bool unusual = false;
  for (int pair = 0; pair < kKvBlockTokens / 2; ++pair) {
    std::byte* to = room + pair / 16 * half + pair % 16 * kLine;
    const std::byte* token = block.values + 2 * pair * row;
    for (int64_t at = 0; at < row; at += kLine, to += 2 * kTileBytes) {
      keys.Ask(1);
      values.Ask(2);
      if (2 * pair < block.n_tokens) {
        unusual |= Pair(token + at, 2 * pair + 1 < block.n_tokens ? token + row + at : nullptr, to);
      } else {
        std::memset(to, 0, kLine);
        std::memset(to + kTileBytes, 0, kLine);
      }
    }
  }
  return unusual;
}

}  // namespace

bool AttendsByTiles(const AttentionShape& shape) {
  return UsesTiles() && shape.kv.dtype == DType::kBf16 && shape.kv.head_dim % 32 == 0;
}

void RoundToBf16InPlace(float* x, int n) { Round(x, n); }

AttentionTiles::~AttentionTiles() {
  if (n_rows_ != 0) ReleaseTiles();
}

void AttentionTiles::Set(int n_rows) {
  FinishWrites();
  if (n_rows == n_rows_) return;
  n_rows_ = n_rows;
  TileConfig config;
  for (const int rows : {0, 1, 2, 3, 4, 5}) config.Set(rows, n_rows, kLine);
  for (const int right : {6, 7}) config.Set(right, kTile, kLine);
  LoadTileConfig(config);
}

void AttentionTiles::Scores(const TileBlock& block, const float* q, int n_queries, float* scores) {
  const int64_t panel_bytes = int64_t{kTile} * head_dim_ * 2;
  Lines next(block.keys + block.ahead, block.ahead == 0 ? 0 : 2 * panel_bytes);
  for (int i = 0; i < n_queries; i += kTile) {
    Set(std::min(kTile, n_queries - i));
    MultiplyKeys(q + int64_t{i} * head_dim_, int64_t{head_dim_} * 4, block.keys, panel_bytes,
                 (block.n_tokens - 1) / kTile, next, scores + i * kKvBlockTokens);
  }
}

void AttentionTiles::SetValues(const TileBlock& block, std::byte* room) {
  block_ = block;
  values_ = room;
  unusual_ = PairAll(block, head_dim_, room);
}

void AttentionTiles::AddValues(const float* weights, int n_queries, float* o) {
  const int64_t half = kTileBytes * head_dim_ / 16;
  for (int i = 0; i < n_queries; i += kTile) {
    Set(std::min(kTile, n_queries - i));
    for (int at = 0; at < head_dim_; at += 2 * kTile)
      MultiplyValues(weights + i * kKvBlockTokens, values_ + kTileBytes * at / 16, half,
                     o + int64_t{i} * head_dim_ + at, int64_t{head_dim_} * 4);
  }
  if (unusual_) AddUnusual(weights, n_queries, o);
}

// What SetValues left out reaches those that give it weight.
void AttentionTiles::AddUnusual(const float* weights, int n_queries, float* o) const {
  for (int i = 0; i < n_queries; ++i) {
    const auto* of_query = reinterpret_cast<const std::byte*>(weights + i * kKvBlockTokens);
    for (int t = 0; t < block_.n_tokens; ++t) {
      const float weight = LoadElement(of_query, DType::kBf16, static_cast<size_t>(t));
      if (weight == 0) continue;
      for (int e = 0; e < head_dim_; ++e) {
        const float value = LoadElement(block_.values, DType::kBf16, static_cast<size_t>(t * head_dim_ + e));
        if (!std::isfinite(value)) o[i * head_dim_ + e] += weight * value;
      }
    }
  }
}

}  // namespace spanwise::cpu

#else

namespace spanwise::cpu {

bool AttendsByTiles(const AttentionShape&) { return false; }
void RoundToBf16InPlace(float*, int) {}
AttentionTiles::~AttentionTiles() = default;
void AttentionTiles::Scores(const TileBlock&, const float*, int, float*) {}
void AttentionTiles::SetValues(const TileBlock&, std::byte*) {}
void AttentionTiles::AddValues(const float*, int, float*) {}

}  // namespace spanwise::cpu

#endif

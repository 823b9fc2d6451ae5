// Products with bf16 matrices by the processor's matrix tiles (Intel AMX): registers of 16 rows of 64 bytes, and an
// instruction that adds the product of two of them to a third.
//
// Rows are rounded to bf16 first. An output is one chain over blocks of 32 inputs in ascending order: the instruction
// adds the products of a block's even inputs and those of its odd ones in two chains of fused multiply-adds from zero,
// and their sum to the output. (The Intel 64 and IA-32 Architectures Software Developer's Manual, TDPBF16PS; numbers
// below the normal ones are zero.) The bias is added last. So a row's result is the same in every batch, but not that
// of processors without tiles.
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/work.h"
#include "tensor/panels.h"

#if defined(__x86_64__) && defined(__linux__)

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "kernels/cpu/tile_config.h"

namespace spanwise::cpu {
namespace {

constexpr size_t kLine = 64;  // bytes of a row of a tile

// Tiles 0 to 3 hold the sums of two tiles of rows (4, 5) by two panels (6, 7), those of the first rows in 0 and 1; or
// those of one tile of rows (4) by four panels (6 and 7 in turn), whose streams keep the memory busier.

constexpr size_t kTileBytes = 1024;  // 32 inputs of a panel, or of a tile of rows
constexpr int kBlockTiles = 16;      // of a panel, multiplied before the next ones: 512 inputs
constexpr int kBf16Rows = 192;       // of one task's block
constexpr int kMostPanels = 4;       // at once, by one tile of rows; more rows take two
constexpr size_t kSumBytes = kMostPanels * kPanelRows * sizeof(float);  // of a row of sums
constexpr size_t kAhead = 4096;                                         // bytes by which few rows ask for weights

// n floats to bf16, to nearest, to row r of tiles, and zeros behind them.
SW_TILE_TARGET void RoundRow(const float* x, int n, std::byte* tiles, int r) {
  std::byte* to = tiles + r * kLine;
  int i = 0;
  for (; i + 32 <= n; i += 32, to += kTileBytes)
    _mm512_storeu_si512(to, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + i + 16), _mm512_loadu_ps(x + i)));
  if (i == n) return;
  float rest[32] = {};
  std::memcpy(rest, x + i, static_cast<size_t>(n - i) * sizeof(float));
  _mm512_storeu_si512(to, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(rest + 16), _mm512_loadu_ps(rest)));
}

// What is multiplied at once: tiles of rows, those of the next 16 rows behind a_bytes, with panels, each behind the one
// before by b_bytes.
struct TileProduct {
  const std::byte* a;
  size_t a_bytes;
  const std::byte* b;
  size_t b_bytes;
  int n_tiles;
  std::byte* c;  // sums, [rows, kMostPanels]
  bool ahead;    // ask for weights ahead
};

SW_TILE_TARGET inline void AskAhead(const std::byte* b) {
  for (size_t line = 0; line < kTileBytes; line += kLine) __builtin_prefetch(b + kAhead + line);
}

// Up to 32 rows by one or two panels.
template <bool kTwoTiles, bool kTwoPanels>
SW_TILE_TARGET void MultiplyTwo(const TileProduct& t) {
  std::byte* c1 = t.c + kTile * kSumBytes;
  FinishWrites();
  _tile_loadd(0, t.c, kSumBytes);
  if (kTwoPanels) _tile_loadd(1, t.c + kLine, kSumBytes);
  if (kTwoTiles) _tile_loadd(2, c1, kSumBytes);
  if (kTwoTiles && kTwoPanels) _tile_loadd(3, c1 + kLine, kSumBytes);
  for (size_t at = 0; at < static_cast<size_t>(t.n_tiles) * kTileBytes; at += kTileBytes) {
    if (t.ahead) {
      AskAhead(t.b + at);
      if (kTwoPanels) AskAhead(t.b + t.b_bytes + at);
    }
    _tile_loadd(4, t.a + at, kLine);
    _tile_loadd(6, t.b + at, kLine);
    _tile_dpbf16ps(0, 4, 6);
    if (kTwoPanels) _tile_loadd(7, t.b + t.b_bytes + at, kLine);
    if (kTwoPanels) _tile_dpbf16ps(1, 4, 7);
    if (kTwoTiles) _tile_loadd(5, t.a + t.a_bytes + at, kLine);
    if (kTwoTiles) _tile_dpbf16ps(2, 5, 6);
    if (kTwoTiles && kTwoPanels) _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, t.c, kSumBytes);
  if (kTwoPanels) _tile_stored(1, t.c + kLine, kSumBytes);
  if (kTwoTiles) _tile_stored(2, c1, kSumBytes);
  if (kTwoTiles && kTwoPanels) _tile_stored(3, c1 + kLine, kSumBytes);
}

// Up to 16 rows by four panels.
SW_TILE_TARGET void MultiplyFour(const TileProduct& t) {
  FinishWrites();
  _tile_loadd(0, t.c, kSumBytes);
  _tile_loadd(1, t.c + kLine, kSumBytes);
  _tile_loadd(2, t.c + 2 * kLine, kSumBytes);
  _tile_loadd(3, t.c + 3 * kLine, kSumBytes);
  for (size_t at = 0; at < static_cast<size_t>(t.n_tiles) * kTileBytes; at += kTileBytes) {
    if (t.ahead)
      for (size_t p = 0; p < 4; ++p) AskAhead(t.b + p * t.b_bytes + at);
    _tile_loadd(4, t.a + at, kLine);
    _tile_loadd(6, t.b + at, kLine);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, t.b + t.b_bytes + at, kLine);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(6, t.b + 2 * t.b_bytes + at, kLine);
    _tile_dpbf16ps(2, 4, 6);
    _tile_loadd(7, t.b + 3 * t.b_bytes + at, kLine);
    _tile_dpbf16ps(3, 4, 7);
  }
  _tile_stored(0, t.c, kSumBytes);
  _tile_stored(1, t.c + kLine, kSumBytes);
  _tile_stored(2, t.c + 2 * kLine, kSumBytes);
  _tile_stored(3, t.c + 3 * kLine, kSumBytes);
}

// The tiles of the calling thread, set for some rows.
class Bf16Tiles {
 public:
  ~Bf16Tiles() { ReleaseTiles(); }

  // n_rows of at most 32 rows by n_panels of at most four panels, two where there are more than 16 rows.
  void Multiply(int n_rows, int n_panels, TileProduct t) {
    Set(n_rows);
    if (n_rows > kTile) return (n_panels == 2 ? MultiplyTwo<true, true> : MultiplyTwo<true, false>)(t);
    if (n_panels == 4) return MultiplyFour(t);
    for (int p = 0; p < n_panels; p += 2, t.b += 2 * t.b_bytes, t.c += 2 * kLine)
      (p + 2 <= n_panels ? MultiplyTwo<false, true> : MultiplyTwo<false, false>)(t);
  }

 private:
  void Set(int n_rows) {
    if (n_rows == n_rows_) return;
    n_rows_ = n_rows;
    TileConfig config;
    // Sums of four panels by one tile of rows stand in 0 to 3.
    const int first = std::min(kTile, n_rows), second = n_rows > kTile ? n_rows - kTile : first;
    for (const int tile : {0, 1, 4}) config.Set(tile, first, 64);
    for (const int tile : {2, 3, 5}) config.Set(tile, second, 64);
    for (const int tile : {6, 7}) config.Set(tile, kTile, 64);
    LoadTileConfig(config);
  }

  int n_rows_ = 0;
};

// A task: some rows, in tiles, by some panels of a matrix.
struct Bf16Block {
  const std::byte* a;
  size_t a_bytes;  // of a tile of rows
  int n_rows;      // at most kBf16Rows
  const std::byte* panels;
  size_t panel_bytes;
  int n_panels, n_in;
};

// Sums to c.
void MultiplyBf16(const Bf16Block& b, Bf16Tiles& tiles, std::byte* c) {
  std::memset(c, 0, static_cast<size_t>(b.n_rows) * kSumBytes);
  const int n_whole = b.n_in / 32;
  const auto multiply = [&](const std::byte* panels, size_t panel_bytes, int tile, int n_tiles) {
    for (int row = 0; row < b.n_rows; row += 2 * kTile)
      tiles.Multiply(std::min(2 * kTile, b.n_rows - row), b.n_panels,
                     {.a = b.a + static_cast<size_t>(row / kTile) * b.a_bytes + static_cast<size_t>(tile) * kTileBytes,
                      .a_bytes = b.a_bytes,
                      .b = panels,
                      .b_bytes = panel_bytes,
                      .n_tiles = n_tiles,
                      .c = c + static_cast<size_t>(row) * kSumBytes,
                      .ahead = b.n_rows <= 2 * kTile});
  };
  for (int tile = 0; tile < n_whole; tile += kBlockTiles)
    multiply(b.panels + static_cast<size_t>(tile) * kTileBytes, b.panel_bytes, tile,
             std::min(kBlockTiles, n_whole - tile));
  if (b.n_in % 32 == 0) return;
  alignas(64) std::byte rest[kMostPanels * kTileBytes] = {};
  const size_t at = static_cast<size_t>(n_whole) * kTileBytes;
  for (size_t p = 0; p < static_cast<size_t>(b.n_panels); ++p)
    std::memcpy(rest + p * kTileBytes, b.panels + p * b.panel_bytes + at, b.panel_bytes - at);
  multiply(rest, kTileBytes, n_whole, 1);
}

bool FindTiles() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bf16") ||
      __get_cpuid_count(7, 0, &a, &b, &c, &d) == 0)
    return false;
  constexpr unsigned kAmx = 1U << 22 | 1U << 24 | 1U << 25;  // bf16, tiles, int8
  if ((d & kAmx) != kAmx) return false;
  constexpr long kAskPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kAskPermission, kTileData) == 0;
}

}  // namespace

bool HasTiles() {
  static const bool has = FindTiles();
  return has;
}

void MatMulsBf16Tiles(ThreadPool& pool, const float* x, int64_t x_stride, int n_rows,
                      std::span<const Product> products) {
  const int n_in = products[0].w.n_in;
  const auto rows = static_cast<size_t>(n_rows), n_row_tiles = (rows + kTile - 1) / kTile;
  const size_t a_bytes = (static_cast<size_t>(n_in) + 31) / 32 * kTileBytes;
  auto* a = reinterpret_cast<std::byte*>(Scratch::Floats<1>(n_row_tiles * a_bytes / sizeof(float)));
  ForRanges(pool, rows, a_bytes / kLine, [&](size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r)
      RoundRow(x + static_cast<int64_t>(r) * x_stride, n_in, a + r / kTile * a_bytes, static_cast<int>(r % kTile));
  });

  const int block_out = (n_rows > kTile ? 2 : kMostPanels) * kPanelRows;
  const size_t n_row_blocks = (rows + kBf16Rows - 1) / kBf16Rows;
  const size_t panel_bytes = PanelBytes(WeightType::kBf16, kPanelRows, static_cast<size_t>(n_in));
  // A tile's product does the work of many multiply-adds, and takes as long for few rows as their weights do to come.
  const size_t work = std::max<size_t>(kTile, std::min<size_t>(rows, kBf16Rows)) * static_cast<size_t>(block_out) *
                      static_cast<size_t>(n_in) / 16;
  const auto loop_of = [&](size_t i) {
    const size_t n_out_blocks = (static_cast<size_t>(products[i].w.n_out) + static_cast<size_t>(block_out) - 1) /
                                static_cast<size_t>(block_out);
    return Pieces(n_row_blocks * n_out_blocks, work);
  };
  ForEachRange(pool, products.size(), loop_of, [&](size_t of, size_t begin, size_t end) {
    const auto& [w, bias, y, y_stride] = products[of];
    float* c = Scratch::Floats(kBf16Rows * kSumBytes / sizeof(float));
    Bf16Tiles tiles;
    for (size_t i = begin; i < end; ++i) {
      const size_t row = i % n_row_blocks * kBf16Rows;
      const int out = static_cast<int>(i / n_row_blocks) * block_out, width = std::min(block_out, w.n_out - out);
      const int n = static_cast<int>(std::min<size_t>(kBf16Rows, rows - row));
      MultiplyBf16({.a = a + row / kTile * a_bytes,
                    .a_bytes = a_bytes,
                    .n_rows = n,
                    .panels = w.data + static_cast<size_t>(out / kPanelRows) * panel_bytes,
                    .panel_bytes = panel_bytes,
                    .n_panels = (width + kPanelRows - 1) / kPanelRows,
                    .n_in = n_in},
                   tiles, reinterpret_cast<std::byte*>(c));
      for (int r = 0; r < n; ++r) {
        float* to = y + (static_cast<int64_t>(row) + r) * y_stride + out;
        const float* from = c + static_cast<size_t>(r) * kSumBytes / sizeof(float);
        for (int o = 0; o < width; ++o) to[o] = bias.empty() ? from[o] : from[o] + bias[static_cast<size_t>(out + o)];
      }
    }
  });
}

}  // namespace spanwise::cpu

#else

namespace spanwise::cpu {

bool HasTiles() { return false; }

void MatMulsBf16Tiles(ThreadPool&, const float*, int64_t, int, std::span<const Product>) {}

}  // namespace spanwise::cpu

#endif

// The processor's matrix tiles (Intel AMX): eight registers of up to 16 rows of 64 bytes.
#pragma once

#include <immintrin.h>

#include <cstdint>

#define SW_TILE_TARGET \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,amx-tile,amx-bf16,amx-int8")))

namespace spanwise::cpu {

inline constexpr int kTile = 16;  // rows of a tile, and 32-bit columns

// What LDTILECFG reads.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  void Set(int tile, int n_rows, int bytes) {
    rows[tile] = static_cast<uint8_t>(n_rows);
    row_bytes[tile] = static_cast<uint16_t>(bytes);
  }
};

// GCC's intrinsics do not say what memory they read: all that was written is to be there.
inline void FinishWrites() { asm volatile("" ::: "memory"); }

SW_TILE_TARGET inline void LoadTileConfig(const TileConfig& config) {
  FinishWrites();
  _tile_loadconfig(&config);
}
SW_TILE_TARGET inline void ReleaseTiles() { _tile_release(); }

}  // namespace spanwise::cpu

// What the vector path and matrix tiles share of products with matrices of block types.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/panels.h"

namespace spanwise::cpu {

inline constexpr int kQuantisedRows = 256;  // rows of one task's block
inline constexpr int kChunkGroups = 8;      // groups of 32 inputs unpacked at once
inline constexpr size_t kLine = 64, kLinesOfGroup = 8;

// Rows that a matrix tile takes at once.
inline constexpr int kRowsOfTile = 16;

// Rows rounded to int8 in groups of 32. Those for matrix tiles stand as tiles do: in blocks of kRowsOfTile rows, of
// which the last has memory for all of them.
struct RoundedRows {
  int8_t* q;      // [n_rows, n_in], in tiles [n_rows / 16, n_in / 32, 16, 32]
  float* scale;   // [n_rows, n_in / 32], in tiles [n_rows / 16, n_in / 32, 16]
  int32_t* sums;  // [n_rows, n_in / sum_group] of the integers, in tiles [n_rows / 16, n_in / sum_group, 16]
  int n_in;
  int sum_group;  // inputs that share a scale of the weights, 32 at most
};

// Where one of them is written: its first group and sum, and how far it is to the next.
struct RoundedRow {
  int8_t* q;
  float* scale;
  int32_t* sums;
  int64_t q_step, step;  // bytes; scales and sums
};

// What a thread needs for a panel.
struct PanelScratch {
  alignas(64) float sums[kQuantisedRows * kPanelRows];
  alignas(64) uint8_t bytes[kChunkGroups * kLinesOfGroup * kLine];
  alignas(64) float scale[kChunkGroups * 2 * kPanelRows];
  alignas(64) float min[kChunkGroups * kPanelRows];
  const uint8_t* groups[kChunkGroups];  // each group: its lines in `bytes`, or as the panel has it
  const std::byte* next;                // where what is unpacked next stands
  size_t next_group_bytes;              // of it, for each group

  // Asks memory for a share of it: spread over the products, so that they and memory work at the same time.
  void AskForNext(int group) const {
    const std::byte* from = next + static_cast<size_t>(group) * next_group_bytes;
    for (size_t i = 0; i < next_group_bytes; i += kLine) __builtin_prefetch(from + i);
  }
};

// How a panel's unpacked bytes, signed and without their offset, become terms of its chains.
struct ByteTerms {
  int scales_of_group;  // 1, or 2 of 16 inputs each
  bool minima;
};

// Matrix tiles of bytes (Intel AMX): the same integers, scaled and added in the same order as by vectors, so the same
// bits. REQUIRES, of all its calls: HasTiles(). Belongs to one thread, which has no other tiles while it lives.
class ByteTiles {
 public:
  ByteTiles() = default;
  ~ByteTiles();
  ByteTiles(const ByteTiles&) = delete;
  ByteTiles& operator=(const ByteTiles&) = delete;

  // Continues the chains of rows [0, n_rows) in some panels by n_groups groups, which begin at input k0. REQUIRES: x
  // stands in tiles.
  void Continue(std::span<PanelScratch> panels, ByteTerms terms, int n_groups, const RoundedRows& x, int n_rows,
                int k0);

 private:
  void Set(int n_rows, int scales_of_group);

  int n_rows_ = 0, scales_of_group_ = 0;  // that the registers are set for
};

}  // namespace spanwise::cpu

// Matrices as the kernels read them: the rows of 16 outputs side by side, so that a vector holds one input, or two or
// four neighbours, of each, and a product reads memory from one end to the other.
//
// A matrix [n_out][n_in] is ceil(n_out / 16) panels one after another; rows that do not exist are zero. A panel of
// plain floats:
//
//   f32, f16  for each input: 16 elements
//   bf16      for each two inputs: 16 pairs of elements; the pair of the last input, where n_in is odd, has a zero
//
// A panel of a block type is n_in / elements panel blocks, each made of the 16 rows' blocks (tensor/weight_type.h) at
// that place:
//
//   d       16 x f16
//   m       16 x f16                                       types with minima
//   s       scales of the block x 16 bytes                 types with scales (elements / scale_group of them)
//   t       scales of the block x 16 bytes                 types with scales and minima
//   groups  elements / 32 times the integers q of 32 inputs, where byte 4 o + i of a line of 64 belongs to output o:
//     8 bits  lines c = 0 ... 7:      q of input 4 c + i
//     less    lines c = 0 ... 3:      low four bits: of input 4 c + i; high four bits: of input 16 + 4 c + i, both
//                                     without what stands in the following lines
//     5 bits  then one line:          bit c is bit 4 of input 4 c + i
//     6 bits  then lines v = 0, 1:    bits 2 c and 2 c + 1 are bits 4 and 5 of input 16 v + 4 c + i
//
// So a panel has the bytes of its 16 rows, but for the packed scales of kQ4K and kQ5K, which take 4 bytes more a block.
#pragma once

#include <cstddef>

#include "tensor/weight_type.h"

namespace spanwise {

inline constexpr int kPanelRows = 16;

// Where the parts of a panel's block begin, in bytes (d: at its beginning), and how large they are.
struct PanelBlock {
  size_t n_scales, n_groups;  // of a row
  size_t m, s, t, groups;
  size_t group_bytes, bytes;
};

// REQUIRES: a block type.
constexpr PanelBlock PanelBlockOf(WeightType type) {
  const BlockKind kind = KindOf(type);
  const size_t elements = BlockOf(type).elements, rows = kPanelRows;
  PanelBlock b{};
  b.n_scales = kind.scale_group == 0 ? 0 : elements / static_cast<size_t>(kind.scale_group);
  b.n_groups = elements / 32;
  b.m = 2 * rows;
  b.s = b.m + (kind.minima ? 2 * rows : 0);
  b.t = b.s + b.n_scales * rows;
  b.groups = b.t + (kind.minima ? b.n_scales * rows : 0);
  b.group_bytes = static_cast<size_t>(kind.bits) * 4 * rows;
  b.bytes = b.groups + b.n_groups * b.group_bytes;
  return b;
}

// Where input k of output `row` stands in a panel, in bytes.
constexpr size_t PlainPanelOffset(DType dtype, size_t row, size_t k) {
  if (dtype == DType::kBf16) return (k / 2 * kPanelRows + row) * 4 + k % 2 * 2;
  return (k * kPanelRows + row) * DTypeBytes(dtype);
}

// The bytes of panels for n_out rows. REQUIRES: n_in is a multiple of the block's elements.
size_t PanelBytes(WeightType type, size_t n_out, size_t n_in);

// Lays out one panel: rows[i] points at the elements or blocks of row i, or is null for a row of zeros.
void PackPanel(WeightType type, const std::byte* const rows[kPanelRows], size_t n_in, std::byte* panel);

// The elements of one row of a matrix in panels, as Widen gives them.
void WidenPanelRow(WeightType type, const std::byte* panels, size_t row, size_t n_in, float* out);

}  // namespace spanwise

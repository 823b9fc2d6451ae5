#include "tensor/panels.h"

#include <cstring>

#include "base/check.h"

namespace spanwise {
namespace {

constexpr size_t kRows = kPanelRows, kLine = 64, kGroup = 32;

std::byte Byte(int value) { return static_cast<std::byte>(value); }

// Adds the 32 integers `q` of one row to the lines of a group, which start as zeros.
void PackGroup(int bits, const int8_t* q, size_t row, std::byte* group) {
  for (size_t k = 0; k < kGroup; ++k) {
    const size_t line = k / 4, at = 4 * row + k % 4;
    if (bits == 8) {
      group[line * kLine + at] = Byte(q[k]);
      continue;
    }
    group[line % 4 * kLine + at] |= Byte((q[k] & 15) << (line < 4 ? 0 : 4));
    if (bits == 5) group[4 * kLine + at] |= Byte((q[k] >> 4) << line);
    if (bits == 6) group[(4 + line / 4) * kLine + at] |= Byte((q[k] >> 4) << 2 * (line % 4));
  }
}

void UnpackGroup(int bits, const std::byte* group, size_t row, int8_t* q) {
  for (size_t k = 0; k < kGroup; ++k) {
    const size_t line = k / 4, at = 4 * row + k % 4;
    const auto byte = [&](size_t i) { return static_cast<int>(group[i * kLine + at]); };
    if (bits == 8) {
      q[k] = static_cast<int8_t>(byte(line));
      continue;
    }
    int value = line < 4 ? byte(line) & 15 : byte(line - 4) >> 4;
    if (bits == 5) value |= (byte(4) >> line & 1) << 4;
    if (bits == 6) value |= (byte(4 + line / 4) >> 2 * (line % 4) & 3) << 4;
    q[k] = static_cast<int8_t>(value);
  }
}

// A row's elements of T for one input, or two together, stand so far apart.
template <typename T>
void PackRows(const std::byte* const rows[kPanelRows], size_t n, std::byte* panel) {
  for (size_t k = 0; k < n; ++k) {
    for (size_t row = 0; row < kRows; ++row, panel += sizeof(T))
      if (rows[row] != nullptr) std::memcpy(panel, rows[row] + k * sizeof(T), sizeof(T));
  }
}

void PackPlain(DType dtype, const std::byte* const rows[kPanelRows], size_t n_in, std::byte* panel) {
  if (dtype == DType::kF16) return PackRows<uint16_t>(rows, n_in, panel);
  if (dtype == DType::kF32) return PackRows<uint32_t>(rows, n_in, panel);
  PackRows<uint32_t>(rows, n_in / 2, panel);
  for (size_t row = 0; n_in % 2 != 0 && row < kRows; ++row)
    if (rows[row] != nullptr)
      std::memcpy(panel + PlainPanelOffset(dtype, row, n_in - 1), rows[row] + 2 * (n_in - 1), 2);
}

}  // namespace

size_t PanelBytes(WeightType type, size_t n_out, size_t n_in) {
  SW_DCHECK(n_in % BlockOf(type).elements == 0);
  if (const auto plain = PlainDType(type))
    return (n_out + kRows - 1) / kRows * PlainPanelOffset(*plain, 0, n_in + (*plain == DType::kBf16 ? n_in % 2 : 0));
  return (n_out + kRows - 1) / kRows * (n_in / BlockOf(type).elements) * PanelBlockOf(type).bytes;
}

void PackPanel(WeightType type, const std::byte* const rows[kPanelRows], size_t n_in, std::byte* panel) {
  std::memset(panel, 0, PanelBytes(type, kRows, n_in));
  if (const auto plain = PlainDType(type)) return PackPlain(*plain, rows, n_in, panel);
  const WeightBlock block = BlockOf(type);
  const BlockKind kind = KindOf(type);
  const PanelBlock at = PanelBlockOf(type);
  for (size_t row = 0; row < kRows; ++row) {
    if (rows[row] == nullptr) continue;
    std::byte* out = panel;
    const std::byte* from = rows[row];
    for (size_t i = 0; i < n_in; i += block.elements, from += block.bytes, out += at.bytes) {
      BlockFields f;
      ReadBlock(type, from, &f);
      std::memcpy(out + 2 * row, &f.d, 2);
      if (kind.minima) std::memcpy(out + at.m + 2 * row, &f.m, 2);
      for (size_t j = 0; j < at.n_scales; ++j) {
        out[at.s + j * kRows + row] = Byte(f.scale[j]);
        if (kind.minima) out[at.t + j * kRows + row] = Byte(f.min[j]);
      }
      for (size_t g = 0; g < at.n_groups; ++g)
        PackGroup(kind.bits, f.q + g * kGroup, row, out + at.groups + g * at.group_bytes);
    }
  }
}

void WidenPanelRow(WeightType type, const std::byte* panels, size_t row, size_t n_in, float* out) {
  const std::byte* panel = panels + row / kRows * PanelBytes(type, kRows, n_in);
  const size_t r = row % kRows;
  if (const auto plain = PlainDType(type)) {
    for (size_t k = 0; k < n_in; ++k) Widen(type, panel + PlainPanelOffset(*plain, r, k), 1, out + k);
    return;
  }
  const size_t elements = BlockOf(type).elements;
  const BlockKind kind = KindOf(type);
  const PanelBlock at = PanelBlockOf(type);
  for (size_t i = 0; i < n_in; i += elements, panel += at.bytes, out += elements) {
    BlockFields f;
    std::memcpy(&f.d, panel + 2 * r, 2);
    if (kind.minima) std::memcpy(&f.m, panel + at.m + 2 * r, 2);
    for (size_t j = 0; j < at.n_scales; ++j) {
      f.scale[j] = static_cast<int8_t>(panel[at.s + j * kRows + r]);
      if (kind.minima) f.min[j] = static_cast<uint8_t>(panel[at.t + j * kRows + r]);
    }
    for (size_t g = 0; g < at.n_groups; ++g)
      UnpackGroup(kind.bits, panel + at.groups + g * at.group_bytes, r, f.q + g * kGroup);
    WidenFields(type, f, out);
  }
}

}  // namespace spanwise

#include "tensor/panels.h"

#include <cstring>

#include "base/check.h"

namespace spanwise {
namespace {

constexpr size_t kRows = kPanelRows, kLine = 64, kGroup = 32;

size_t ScalesOf(WeightType type) {
  const int group = KindOf(type).scale_group;
  return group == 0 ? 0 : BlockOf(type).elements / static_cast<size_t>(group);
}

// Where the parts of one row lie in a panel block.
struct Places {
  explicit Places(WeightType type)
      : kind(KindOf(type)),
        n_scales(ScalesOf(type)),
        m(2 * kRows),
        scales(m + (kind.minima ? 2 * kRows : 0)),
        minima(scales + n_scales * kRows),
        groups(minima + (kind.minima ? n_scales * kRows : 0)),
        group_bytes(kind.bits == 8 ? 8 * kLine : 4 * kLine + static_cast<size_t>(kind.bits - 4) * kLine) {}

  BlockKind kind;
  size_t n_scales, m, scales, minima, groups, group_bytes;
};

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

size_t PanelBlockHead(WeightType type) { return Places(type).groups; }
size_t PanelGroupBytes(WeightType type) { return Places(type).group_bytes; }

size_t PanelBlockBytes(WeightType type) {
  const Places places(type);
  return places.groups + BlockOf(type).elements / kGroup * places.group_bytes;
}

size_t PanelBytes(WeightType type, size_t n_out, size_t n_in) {
  SW_DCHECK(n_in % BlockOf(type).elements == 0);
  if (const auto plain = PlainDType(type))
    return (n_out + kRows - 1) / kRows * PlainPanelOffset(*plain, 0, n_in + (*plain == DType::kBf16 ? n_in % 2 : 0));
  return (n_out + kRows - 1) / kRows * (n_in / BlockOf(type).elements) * PanelBlockBytes(type);
}

void PackPanel(WeightType type, const std::byte* const rows[kPanelRows], size_t n_in, std::byte* panel) {
  std::memset(panel, 0, PanelBytes(type, kRows, n_in));
  if (const auto plain = PlainDType(type)) return PackPlain(*plain, rows, n_in, panel);
  const WeightBlock block = BlockOf(type);
  const Places places(type);
  const size_t block_bytes = PanelBlockBytes(type);
  for (size_t row = 0; row < kRows; ++row) {
    if (rows[row] == nullptr) continue;
    std::byte* out = panel;
    const std::byte* from = rows[row];
    for (size_t i = 0; i < n_in; i += block.elements, from += block.bytes, out += block_bytes) {
      BlockFields f;
      ReadBlock(type, from, &f);
      std::memcpy(out + 2 * row, &f.d, 2);
      if (places.kind.minima) std::memcpy(out + places.m + 2 * row, &f.m, 2);
      for (size_t j = 0; j < places.n_scales; ++j) {
        out[places.scales + j * kRows + row] = Byte(f.scale[j]);
        if (places.kind.minima) out[places.minima + j * kRows + row] = Byte(f.min[j]);
      }
      for (size_t g = 0; g < block.elements / kGroup; ++g)
        PackGroup(places.kind.bits, f.q + g * kGroup, row, out + places.groups + g * places.group_bytes);
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
  const WeightBlock block = BlockOf(type);
  const Places places(type);
  for (size_t i = 0; i < n_in; i += block.elements, panel += PanelBlockBytes(type), out += block.elements) {
    BlockFields f;
    std::memcpy(&f.d, panel + 2 * r, 2);
    if (places.kind.minima) std::memcpy(&f.m, panel + places.m + 2 * r, 2);
    for (size_t j = 0; j < places.n_scales; ++j) {
      f.scale[j] = static_cast<int8_t>(panel[places.scales + j * kRows + r]);
      if (places.kind.minima) f.min[j] = static_cast<uint8_t>(panel[places.minima + j * kRows + r]);
    }
    for (size_t g = 0; g < block.elements / kGroup; ++g)
      UnpackGroup(places.kind.bits, panel + places.groups + g * places.group_bytes, r, f.q + g * kGroup);
    WidenFields(type, f, out);
  }
}

}  // namespace spanwise

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/kv_codes.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cstring>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace spanwise::cpu::HWY_NAMESPACE {

using DI = hn::RebindToSigned<DF>;
using D8 = hn::Rebind<uint8_t, DF>;

// Codes j * kLanes ... of a line as integers.
template <KvCode kCode>
HWY_INLINE hn::Vec<DI> LoadCodes(const std::byte* line, int j) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(line);
  const D8 d8;
  if constexpr (kCode != KvCode::kU4) {
    return hn::PromoteTo(DI(), hn::LoadU(d8, bytes + j * kLanes));
  } else if constexpr (kLanes == kCodesPerLine) {
#if HWY_TARGET != HWY_SCALAR  // which has no Combine
    const hn::Half<D8> half;
    const auto pairs = hn::LoadU(half, bytes);
    return hn::PromoteTo(DI(), hn::Combine(d8, hn::ShiftRight<4>(pairs), hn::And(pairs, hn::Set(half, uint8_t{15}))));
#endif
  } else {
    const auto pairs = hn::PromoteTo(DI(), hn::LoadU(d8, bytes + j * kLanes % 8));
    return j * kLanes < 8 ? hn::And(pairs, hn::Set(DI(), 15)) : hn::ShiftRight<4>(pairs);
  }
}

// What they say.
template <KvCode kCode>
HWY_INLINE VF LoadNumbers(const std::byte* line, int j) {
  const DF d;
  const DI di;
  const auto codes = LoadCodes<kCode>(line, j);
  if constexpr (kCode != KvCode::kE4m3) {
    return hn::ConvertTo(d, codes);
  } else {
    const auto magnitude = hn::And(codes, hn::Set(di, 127));
    // The exponent is biased by 127 instead of 7. Without one the mantissa counts in units of 2^-9.
    const auto normal = hn::BitCast(d, hn::Add(hn::ShiftLeft<20>(magnitude), hn::Set(di, 120 << 23)));
    const auto tiny = hn::Mul(hn::ConvertTo(d, magnitude), hn::Set(d, 0x1p-9f));
    auto number = hn::IfThenElse(hn::RebindMask(d, hn::Lt(magnitude, hn::Set(di, 8))), tiny, normal);
    number = hn::IfThenElse(hn::RebindMask(d, hn::Eq(magnitude, hn::Set(di, 127))), hn::NaN(d), number);
    const auto sign = hn::ShiftLeft<24>(hn::And(codes, hn::Set(di, 128)));
    return hn::BitCast(d, hn::Or(hn::BitCast(di, number), sign));
  }
}

HWY_INLINE float LoadBf16(const std::byte* from, size_t i) {
  uint16_t bits;
  std::memcpy(&bits, from + 2 * i, 2);
  return Bf16ToFloat(bits);
}

// A group's scale and offset.
struct Group {
  VF scale, offset;
  bool has_offset;
  HWY_INLINE Group(const CodedHead& head, size_t i)
      : scale(hn::Set(DF(), LoadBf16(head.scales, i))), has_offset(head.offsets != nullptr) {
    offset = has_offset ? hn::Set(DF(), LoadBf16(head.offsets, i)) : hn::Zero(DF());
  }
  HWY_INLINE VF Apply(VF numbers) const {
    const VF product = hn::Mul(numbers, scale);
    return has_offset ? hn::Add(product, offset) : product;  // -0 stays what it is
  }
};

template <KvCode kCode>
void DecodeKeysOf(const KvGeometry& kv, const CodedHead& head, int n_tokens, std::byte* keys) {
  const hn::RebindToUnsigned<DF> du;
  const std::byte* line = head.lines;
  for (int first = 0; first < n_tokens; first += kPanelRows) {
    // Two channels side by side are 16 pairs of bf16, or 2 x 16 floats.
    for (int i = 0; i < kv.head_dim; i += 2, line += 2 * CodeLineBytes(kCode)) {
      const Group even(head, static_cast<size_t>(i)), odd(head, static_cast<size_t>(i) + 1);
      std::byte* to = keys + kv.KeyElementOffset(first, i);
      for (int j = 0; j < kVecsPerPanel; ++j) {
        const VF a = even.Apply(LoadNumbers<kCode>(line, j));
        const VF b = odd.Apply(LoadNumbers<kCode>(line + CodeLineBytes(kCode), j));
        if (kv.dtype == DType::kBf16) {
          const auto pairs =
              hn::Or(hn::ShiftRight<16>(RoundToBf16(a)), hn::And(RoundToBf16(b), hn::Set(du, 0xFFFF0000u)));
          hn::StoreU(pairs, du, reinterpret_cast<uint32_t*>(to) + j * kLanes);
        } else {
          hn::StoreU(a, DF(), reinterpret_cast<float*>(to) + j * kLanes);
          hn::StoreU(b, DF(), reinterpret_cast<float*>(to) + kPanelRows + j * kLanes);
        }
      }
    }
  }
}

template <KvCode kCode>
void DecodeValuesOf(const KvGeometry& kv, const CodedHead& head, int n_tokens, std::byte* values) {
  const hn::RebindToSigned<DF> di;
  const hn::Rebind<uint16_t, DF> d16;
  const size_t n_groups = static_cast<size_t>((kv.head_dim + kValuesPerGroup - 1) / kValuesPerGroup);
  const size_t element = DTypeBytes(kv.dtype), row_bytes = static_cast<size_t>(kv.head_dim) * element;
  const std::byte* line = head.lines;
  size_t group_index = 0;
  for (int token = 0; token < n_tokens; ++token) {
    std::byte* row = values + static_cast<size_t>(token) * row_bytes;
    for (size_t g = 0; g < n_groups; ++g, ++group_index) {
      const Group group(head, group_index);
      const int begin = static_cast<int>(g) * kValuesPerGroup, end = HWY_MIN(begin + kValuesPerGroup, kv.head_dim);
      for (int i = begin; i < end; i += kCodesPerLine, line += CodeLineBytes(kCode)) {
        HWY_ALIGN std::byte rest[kCodesPerLine * 4];
        const bool whole = i + kCodesPerLine <= end;
        std::byte* to = whole ? row + static_cast<size_t>(i) * element : rest;
        for (int j = 0; j < kVecsPerPanel; ++j) {
          const VF v = group.Apply(LoadNumbers<kCode>(line, j));
          if (kv.dtype == DType::kBf16) {
            const auto rounded = hn::BitCast(di, hn::ShiftRight<16>(RoundToBf16(v)));
            hn::StoreU(hn::DemoteTo(d16, rounded), d16, reinterpret_cast<uint16_t*>(to) + j * kLanes);
          } else {
            hn::StoreU(v, DF(), reinterpret_cast<float*>(to) + j * kLanes);
          }
        }
        if (!whole) std::memcpy(row + static_cast<size_t>(i) * element, rest, static_cast<size_t>(end - i) * element);
      }
    }
  }
}

void DecodeKeysHead(const KvGeometry& kv, const CodedHead& head, int n_tokens, std::byte* keys) {
  switch (head.code) {
    case KvCode::kU4:
      return DecodeKeysOf<KvCode::kU4>(kv, head, n_tokens, keys);
    case KvCode::kU8:
      return DecodeKeysOf<KvCode::kU8>(kv, head, n_tokens, keys);
    case KvCode::kE4m3:
      return DecodeKeysOf<KvCode::kE4m3>(kv, head, n_tokens, keys);
  }
}

void DecodeValuesHead(const KvGeometry& kv, const CodedHead& head, int n_tokens, std::byte* values) {
  switch (head.code) {
    case KvCode::kU4:
      return DecodeValuesOf<KvCode::kU4>(kv, head, n_tokens, values);
    case KvCode::kU8:
      return DecodeValuesOf<KvCode::kU8>(kv, head, n_tokens, values);
    case KvCode::kE4m3:
      return DecodeValuesOf<KvCode::kE4m3>(kv, head, n_tokens, values);
  }
}

}  // namespace spanwise::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace spanwise::cpu {

HWY_EXPORT(DecodeKeysHead);
HWY_EXPORT(DecodeValuesHead);

void DecodeKeys(const KvGeometry& kv, const CodedHead& head, int n_tokens, std::byte* keys) {
  HWY_DYNAMIC_DISPATCH(DecodeKeysHead)(kv, head, n_tokens, keys);
}

void DecodeValues(const KvGeometry& kv, const CodedHead& head, int n_tokens, std::byte* values) {
  HWY_DYNAMIC_DISPATCH(DecodeValuesHead)(kv, head, n_tokens, values);
}

}  // namespace spanwise::cpu
#endif

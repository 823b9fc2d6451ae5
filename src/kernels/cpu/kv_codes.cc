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

// Floats from here on have no fraction: added to a small one, it leaves the nearest integer in the lowest bits.
inline constexpr float kToInteger = 0x1p23f;

// The nearest codes, in the lowest 8 bits.
template <KvCode kCode>
HWY_INLINE hn::Vec<DI> NearestCodes(VF x, VF offset, VF inverse) {
  const DF d;
  const hn::RebindToUnsigned<DF> du;
  const DI di;
  if constexpr (HasOffsets(kCode)) {
    const VF step = hn::Mul(hn::Sub(x, offset), inverse);
    const VF clamped = hn::Min(hn::Max(step, hn::Zero(d)), hn::Set(d, static_cast<float>(LastCode(kCode))));
    return hn::And(hn::BitCast(di, hn::Add(clamped, hn::Set(d, kToInteger))), hn::Set(di, LastCode(kCode)));
  } else {
    const VF scaled = hn::Mul(x, inverse);
    const VF magnitude = hn::Min(hn::Abs(scaled), hn::Set(d, kMostE4m3));
    const auto bits = hn::BitCast(du, magnitude);
    const auto even = hn::And(hn::ShiftRight<20>(bits), hn::Set(du, 1u));
    const auto normal =
        hn::Sub(hn::ShiftRight<20>(hn::Add(bits, hn::Add(even, hn::Set(du, 0x7FFFFu)))), hn::Set(du, 120u << 3));
    const auto tiny = hn::And(hn::BitCast(du, hn::Add(hn::Mul(magnitude, hn::Set(d, 512.0f)), hn::Set(d, kToInteger))),
                              hn::Set(du, 15u));
    const auto is_tiny = hn::RebindMask(du, hn::Lt(magnitude, hn::Set(d, kLeastNormalE4m3)));
    const auto sign = hn::ShiftLeft<7>(
        hn::IfThenElse(hn::RebindMask(du, hn::Lt(scaled, hn::Zero(d))), hn::Set(du, 1u), hn::Zero(du)));
    return hn::BitCast(di, hn::And(hn::Or(hn::IfThenElse(is_tiny, tiny, normal), sign), hn::Set(du, 255u)));
  }
}

// One group of n elements. x: aligned, with room for whole lines.
template <KvCode kCode>
HWY_INLINE void EncodeGroup(const CodedHeadOut& head, size_t group, int n, size_t first_line, size_t stride, float* x) {
  const DF d;
  const int n_padded = (n + kCodesPerLine - 1) / kCodesPerLine * kCodesPerLine;
  for (int i = n; i < n_padded; ++i) x[i] = x[0];
  VF least = hn::Load(d, x), greatest = least;
  for (int i = kLanes; i < n_padded; i += kLanes) {
    const VF v = hn::Load(d, x + i);
    least = hn::Min(v, least);
    greatest = hn::Max(v, greatest);
  }
  const CodeScale fit =
      FitCodes(kCode, hn::GetLane(hn::MinOfLanes(d, least)), hn::GetLane(hn::MaxOfLanes(d, greatest)));
  const uint16_t scale = FloatToBf16(fit.scale), zero = FloatToBf16(fit.offset);
  std::memcpy(head.scales + 2 * group, &scale, 2);
  if (HasOffsets(kCode)) std::memcpy(head.offsets + 2 * group, &zero, 2);
  const VF offset = hn::Set(d, fit.offset), inverse = hn::Set(d, fit.inverse);
  std::byte* line = head.lines + first_line * CodeLineBytes(kCode);
  for (int i = 0; i < n_padded; i += kCodesPerLine, line += stride * CodeLineBytes(kCode)) {
    HWY_ALIGN uint8_t codes[kCodesPerLine];
    for (int j = 0; j < kCodesPerLine; j += kLanes)
      hn::StoreU(hn::DemoteTo(D8(), NearestCodes<kCode>(hn::Load(d, x + i + j), offset, inverse)), D8(), codes + j);
    for (int j = n - i; j < kCodesPerLine; ++j) codes[j] = 0;
    if constexpr (kCode == KvCode::kU4) {
      uint64_t low, high;
      std::memcpy(&low, codes, 8);
      std::memcpy(&high, codes + 8, 8);
      low |= high << 4;
      std::memcpy(line, &low, 8);
    } else {
      std::memcpy(line, codes, kCodesPerLine);
    }
  }
}

template <KvCode kCode>
void EncodeKeysOf(const KvGeometry& kv, const std::byte* keys, int n_tokens, const CodedHeadOut& head) {
  const DF d;
  const auto dim = static_cast<size_t>(kv.head_dim);
  HWY_ALIGN float x[2][kKvBlockTokens];
  for (int i = 0; i < kv.head_dim; i += 2) {
    for (int first = 0; first < n_tokens; first += kPanelRows) {
      const std::byte* from = keys + kv.KeyElementOffset(first, i);
      VF v[2][kVecsPerPanel];
      if (kv.dtype == DType::kBf16) {
        Bf16Right::Load(from, v);
      } else {
        for (int j = 0; j < 2 * kVecsPerPanel; ++j)
          v[j / kVecsPerPanel][j % kVecsPerPanel] = hn::LoadU(d, reinterpret_cast<const float*>(from) + j * kLanes);
      }
      for (int j = 0; j < 2 * kVecsPerPanel; ++j)
        hn::Store(v[j / kVecsPerPanel][j % kVecsPerPanel], d,
                  x[j / kVecsPerPanel] + first + j % kVecsPerPanel * kLanes);
    }
    for (int k = 0; k < 2; ++k)
      EncodeGroup<kCode>(head, static_cast<size_t>(i + k), n_tokens, static_cast<size_t>(i + k), dim, x[k]);
  }
}

template <KvCode kCode>
void EncodeValuesOf(const KvGeometry& kv, const std::byte* values, int n_tokens, const CodedHeadOut& head) {
  const DF d;
  const size_t element = DTypeBytes(kv.dtype);
  HWY_ALIGN float x[kValuesPerGroup];
  size_t group = 0, line = 0;
  for (int token = 0; token < n_tokens; ++token)
    for (int begin = 0; begin < kv.head_dim; begin += kValuesPerGroup, ++group) {
      const int n = HWY_MIN(kValuesPerGroup, kv.head_dim - begin);
      const std::byte* from = values + static_cast<size_t>(token * kv.head_dim + begin) * element;
      int i = 0;
      if (kv.dtype == DType::kBf16) {
        for (; i + kLanes <= n; i += kLanes) hn::Store(WidenBf16(from + static_cast<size_t>(i) * 2), d, x + i);
        for (; i < n; ++i) x[i] = LoadBf16(from, static_cast<size_t>(i));
      } else {
        std::memcpy(x, from, static_cast<size_t>(n) * 4);
      }
      EncodeGroup<kCode>(head, group, n, line, 1, x);
      line += static_cast<size_t>((n + kCodesPerLine - 1) / kCodesPerLine);
    }
}

void EncodeKeysHead(const KvGeometry& kv, const std::byte* keys, int n_tokens, const CodedHeadOut& head) {
  switch (head.code) {
    case KvCode::kU4:
      return EncodeKeysOf<KvCode::kU4>(kv, keys, n_tokens, head);
    case KvCode::kU8:
      return EncodeKeysOf<KvCode::kU8>(kv, keys, n_tokens, head);
    case KvCode::kE4m3:
      return EncodeKeysOf<KvCode::kE4m3>(kv, keys, n_tokens, head);
  }
}

void EncodeValuesHead(const KvGeometry& kv, const std::byte* values, int n_tokens, const CodedHeadOut& head) {
  switch (head.code) {
    case KvCode::kU4:
      return EncodeValuesOf<KvCode::kU4>(kv, values, n_tokens, head);
    case KvCode::kU8:
      return EncodeValuesOf<KvCode::kU8>(kv, values, n_tokens, head);
    case KvCode::kE4m3:
      return EncodeValuesOf<KvCode::kE4m3>(kv, values, n_tokens, head);
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

HWY_EXPORT(EncodeKeysHead);
HWY_EXPORT(EncodeValuesHead);
HWY_EXPORT(DecodeKeysHead);
HWY_EXPORT(DecodeValuesHead);

void EncodeKeys(const KvGeometry& kv, const std::byte* keys, int n_tokens, const CodedHeadOut& head) {
  HWY_DYNAMIC_DISPATCH(EncodeKeysHead)(kv, keys, n_tokens, head);
}

void EncodeValues(const KvGeometry& kv, const std::byte* values, int n_tokens, const CodedHeadOut& head) {
  HWY_DYNAMIC_DISPATCH(EncodeValuesHead)(kv, values, n_tokens, head);
}

void DecodeKeys(const KvGeometry& kv, const CodedHead& head, int n_tokens, std::byte* keys) {
  HWY_DYNAMIC_DISPATCH(DecodeKeysHead)(kv, head, n_tokens, keys);
}

void DecodeValues(const KvGeometry& kv, const CodedHead& head, int n_tokens, std::byte* values) {
  HWY_DYNAMIC_DISPATCH(DecodeValuesHead)(kv, head, n_tokens, values);
}

}  // namespace spanwise::cpu
#endif

// exp and log from IEEE double additions, multiplications and divisions in a fixed order: the same bits with every C
// library, vector width and backend, as long as the compiler does not fuse (-ffp-contract=off; __dmul_rn and __dadd_rn
// in CUDA). Errors stay below 4 units in the last place. Thread-safe, no state.
#pragma once

#include <bit>
#include <cstdint>

namespace spanwise::decode {

// e^x for x <= 709; below -708 (and for NaN) it stays at e^-708, so that no backend meets a subnormal number.
inline double FixedExp(double x) {
  constexpr double kLog2e = 1.4426950408889634,
                   kRound = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to an integer
  constexpr double kLn2High = 0x1.62e42fefa0000p-1, kLn2Low = 0x1.cf79abc9e3b3ap-40;
  const double y = x > -708.0 ? x : -708.0;
  const double shifted = y * kLog2e + kRound;
  const double n = shifted - kRound;
  const double r = (y - n * kLn2High) - n * kLn2Low;  // |r| <= ln2 / 2; n * kLn2High is exact
  // Taylor to degree 13 (truncation under 2^-56), paired as Estrin does: short chains, or latency decides the speed.
  const double r2 = r * r, r4 = r2 * r2;
  const double a0 = 1.0 + r, a1 = 0.5 + r * (1.0 / 6.0), a2 = 1.0 / 24.0 + r * (1.0 / 120.0);
  const double a3 = 1.0 / 720.0 + r * (1.0 / 5040.0), a4 = 1.0 / 40320.0 + r * (1.0 / 362880.0);
  const double a5 = 1.0 / 3628800.0 + r * (1.0 / 39916800.0), a6 = 1.0 / 479001600.0 + r * (1.0 / 6227020800.0);
  const double b0 = a0 + r2 * a1, b1 = a2 + r2 * a3, b2 = a4 + r2 * a5;
  const double p = (b0 + r4 * b1) + (r4 * r4) * (b2 + r4 * a6);
  // The integer n stands in the low bits of `shifted`; moved to the exponent field it is 2^n.
  const uint64_t exponent = (std::bit_cast<uint64_t>(shifted) + 1023) << 52;
  return p * std::bit_cast<double>(exponent);
}

// ln x for normal, positive, finite x.
inline double FixedLog(double x) {
  constexpr double kLn2High = 0x1.62e42fefa0000p-1, kLn2Low = 0x1.cf79abc9e3b3ap-40;
  const uint64_t bits = std::bit_cast<uint64_t>(x);
  int64_t exponent = static_cast<int64_t>(bits >> 52) - 1023;
  double m = std::bit_cast<double>((bits & 0x000FFFFFFFFFFFFFu) | 0x3FF0000000000000u);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++exponent;
  }
  const double s = (m - 1.0) / (m + 1.0), z = s * s;  // ln m = 2 (s + s^3/3 + s^5/5 + ...), |s| <= 0.1716
  double p = 2.0 / 21.0;
  p = p * z + 2.0 / 19.0;
  p = p * z + 2.0 / 17.0;
  p = p * z + 2.0 / 15.0;
  p = p * z + 2.0 / 13.0;
  p = p * z + 2.0 / 11.0;
  p = p * z + 2.0 / 9.0;
  p = p * z + 2.0 / 7.0;
  p = p * z + 2.0 / 5.0;
  p = p * z + 2.0 / 3.0;
  const double e = static_cast<double>(exponent);
  return e * kLn2High + (2.0 * s + (s * z * p + e * kLn2Low));
}

}  // namespace spanwise::decode

#include "decode/noise.h"

#include "decode/fixed_math.h"

namespace spanwise::decode {

PhiloxBlock Philox4x32(PhiloxBlock counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * counter[0], b = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

Noise::Noise(uint64_t seed, uint32_t stream)
    : key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)}, stream_(stream) {}

std::array<double, 4> Noise::Uniforms(uint32_t out_pos, uint32_t group) const {
  const PhiloxBlock bits = Philox4x32({group, out_pos, stream_, 0}, key_);
  std::array<double, 4> u;
  for (int i = 0; i < 4; ++i) u[i] = (static_cast<double>(bits[i]) + 0.5) * 0x1p-32;
  return u;
}

double Noise::Uniform(uint32_t out_pos, uint32_t token) const { return Uniforms(out_pos, token / 4)[token % 4]; }

float Noise::Exp1(uint32_t out_pos, uint32_t token) const { return ExponentialOf(Uniform(out_pos, token)); }

float ExponentialOf(double uniform) { return static_cast<float>(-FixedLog(uniform)); }

}  // namespace spanwise::decode

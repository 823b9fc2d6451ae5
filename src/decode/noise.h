// Sampling noise as a pure function of (seed, stream, output position, token): neither the batch, nor the drafter, nor
// the backend can change a seeded text, and nothing has to be rewound.
#pragma once

#include <array>
#include <cstdint>

namespace spanwise::decode {

// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011): ten rounds of a
// bijection on 128-bit counters.
using PhiloxBlock = std::array<uint32_t, 4>;
PhiloxBlock Philox4x32(PhiloxBlock counter, std::array<uint32_t, 2> key);

// Immutable, thread-safe. Key: the seed's two halves. Counter: {token / 4, out_pos, stream, 0}; lane: token % 4. The
// same arguments give the same bits forever; the last counter word is kept for other uses than choosing tokens.
class Noise {
 public:
  // `stream` separates the choices of one request (n > 1, branches) that share a seed.
  Noise(uint64_t seed, uint32_t stream);

  // u in (0, 1): (32 random bits + 1/2) / 2^32.
  double Uniform(uint32_t out_pos, uint32_t token) const;

  // -ln u, Exp(1) distributed, in [2^-33, 22.9): one rounding from a double logarithm of fixed operation order.
  float Exp1(uint32_t out_pos, uint32_t token) const;

  // The four uniforms of tokens 4 * group ... 4 * group + 3, at the price of one.
  std::array<double, 4> Uniforms(uint32_t out_pos, uint32_t group) const;

 private:
  std::array<uint32_t, 2> key_;
  uint32_t stream_;
};

// The one definition of -ln u above, for callers that hold u.
float ExponentialOf(double uniform);

}  // namespace spanwise::decode

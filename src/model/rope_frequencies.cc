#include "model/rope_frequencies.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace spanwise {
namespace {

constexpr double kTwoPi = 2 * std::numbers::pi;

// Slow dimensions (wavelength beyond the trained context) are interpolated, fast ones kept, those between blended.
void ScaleLlama3(const RopeConfig& rope, int original, std::vector<double>& inverse) {
  const double long_wave = original / rope.low_freq_factor, short_wave = original / rope.high_freq_factor;
  for (double& f : inverse) {
    const double wave = kTwoPi / f;
    if (wave > long_wave) {
      f /= rope.factor;
    } else if (wave >= short_wave) {
      const double keep = (original / wave - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
      f = (1 - keep) * f / rope.factor + keep * f;
    }
  }
}

void ScaleYarn(const RopeConfig& rope, int rotary_dim, int original, std::vector<double>& inverse) {
  // The dimension whose wavelength makes `rotations` turns over the trained context.
  const auto dimension = [&](double rotations) {
    return rotary_dim * std::log(original / (rotations * kTwoPi)) / (2 * std::log(rope.theta));
  };
  double low = dimension(rope.beta_fast), high = dimension(rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, rotary_dim - 1.0);
  if (low == high) high += 0.001;
  for (size_t i = 0; i < inverse.size(); ++i) {
    const double interpolate = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    inverse[i] = inverse[i] / rope.factor * interpolate + inverse[i] * (1 - interpolate);
  }
}

double YarnMagnitude(double factor, double mscale = 1.0) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

}  // namespace

RopeFrequencies MakeRopeFrequencies(const RopeConfig& rope, int rotary_dim, int head_dim, int max_positions) {
  RopeFrequencies out;
  out.inverse.resize(static_cast<size_t>(rotary_dim / 2));
  for (size_t i = 0; i < out.inverse.size(); ++i)
    out.inverse[i] = std::pow(rope.theta, -2.0 * static_cast<double>(i) / rotary_dim);
  const int original = rope.original_max_positions > 0 ? rope.original_max_positions : max_positions;
  switch (rope.scaling) {
    case RopeConfig::Scaling::kNone:
      break;
    case RopeConfig::Scaling::kLinear:
      for (double& f : out.inverse) f /= rope.factor;
      break;
    case RopeConfig::Scaling::kLlama3:
      ScaleLlama3(rope, original, out.inverse);
      break;
    case RopeConfig::Scaling::kYarn:
      ScaleYarn(rope, rotary_dim, original, out.inverse);
      out.attention_scale = rope.attention_factor                ? *rope.attention_factor
                            : rope.mscale && rope.mscale_all_dim ? YarnMagnitude(rope.factor, *rope.mscale) /
                                                                       YarnMagnitude(rope.factor, *rope.mscale_all_dim)
                                                                 : YarnMagnitude(rope.factor);
      break;
    case RopeConfig::Scaling::kDivided:
      for (size_t i = 0; i < out.inverse.size(); ++i) out.inverse[i] /= rope.divisors[i];
      out.attention_scale = rope.attention_factor.value_or(1.0);
      break;
  }
  out.inverse.resize(static_cast<size_t>(head_dim / 2), 0.0);
  return out;
}

std::vector<int> HeadOrder(int rotary_dim, int head_dim) {
  std::vector<int> order;
  const int turns = rotary_dim / 2, still = (head_dim - rotary_dim) / 2;
  for (const int half : {0, 1}) {
    for (int i = 0; i < turns; ++i) order.push_back(half * turns + i);
    for (int i = 0; i < still; ++i) order.push_back(rotary_dim + half * still + i);
  }
  return order;
}

}  // namespace spanwise

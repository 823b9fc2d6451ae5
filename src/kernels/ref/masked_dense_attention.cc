#include "kernels/ref/masked_dense_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace spanwise::ref {
namespace {

std::vector<double> Rotated(const float* in, int64_t position, std::span<const double> inverse_frequencies) {
  const size_t half = inverse_frequencies.size();
  std::vector<double> out(2 * half);
  for (size_t i = 0; i < half; ++i) {
    const double angle = static_cast<double>(position) * inverse_frequencies[i];
    const double a = in[i], b = in[i + half];
    out[i] = a * std::cos(angle) - b * std::sin(angle);
    out[i + half] = b * std::cos(angle) + a * std::sin(angle);
  }
  return out;
}

}  // namespace

std::vector<double> MaskedDenseAttention(const MaskedDenseProblem& p) {
  const auto n_keys = static_cast<size_t>(p.n_keys), n_heads = static_cast<size_t>(p.n_heads);
  const auto n_kv_heads = static_cast<size_t>(p.n_kv_heads), dim = static_cast<size_t>(p.head_dim);
  std::vector<std::vector<double>> keys;  // [n_keys, n_kv_heads], rotated
  for (size_t j = 0; j < n_keys * n_kv_heads; ++j) {
    keys.push_back(Rotated(p.k.data() + j * dim, p.k_positions[j / n_kv_heads], p.inverse_frequencies));
  }

  std::vector<double> out(static_cast<size_t>(p.n_queries) * n_heads * dim, 0.0);
  std::vector<double> scores(n_keys);
  for (size_t row = 0; row < static_cast<size_t>(p.n_queries); ++row) {
    for (size_t head = 0; head < n_heads; ++head) {
      const size_t kv_head = head / (n_heads / n_kv_heads);
      const std::vector<double> q =
          Rotated(p.q.data() + (row * n_heads + head) * dim, p.q_positions[row], p.inverse_frequencies);
      double max = -std::numeric_limits<double>::infinity();
      for (size_t j = 0; j < n_keys; ++j) {
        if (!p.mask[row * n_keys + j]) continue;
        scores[j] = 0;
        for (size_t i = 0; i < dim; ++i) scores[j] += q[i] * keys[j * n_kv_heads + kv_head][i];
        scores[j] *= p.scale;
        if (p.softcap != 0) scores[j] = p.softcap * std::tanh(scores[j] / p.softcap);
        max = std::max(max, scores[j]);
      }
      double sum = 0;
      double* o = out.data() + (row * n_heads + head) * dim;
      for (size_t j = 0; j < n_keys; ++j) {
        if (!p.mask[row * n_keys + j]) continue;
        const double weight = std::exp(scores[j] - max);
        sum += weight;
        for (size_t i = 0; i < dim; ++i) o[i] += weight * p.v[(j * n_kv_heads + kv_head) * dim + i];
      }
      for (size_t i = 0; i < dim; ++i) o[i] /= sum;
    }
  }
  return out;
}

}  // namespace spanwise::ref

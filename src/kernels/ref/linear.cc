#include <cmath>
#include <numbers>
#include <vector>

#include "base/check.h"
#include "kernels/element.h"
#include "kernels/ref/ref.h"
#include "kernels/rounded.h"

namespace spanwise::ref {
namespace {

// What kernels/rounded.h defines, but summed in double over the weights as Widen gives them.
void MatMulQuantised(ThreadPool& pool, const float* x, int64_t x_stride, int n_rows, const WeightMatrix& w,
                     WeightVector bias, float* y, int64_t y_stride) {
  const auto n_in = static_cast<size_t>(w.n_in), rows = static_cast<size_t>(n_rows);
  std::vector<float> rounded(rows * n_in);
  for (size_t r = 0; r < rows; ++r) {
    for (size_t i = 0; i < n_in; i += kRoundedGroup) {
      int8_t q[kRoundedGroup];
      const float scale = RoundGroup(x + static_cast<int64_t>(r) * x_stride + i, q);
      for (size_t k = 0; k < kRoundedGroup; ++k) rounded[r * n_in + i + k] = scale * static_cast<float>(q[k]);
    }
  }
  pool.ParallelFor(static_cast<size_t>(w.n_out), [&](size_t o) {
    std::vector<float> weights(n_in);
    WidenPanelRow(w.type, w.data, o, n_in, weights.data());
    for (size_t r = 0; r < rows; ++r) {
      double sum = bias.empty() ? 0 : bias[o];
      for (size_t i = 0; i < n_in; ++i) sum += static_cast<double>(rounded[r * n_in + i]) * weights[i];
      y[static_cast<int64_t>(r) * y_stride + static_cast<int64_t>(o)] = static_cast<float>(sum);
    }
  });
}

}  // namespace

void MatMuls(ThreadPool& pool, const float* x, int64_t x_stride, int n_rows, std::span<const Product> products) {
  for (const Product& p : products) MatMul(pool, x, x_stride, n_rows, p.w, p.bias, p.y, p.y_stride);
}

void MatMul(ThreadPool& pool, const float* x, int64_t x_stride, int n_rows, const WeightMatrix& w, WeightVector bias,
            float* y, int64_t y_stride) {
  SW_DCHECK(bias.empty() || bias.size() == static_cast<size_t>(w.n_out));
  if (w.quantised()) return MatMulQuantised(pool, x, x_stride, n_rows, w, bias, y, y_stride);
  pool.ParallelFor(static_cast<size_t>(w.n_out), [&](size_t o) {
    std::vector<float> weights(static_cast<size_t>(w.n_in));
    WidenPanelRow(w.type, w.data, o, weights.size(), weights.data());
    for (int r = 0; r < n_rows; ++r) {
      double sum = bias.empty() ? 0 : bias[o];
      for (int i = 0; i < w.n_in; ++i)
        sum += static_cast<double>(x[r * x_stride + i]) * weights[static_cast<size_t>(i)];
      y[r * y_stride + static_cast<int64_t>(o)] = static_cast<float>(sum);
    }
  });
}

void RmsNorm(ThreadPool& pool, const float* x, int64_t x_stride, int n_rows, int dim, WeightVector gain, float eps,
             float* y, int64_t y_stride) {
  SW_DCHECK(gain.size() == static_cast<size_t>(dim));
  pool.ParallelFor(static_cast<size_t>(n_rows), [&](size_t row) {
    const float* in = x + static_cast<int64_t>(row) * x_stride;
    float* out = y + static_cast<int64_t>(row) * y_stride;
    double sum = 0;
    for (int i = 0; i < dim; ++i) sum += static_cast<double>(in[i]) * in[i];
    const double inverse = 1 / std::sqrt(sum / dim + static_cast<double>(eps));
    for (int i = 0; i < dim; ++i) out[i] = static_cast<float>(in[i] * inverse * gain[static_cast<size_t>(i)]);
  });
}

void GatedUnit(ThreadPool& pool, Activation activation, const float* gate, const float* up, int n_rows, int dim,
               float* out) {
  pool.ParallelFor(static_cast<size_t>(n_rows), [&](size_t row) {
    for (int64_t i = static_cast<int64_t>(row) * dim; i < static_cast<int64_t>(row + 1) * dim; ++i) {
      const double g = gate[i];
      const double active = activation == Activation::kSilu
                                ? g / (1 + std::exp(-g))
                                : g * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (g + 0.044715 * g * g * g))) / 2;
      out[i] = static_cast<float>(active * up[i]);
    }
  });
}

void Add(ThreadPool&, float* x, const float* y, float scale, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = std::fma(y[i], scale, x[i]);
}

void ScaleAndCap(ThreadPool&, float* x, float scale, float cap, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const double scaled = static_cast<double>(x[i]) * scale;
    x[i] = static_cast<float>(cap == 0 ? scaled : cap * std::tanh(scaled / cap));
  }
}

void EmbedRows(ThreadPool&, const WeightMatrix& w, const int32_t* ids, int n_rows, float* out) {
  const auto n_in = static_cast<size_t>(w.n_in);
  for (size_t r = 0; r < static_cast<size_t>(n_rows); ++r) {
    SW_DCHECK(ids[r] >= 0 && ids[r] < w.n_out);
    WidenPanelRow(w.type, w.data, static_cast<size_t>(ids[r]), n_in, out + r * n_in);
  }
}

}  // namespace spanwise::ref

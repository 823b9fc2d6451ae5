#include "kernels/cpu/cpu.h"

#include "kernels/ref/ref.h"

namespace spanwise::cpu {

std::span<const std::string_view> TargetNames() { return {}; }
std::string_view WidestTarget() { return "ref"; }
bool SelectTarget(std::string_view) { return false; }

void MatMul(ThreadPool& pool, const float* x, int64_t x_stride, int n_rows, const WeightMatrix& w, WeightVector bias,
            float* y, int64_t y_stride) {
  ref::MatMul(pool, x, x_stride, n_rows, w, bias, y, y_stride);
}
void RmsNorm(ThreadPool& pool, const float* x, int64_t x_stride, int n_rows, int dim, WeightVector gain, float eps,
             float* y, int64_t y_stride) {
  ref::RmsNorm(pool, x, x_stride, n_rows, dim, gain, eps, y, y_stride);
}
void SwiGlu(ThreadPool& pool, const float* gate, const float* up, int n_rows, int dim, float* out) {
  ref::SwiGlu(pool, gate, up, n_rows, dim, out);
}
void Add(ThreadPool& pool, float* x, const float* y, int64_t n) { ref::Add(pool, x, y, n); }
void EmbedRows(ThreadPool& pool, const WeightMatrix& w, const int32_t* ids, int n_rows, float* out) {
  ref::EmbedRows(pool, w, ids, n_rows, out);
}
void StoreKv(ThreadPool& pool, const KvGeometry& kv, int layer, const float* k, const float* v, int64_t stride,
             int n_rows, const RotationTable& table, std::span<std::byte* const> blocks, int first) {
  ref::StoreKv(pool, kv, layer, k, v, stride, n_rows, table, blocks, first);
}
void SpanAttention(ThreadPool& pool, const AttentionShape& shape, std::span<const AttentionSequence> sequences) {
  ref::SpanAttention(pool, shape, sequences);
}

}  // namespace spanwise::cpu

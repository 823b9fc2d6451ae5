#include "kernels/ops.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "base/str.h"
#include "kernels/cpu/cpu.h"
#include "kernels/ref/ref.h"

namespace spanwise::ops {
namespace {

struct Path {
  decltype(&MatMuls) mat_muls;
  decltype(&RmsNorm) rms_norm;
  decltype(&GatedUnit) gated_unit;
  decltype(&Add) add;
  decltype(&ScaleAndCap) scale_and_cap;
  decltype(&EmbedRows) embed_rows;
  decltype(&StoreKv) store_kv;
  decltype(&EncodeKeys) encode_keys;
  decltype(&EncodeValues) encode_values;
  decltype(&DecodeKeys) decode_keys;
  decltype(&DecodeValues) decode_values;
  decltype(&SpanAttention) span_attention;
};

constexpr Path kRef = {ref::MatMuls,      ref::RmsNorm,    ref::GatedUnit,    ref::Add,
                       ref::ScaleAndCap,  ref::EmbedRows,  ref::StoreKv,      ref::EncodeKeys,
                       ref::EncodeValues, ref::DecodeKeys, ref::DecodeValues, ref::SpanAttention};
constexpr Path kCpu = {cpu::MatMuls,      cpu::RmsNorm,    cpu::GatedUnit,    cpu::Add,
                       cpu::ScaleAndCap,  cpu::EmbedRows,  cpu::StoreKv,      cpu::EncodeKeys,
                       cpu::EncodeValues, cpu::DecodeKeys, cpu::DecodeValues, cpu::SpanAttention};

// Both set by SelectIsa alone; null until then.
std::atomic<const Path*> chosen_path = nullptr;
std::atomic<const char*> chosen_name = nullptr;

const Path& Current() {
  const Path* path = chosen_path.load(std::memory_order_acquire);
  if (path == nullptr) {
    if (const Status status = SelectIsa(""); !status.ok()) {
      std::fprintf(stderr, "%s\n", status.message().c_str());
      std::abort();
    }
    path = chosen_path.load(std::memory_order_acquire);
  }
  return *path;
}

}  // namespace

Status SelectIsa(std::string_view name) {
  const char* source = "instruction set";
  if (name.empty()) {
    const char* forced = std::getenv("SPANWISE_ISA");
    name = forced != nullptr && *forced != '\0' ? std::string_view(forced) : cpu::BestTarget();
    source = "SPANWISE_ISA";
  }
  if (name == "ref") {
    chosen_name.store("ref", std::memory_order_relaxed);
    chosen_path.store(&kRef, std::memory_order_release);
    return Status::Ok();
  }
  std::string known = "ref";
  for (const std::string_view target : cpu::TargetNames()) {
    known += StrFormat(", {}", target);
    if (name != target) continue;
    if (!cpu::SelectTarget(target)) {
      return Unavailable(StrFormat("{}: this processor has no {}", source, Quoted(name)));
    }
    chosen_name.store(target.data(), std::memory_order_relaxed);
    chosen_path.store(&kCpu, std::memory_order_release);
    return Status::Ok();
  }
  return InvalidArgument(StrFormat("{}: unknown name {}, expected one of {}", source, Quoted(name), known));
}

const char* Isa() {
  Current();
  return chosen_name.load(std::memory_order_relaxed);
}

const char* Formulas() {
  const std::string_view isa = Isa();
  if (isa == "avx2" || isa == "avx512") return "fused";
  return isa == "amx" ? "amx, attention by tiles" : isa.data();  // once it was by vectors
}

void MatMuls(ThreadPool& pool, const float* x, int64_t x_stride, int n_rows, std::span<const Product> products) {
  Current().mat_muls(pool, x, x_stride, n_rows, products);
}

void MatMul(ThreadPool& pool, const float* x, int64_t x_stride, int n_rows, const WeightMatrix& w, WeightVector bias,
            float* y, int64_t y_stride) {
  const Product product{w, bias, y, y_stride};
  MatMuls(pool, x, x_stride, n_rows, {&product, 1});
}

void RmsNorm(ThreadPool& pool, const float* x, int64_t x_stride, int n_rows, int dim, WeightVector gain, float eps,
             float* y, int64_t y_stride) {
  Current().rms_norm(pool, x, x_stride, n_rows, dim, gain, eps, y, y_stride);
}

void GatedUnit(ThreadPool& pool, Activation activation, const float* gate, const float* up, int n_rows, int dim,
               float* out) {
  Current().gated_unit(pool, activation, gate, up, n_rows, dim, out);
}

void Add(ThreadPool& pool, float* x, const float* y, float scale, int64_t n) { Current().add(pool, x, y, scale, n); }

void ScaleAndCap(ThreadPool& pool, float* x, float scale, float cap, int64_t n) {
  Current().scale_and_cap(pool, x, scale, cap, n);
}

void EmbedRows(ThreadPool& pool, const WeightMatrix& w, const int32_t* ids, int n_rows, float* out) {
  Current().embed_rows(pool, w, ids, n_rows, out);
}

void StoreKv(ThreadPool& pool, const KvGeometry& kv, int layer, const float* k, const float* v, int64_t stride,
             const RotationTable& table, std::span<std::byte* const> blocks, std::span<const int32_t> at) {
  Current().store_kv(pool, kv, layer, k, v, stride, table, blocks, at);
}

void EncodeKeys(const KvGeometry& kv, const std::byte* keys, int n_tokens, const CodedHeadOut& head) {
  Current().encode_keys(kv, keys, n_tokens, head);
}

void EncodeValues(const KvGeometry& kv, const std::byte* values, int n_tokens, const CodedHeadOut& head) {
  Current().encode_values(kv, values, n_tokens, head);
}

void DecodeKeys(const KvGeometry& kv, const CodedHead& head, int n_tokens, std::byte* keys) {
  Current().decode_keys(kv, head, n_tokens, keys);
}

void DecodeValues(const KvGeometry& kv, const CodedHead& head, int n_tokens, std::byte* values) {
  Current().decode_values(kv, head, n_tokens, values);
}

void SpanAttention(ThreadPool& pool, const AttentionShape& shape, std::span<const AttentionSequence> sequences) {
  Current().span_attention(pool, shape, sequences);
}

}  // namespace spanwise::ops

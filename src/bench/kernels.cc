// The operations that nearly all time goes into, each beside the least time that the machine could take.
#include <algorithm>
#include <chrono>
#include <map>
#include <numeric>

#include "base/pages.h"
#include "bench/limits.h"
#include "bench/speed.h"
#include "kernels/ops.h"
#include "kernels/rope.h"

namespace spanwise::bench {
namespace {

double Ms(const std::function<void()>& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

struct Machine {
  ThreadPool& pool;
  double float_rate = 0, bf16_rate = 0, int8_rate = 0;

  explicit Machine(ThreadPool& p)
      : pool(p),
        float_rate(PeakRate(pool, Arithmetic::kFloat)),
        bf16_rate(PeakRate(pool, Arithmetic::kBf16)),
        int8_rate(PeakRate(pool, Arithmetic::kInt8)) {}

  // The rate that products with weights of this type could have.
  double Rate(WeightType type) const {
    if (!PlainDType(type)) return int8_rate;
    return type == WeightType::kBf16 && bf16_rate > 0 ? bf16_rate : float_rate;
  }
  // The least time for so many bytes and operations. Memory is measured each time.
  double LeastMs(double bytes, double ops, double rate) const {
    return 1000 * std::max(bytes / ReadBandwidth(pool, 1), rate > 0 ? ops / rate : 0);
  }
};

// A row of `repeats` runs of `body`, which does `n` times what costs so many bytes and operations, each run beside the
// least time measured before it.
Row Repeat(const Options& o, const Machine& machine, json::object what, size_t n, double bytes, double ops, double rate,
           const std::function<void()>& body) {
  std::vector<double> times, floors;
  body();  // warms up
  for (int i = 0; i < o.repeats; ++i) {
    floors.push_back(machine.LeastMs(bytes, ops, rate));
    times.push_back(Ms(body) / static_cast<double>(n));
  }
  Row row = Summarise("kernels", std::move(what), "ms", times);
  std::ranges::sort(floors);
  row.floor = floors[floors.size() / 2];
  return row;
}

// All layers' matrices of a type one after another, so that they come from memory as they do in a step.
void BenchProducts(const Options& o, ThreadPool& pool, const Machine& machine, const Report& report) {
  struct Product {
    const char* name;
    const Linear& (*of)(const LayerWeights&);
  };
  for (const Product& product : {Product{"gate", [](const LayerWeights& w) -> const Linear& { return w.ffn.gate; }},
                                 Product{"down", [](const LayerWeights& w) -> const Linear& { return w.ffn.down; }}}) {
    std::map<WeightType, std::vector<const Linear*>> by_type;  // a file may keep layers in different ones
    for (const LayerWeights& layer : o.weights->layers())
      if (layer.experts.empty()) by_type[product.of(layer).weight.type].push_back(&product.of(layer));
    for (const auto& [type, matrices] : by_type) {
      for (const int n_rows : {1, 2, 4, 8, 16, 64, 512}) {
        const WeightMatrix& w = matrices[0]->weight;
        const auto rows = static_cast<size_t>(n_rows);
        std::vector<float> x(rows * static_cast<size_t>(w.n_in)), y(rows * static_cast<size_t>(w.n_out));
        for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 7919 % 1000) / 500 - 1;
        report(Repeat(o, machine,
                      {{"op", "product"},
                       {"matrix", product.name},
                       {"dtype", json::string(WeightTypeName(type))},
                       {"out", w.n_out},
                       {"in", w.n_in},
                       {"rows", n_rows}},
                      matrices.size(), static_cast<double>(w.bytes()), 2.0 * n_rows * w.n_out * w.n_in,
                      machine.Rate(type), [&] {
                        for (const Linear* l : matrices)
                          ops::MatMul(pool, x.data(), w.n_in, n_rows, l->weight, l->bias, y.data(), w.n_out);
                      }));
      }
    }
  }
}

// The attention of a prompt's last rows, or of one new token, over a context: layer after layer, as in a step.
void BenchAttention(const Options& o, ThreadPool& pool, const Machine& machine, const Report& report) {
  const ModelConfig& c = o.weights->config();
  for (const auto& [n_rows, n_context] : {std::pair{512, 512}, {512, 4096}, {1, 512}, {1, 4096}, {1, 16384}}) {
    const int n_layers = n_rows == 1 ? 16 : 1;
    AttentionShape shape{
        .n_heads = c.n_heads,
        .kv = {.n_layers = n_layers, .n_kv_heads = c.n_kv_heads, .head_dim = c.head_dim, .dtype = o.kv_dtype},
        .layer = 0,
        .scale = c.attention_scale,
        .window = 0,
        .softcap = 0};
    const size_t n_blocks = static_cast<size_t>(n_context + kKvBlockTokens - 1) / kKvBlockTokens;
    Pages memory(n_blocks * shape.kv.BlockBytes());
    std::vector<std::byte*> writable;
    for (size_t i = 0; i < n_blocks; ++i) writable.push_back(memory.data() + i * shape.kv.BlockBytes());
    const std::vector<const std::byte*> blocks(writable.begin(), writable.end());

    const auto width = static_cast<size_t>(c.n_heads * c.head_dim), half = static_cast<size_t>(c.head_dim / 2);
    const auto kv_width = static_cast<size_t>(c.n_kv_heads * c.head_dim), n = static_cast<size_t>(n_context);
    std::vector<float> k(n * kv_width), q(static_cast<size_t>(n_rows) * width), out(q.size());
    for (size_t i = 0; i < k.size(); ++i) k[i] = static_cast<float>(i * 7919 % 1000) / 500 - 1;
    for (size_t i = 0; i < q.size(); ++i) q[i] = static_cast<float>(i * 104729 % 1000) / 500 - 1;
    const std::vector<float> cos(n * half, 1.0f), sin(n * half, 0.0f);
    std::vector<int32_t> at(n);
    std::iota(at.begin(), at.end(), 0);
    for (int layer = 0; layer < n_layers; ++layer)
      ops::StoreKv(pool, shape.kv, layer, k.data(), k.data(), static_cast<int64_t>(kv_width), {cos, sin}, writable, at);
    std::vector<int32_t> positions(static_cast<size_t>(n_rows));
    std::iota(positions.begin(), positions.end(), n_context - n_rows);
    const KvRun run{.blocks = blocks, .n_tokens = n_context, .base = 0};
    const RotationTable table{std::span(cos).first(static_cast<size_t>(n_rows) * half),
                              std::span(sin).first(static_cast<size_t>(n_rows) * half)};
    const AttentionSequence sequence{.q = q.data(),
                                     .out = out.data(),
                                     .q_stride = static_cast<int64_t>(width),
                                     .n_rows = n_rows,
                                     .positions = positions.data(),
                                     .runs = {&run, 1},
                                     .rotations = {&table, 1}};
    // Two products of a query with each key it sees.
    const double n_seen = static_cast<double>(n_rows) * (n_context - (n_rows - 1) / 2.0);
    report(Repeat(
        o, machine,
        {{"op", "attention"}, {"dtype", json::string(DTypeName(o.kv_dtype))}, {"rows", n_rows}, {"context", n_context}},
        static_cast<size_t>(n_layers),
        static_cast<double>(shape.kv.LayerBytes()) * static_cast<double>(n_context) / kKvBlockTokens,
        4.0 * n_seen * static_cast<double>(width), machine.float_rate, [&] {
          for (shape.layer = 0; shape.layer < n_layers; ++shape.layer) ops::SpanAttention(pool, shape, {&sequence, 1});
        }));
  }
}

}  // namespace

Status BenchLimits(const Options& o, const Report& report) {
  ThreadPool pool(o.threads);
  const auto add = [&](const char* what, const char* unit, double scale, const std::function<double()>& measure) {
    std::vector<double> values;
    for (int i = 0; i < o.repeats; ++i) values.push_back(measure() / scale);
    if (values.back() > 0) report(Summarise("limits", {{"what", what}, {"threads", pool.n_threads()}}, unit, values));
  };
  add("memory read", "GB/s", 1e9, [&] { return ReadBandwidth(pool); });
  add("float32 multiply-adds", "GFLOP/s", 1e9, [&] { return PeakRate(pool, Arithmetic::kFloat); });
  add("bf16 dot products", "GFLOP/s", 1e9, [&] { return PeakRate(pool, Arithmetic::kBf16); });
  add("int8 dot products", "GOP/s", 1e9, [&] { return PeakRate(pool, Arithmetic::kInt8); });
  return Status::Ok();
}

Status BenchKernels(const Options& o, const Report& report) {
  ThreadPool pool(o.threads);
  const Machine machine(pool);
  BenchProducts(o, pool, machine, report);
  BenchAttention(o, pool, machine, report);
  return Status::Ok();
}

}  // namespace spanwise::bench

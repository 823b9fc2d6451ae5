#include "bench/speed.h"

#include <algorithm>
#include <chrono>
#include <random>

#include "base/str.h"
#include "bench/limits.h"
#include "bench/prefill.h"

namespace spanwise::bench {
namespace {

Plan FlatPlan(std::vector<int32_t> tokens) {
  return MakePlan(PromptNode::Text(std::move(tokens)), {}, {Sha256("bench"), ""}).value();
}

size_t KvBytesPerToken(const Executor& executor) {
  return executor.transformer().kv_geometry().BlockBytes() / kKvBlockTokens;
}

}  // namespace

double Seconds(const std::function<void()>& body) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  body();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::vector<int32_t> RandomTokens(int n, uint32_t seed, int vocab) {
  std::minstd_rand random(seed + 1);
  std::vector<int32_t> tokens(static_cast<size_t>(n));
  for (int32_t& t : tokens) t = static_cast<int32_t>(random() % static_cast<uint32_t>(vocab));
  return tokens;
}

Status Prefill(Executor& executor, Sequence& sequence) {
  Executor::Turn turn{.sequence = &sequence};
  while (turn.status.ok() && !sequence.prompt_is_ready()) executor.Step({&turn, 1}, kStepTokens);
  return turn.status;
}

Row Summarise(std::string bench, json::object what, std::string unit, std::vector<double> values) {
  std::ranges::sort(values);
  return {.bench = std::move(bench),
          .what = std::move(what),
          .value = values[values.size() / 2],
          .unit = std::move(unit),
          .floor = {},
          .repeats = static_cast<int>(values.size()),
          .min = values.front(),
          .max = values.back()};
}

json::object RowJson(const Row& row) {
  json::object out{{"bench", row.bench},     {"case", row.what}, {"value", row.value},
                   {"unit", row.unit},       {"floor", nullptr}, {"of_floor", nullptr},
                   {"repeats", row.repeats}, {"min", row.min},   {"max", row.max}};
  if (row.floor) {
    out["floor"] = *row.floor;
    out["of_floor"] = row.unit == "ms" ? *row.floor / row.value : row.value / *row.floor;
  }
  for (const auto& [name, value] : row.beside) out[name] = value;
  return out;
}

Result<ModelConfig> ParseShape(const std::string& shape) {
  std::string dims = shape == "1b" ? "16x2048x8192x32x8" : shape == "8b" ? "32x4096x14336x32x8" : shape;
  std::vector<int> n;
  for (const std::string_view part : Split(dims, 'x')) {
    int value = 0;
    for (const char c : part) {
      if (c < '0' || c > '9' || value > 1'000'000) value = -1;
      if (value < 0) break;
      value = 10 * value + (c - '0');
    }
    if (part.empty() || value <= 0)
      return InvalidArgument(StrFormat("--shape {} is not 1b, 8b or LAYERSxHIDDENxFFNxHEADSxKVHEADS", Quoted(shape)));
    n.push_back(value);
  }
  if (n.size() != 5 || n[1] % n[3] != 0 || n[3] % n[4] != 0 || n[1] / n[3] % 2 != 0)
    return InvalidArgument(StrFormat(
        "--shape {}: heads must divide the width, KV heads the heads, and the head size must be even", Quoted(shape)));
  ModelConfig c;
  c.model_type = "llama";
  c.n_layers = n[0], c.hidden_dim = n[1], c.ffn_dim = n[2], c.n_heads = n[3], c.n_kv_heads = n[4];
  c.head_dim = c.hidden_dim / c.n_heads;
  c.vocab_size = shape == "8b" ? 128256 : 32000;
  c.max_positions = 131072;
  c.rotary_dim = c.head_dim;
  c.attention_scale = 1.0f / std::sqrt(static_cast<float>(c.head_dim));
  c.ropes = {RopeConfig{}};
  const auto n_layers = static_cast<size_t>(c.n_layers);
  c.windows.assign(n_layers, 0);
  c.layer_ropes.assign(n_layers, 0);
  c.layer_experts.assign(n_layers, false);
  return c;
}

Status BenchPrefill(const Options& o, const Report& report) {
  Executor executor(o.weights, o.kv_dtype, kKvBudget, o.threads);
  std::vector<double> rates;
  for (int i = 0; i < o.repeats + 1; ++i) {
    Sequence sequence = executor.Begin(
        FlatPlan(RandomTokens(o.prompt_tokens, static_cast<uint32_t>(i), o.weights->config().vocab_size)), false);
    Status status = Status::Ok();
    const double s = Seconds([&] { status = Prefill(executor, sequence); });
    SW_RETURN_IF_ERROR(status);
    if (i > 0) rates.push_back(o.prompt_tokens / s);  // the first one warms up
  }
  report(Summarise("prefill",
                   {{"shape", o.shape},
                    {"dtype", json::string(WeightTypeName(o.weights->main_type()))},
                    {"tokens", o.prompt_tokens}},
                   "tokens/s", rates));
  return Status::Ok();
}

Status BenchDecode(const Options& o, const Report& report) {
  Executor executor(o.weights, o.kv_dtype, kKvBudget, o.threads);
  // Every matrix is read once a token; of the embedding table only a row, unless it is also the head.
  const ModelConfig& c = o.weights->config();
  const size_t embedding = c.tie_embeddings ? 0 : o.weights->embedding().bytes();
  const double bytes = static_cast<double>(o.weights->n_bytes() - embedding) +
                       static_cast<double>(KvBytesPerToken(executor)) * (o.prompt_tokens + o.decode_tokens / 2.0);
  constexpr int kTokensBetween = 8;  // the memory is measured as often, for what it gives changes
  std::vector<double> rates, floors;
  ThreadPool pool(o.threads);
  for (int i = 0; i < o.repeats; ++i) {
    Sequence sequence = executor.Begin(
        FlatPlan(RandomTokens(o.prompt_tokens, static_cast<uint32_t>(i), o.weights->config().vocab_size)), false);
    SW_RETURN_IF_ERROR(Prefill(executor, sequence));
    double seconds = 0, least = 0;
    for (int t = 0; t < o.decode_tokens;) {
      const int end = std::min(t + kTokensBetween, o.decode_tokens);
      least += (end - t) * bytes / ReadBandwidth(pool, 1);
      Status status = Status::Ok();
      seconds += Seconds([&] {
        for (; t < end && status.ok(); ++t) {
          Executor::Turn turn{.sequence = &sequence, .token = t % c.vocab_size};
          executor.Step({&turn, 1}, 0);
          status = turn.status;
        }
      });
      SW_RETURN_IF_ERROR(status);
    }
    rates.push_back(o.decode_tokens / seconds);
    floors.push_back(o.decode_tokens / least);
  }
  Row row = Summarise("decode",
                      {{"shape", o.shape},
                       {"dtype", json::string(WeightTypeName(o.weights->main_type()))},
                       {"context", o.prompt_tokens},
                       {"tokens", o.decode_tokens}},
                      "tokens/s", rates);
  std::ranges::sort(floors);
  row.floor = floors[floors.size() / 2];
  report(row);
  return Status::Ok();
}

}  // namespace spanwise::bench

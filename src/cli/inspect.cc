#include <fmt/format.h>

#include "base/thread_pool.h"
#include "cli/common.h"
#include "kernels/kv_view.h"
#include "model/weights.h"

namespace spanwise::cli {
namespace {

struct Options {
  CommonOptions common;
  std::string model;
};

std::string_view ScalingName(RopeConfig::Scaling scaling) {
  switch (scaling) {
    case RopeConfig::Scaling::kNone:
      return "none";
    case RopeConfig::Scaling::kLinear:
      return "linear";
    case RopeConfig::Scaling::kLlama3:
      return "llama3";
    case RopeConfig::Scaling::kYarn:
      return "yarn";
    case RopeConfig::Scaling::kDivided:
      return "divided";
  }
  return "?";
}

Status Inspect(Options o) {
  if (!o.model.empty()) o.common.model = o.model;
  SW_ASSIGN_OR_RETURN(const std::string folder, ModelFolder(o.common));
  ThreadPool pool;
  SW_ASSIGN_OR_RETURN(const auto weights, ModelWeights::Load(folder, std::nullopt, pool));
  const ModelConfig& c = weights->config();
  const KvGeometry kv{
      .n_layers = c.n_layers, .n_kv_heads = c.n_kv_heads, .head_dim = c.head_dim, .dtype = DType::kBf16};
  const size_t kv_bytes = kv.BlockBytes() / kKvBlockTokens;
  json::array tensors, memory;
  for (const StoredTensor& t : weights->source().Tensors()) {
    json::array shape;
    for (const int64_t d : t.shape) shape.push_back(d);
    tensors.push_back(
        json::object{{"name", t.name}, {"dtype", json::string(WeightTypeName(t.type))}, {"shape", std::move(shape)}});
  }
  for (int tokens = 1024; tokens <= c.max_positions; tokens *= 2)
    memory.push_back(json::object{{"context_tokens", tokens},
                                  {"bytes", weights->n_bytes() + kv_bytes * static_cast<size_t>(tokens)}});
  json::object out{{"model", folder},
                   {"architecture", c.model_type},
                   {"digest", weights->digest().Hex()},
                   {"parameters", weights->n_parameters()},
                   {"weight_bytes", weights->n_bytes()},
                   {"layers", c.n_layers},
                   {"hidden", c.hidden_dim},
                   {"ffn", c.ffn_dim},
                   {"heads", c.n_heads},
                   {"kv_heads", c.n_kv_heads},
                   {"head_dim", c.head_dim},
                   {"vocabulary", c.vocab_size},
                   {"context_tokens", c.max_positions},
                   {"rope_theta", c.ropes[0].theta},
                   {"rope_scaling", json::string(ScalingName(c.ropes[0].scaling))},
                   {"kv_bytes_per_token", kv_bytes},
                   {"compose", json::array{"exact", "set"}},
                   {"memory", std::move(memory)},
                   {"tensors", std::move(tensors)}};
  if (o.common.json) {
    PrintJson(out);
    return Status::Ok();
  }
  for (const auto& [key, value] : out) {
    const std::string_view name(key.data(), key.size());
    if (name == "tensors" || name == "memory") continue;
    fmt::print("{:<20} {}\n", name, value.is_string() ? std::string(value.get_string()) : json::serialize(value));
  }
  for (const json::value& row : out["memory"].get_array())
    fmt::print("{:<20} {} MiB for weights and a context of {} tokens (bf16 KV)\n", "memory",
               row.at("bytes").to_number<size_t>() >> 20, row.at("context_tokens").to_number<int>());
  for (const json::value& t : out["tensors"].get_array())
    fmt::print("  {:<48} {:<5} {}\n", std::string(t.at("name").get_string()), std::string(t.at("dtype").get_string()),
               json::serialize(t.at("shape")));
  return Status::Ok();
}

}  // namespace

Verb InspectVerb(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("inspect", "Show what a model is and what it needs");
  verb->add_option("path", o->model, "Model folder (default: the bundled model)");
  verb->add_option("--model", o->common.model, "The same");
  verb->add_flag("--json", o->common.json, "Print JSON");
  return {verb, [o] {
            const Status status = Inspect(*o);
            return status.ok() ? kDone : Fail(status);
          }};
}

}  // namespace spanwise::cli

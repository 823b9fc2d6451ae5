
#include <algorithm>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "base/str.h"
#include "cli/common.h"
#include "engine/model_text.h"
#include "eval/function.h"
#include "formats/weight_source.h"
#include "kernels/kv_view.h"
#include "kv/tiers/span_folder.h"
#include "rag/bake.h"
#include "rag/report.h"
#include "tensor/panels.h"

namespace spanwise::cli {
namespace {

struct Options {
  CommonOptions common;
  std::string model;
  std::string same_as;
  bool verify = false;
};

// What a folder of kept KV holds.
Status InspectSpans(const Options& o, const std::string& folder) {
  Progress progress("reading", o.common.quiet);
  SW_ASSIGN_OR_RETURN(const SpanFolderReport report,
                      CheckSpanFolder(folder, o.verify, [&](uint64_t done, uint64_t all) {
                        progress.Update(static_cast<double>(done), static_cast<double>(all));
                      }));
  json::array models;
  for (const SpanFolderReport::OfModel& m : report.models)
    models.push_back(json::object{{"model", m.format.model.Hex()},
                                  {"layers", m.format.geometry.n_layers},
                                  {"kv_heads", m.format.geometry.n_kv_heads},
                                  {"head_dim", m.format.geometry.head_dim},
                                  {"dtype", json::string(DTypeName(m.format.geometry.dtype))},
                                  {"codec", json::string(m.format.codec->name)},
                                  {"spans", m.spans},
                                  {"tokens", m.tokens}});
  const json::object out{{"spans", report.spans},     {"file_bytes", report.file_bytes}, {"verified", o.verify},
                         {"damaged", report.damaged}, {"misnoted", report.misnoted},     {"models", std::move(models)}};
  if (o.common.json) {
    PrintJson(out);
  } else {
    for (const auto& [name, value] : out)
      if (name != "models") Print("{:<24} {}\n", std::string_view(name.data(), name.size()), json::serialize(value));
    for (const json::value& m : out.at("models").get_array()) Print("  {}\n", json::serialize(m));
  }
  if (report.sound()) return Status::Ok();
  return Corruption(
      StrFormat("{}: {} of {} spans are damaged, {} misnoted: they are not used; bake again, or remove it", folder,
                report.damaged, report.spans, report.misnoted));
}

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

// How many layers have each value: [{KEY: value, "layers": n}...] in order of first appearance.
json::array CountLayers(std::string_view key, const std::vector<json::value>& of_layer) {
  json::array out;
  for (const json::value& value : of_layer) {
    const auto same = std::ranges::find_if(out, [&](const json::value& row) { return row.at(key) == value; });
    if (same == out.end()) {
      out.push_back(json::object{{key, value}, {"layers", 1}});
    } else {
      json::value& layers = same->at("layers");
      layers = layers.to_number<int>() + 1;
    }
  }
  return out;
}

json::object Attention(const ModelConfig& c) {
  std::vector<json::value> windows, positions;
  for (size_t i = 0; i < c.windows.size(); ++i) {
    windows.push_back(c.windows[i] == 0 ? json::value("all tokens") : json::value(c.windows[i]));
    if (c.layer_ropes[i] == ModelConfig::kNoRope) {
      positions.emplace_back("none");
    } else {
      const RopeConfig& rope = c.ropes[static_cast<size_t>(c.layer_ropes[i])];
      positions.push_back(json::object{{"theta", rope.theta}, {"scaling", json::string(ScalingName(rope.scaling))}});
    }
  }
  return {{"heads", c.n_heads},
          {"kv_heads", c.n_kv_heads},
          {"head_dim", c.head_dim},
          {"rotated_dims", c.rotary_dim},
          {"windows", CountLayers("tokens", windows)},
          {"positions", CountLayers("rotation", positions)}};
}

// What ways of composing a prompt this model allows, and why.
json::array Composition(const ModelConfig& c) {
  const int shortest = [&] {
    int window = 0;
    for (const int w : c.windows)
      if (w > 0) window = window == 0 ? w : std::min(window, w);
    return window;
  }();
  std::string set = "keys turn by their place in their document, so a document can stand at any position";
  if (shortest > 0)
    set += StrFormat("; layers with a window of {} tokens do not see documents further back, in any mode", shortest);
  return {
      json::object{{"mode", "exact"}, {"allowed", true}, {"why", "the flat prompt, of which any beginning is kept"}},
      json::object{{"mode", "set"}, {"allowed", true}, {"why", set}},
      json::object{
          {"mode", "ape"}, {"allowed", true}, {"why", "as set, with the documents' weight in attention changed"}},
      json::object{{"mode", "repair"},
                   {"allowed", true},
                   {"why", "as set, one document after another, some tokens recomputed"}}};
}

struct Sizes {
  size_t parameters = 0, stored = 0, in_memory = 0;
  std::map<std::string, std::pair<size_t, size_t>> by_dtype;  // tensors, bytes
};

Sizes Measure(const std::vector<StoredTensor>& tensors) {
  Sizes sizes;
  for (const StoredTensor& t : tensors) {
    sizes.parameters += t.n_elements();
    sizes.stored += t.n_bytes();
    // Block types lie in panels, vectors are widened to float32.
    const auto width = static_cast<size_t>(t.shape.empty() ? 1 : t.shape.back());
    sizes.in_memory += t.shape.size() < 2   ? t.n_elements() * sizeof(float)
                       : PlainDType(t.type) ? t.n_bytes()
                                            : PanelBytes(t.type, t.n_elements() / width, width);
    auto& [count, bytes] = sizes.by_dtype[std::string(WeightTypeName(t.type))];
    ++count;
    bytes += t.n_bytes();
  }
  return sizes;
}

// Whether two models share KV, and prompts. The first is a proof (equal digests), the rest are probes.
Status CompareModels(const Options& o, const std::string& path) {
  std::vector<eval::ModelFunction> both;
  for (const std::string& model : {path, o.same_as}) {
    SW_ASSIGN_OR_RETURN(eval::ModelFunction function,
                        eval::ProbeModel({.model = model, .calibration = false, .kv_memory_bytes = size_t{64} << 20}));
    both.push_back(std::move(function));
  }
  const eval::ModelFunction &a = both[0], &b = both[1];
  size_t n_same = 0;
  for (size_t i = 0; i < a.prompts.size(); ++i) n_same += a.prompts[i] == b.prompts[i];
  const bool same = a.kv == b.kv && a.logits == b.logits && a.tokens == b.tokens && n_same == a.prompts.size();
  const json::object out{{"same", same},
                         {"kv", a.kv == b.kv},
                         {"logits", a.logits == b.logits},
                         {"tokens", a.tokens == b.tokens},
                         {"prompts", json::object{{"same", n_same}, {"of", a.prompts.size()}}}};
  if (o.common.json) {
    PrintJson(out);
  } else {
    const auto word = [](bool equal) { return equal ? "the same" : "different"; };
    Print("kept KV   {}\nlogits    {}, {} probe tokens\ntokens    {}, probe texts\nprompts   {} of {} the same\n",
          a.kv == b.kv ? "shared" : "not shared", word(a.logits == b.logits), eval::ModelFunction::kProbeTokens,
          word(a.tokens == b.tokens), n_same, a.prompts.size());
  }
  if (a.kv == b.kv && a.logits != b.logits)
    return Internal(StrFormat("{} and {} have one digest and do not compute the same", path, o.same_as));
  return same ? Status::Ok() : InvalidArgument(StrFormat("{} and {} are not the same", path, o.same_as));
}

json::object SamplingJson(const SamplingDefaults& sampling) {
  json::object out;
  const auto add = [&](const char* name, const std::optional<float>& value) {
    if (value) out[name] = std::strtod(StrFormat("{}", *value).c_str(), nullptr);  // as short as the file had it
  };
  add("temperature", sampling.temperature);
  if (sampling.top_k) out["top_k"] = *sampling.top_k;
  add("top_p", sampling.top_p);
  add("min_p", sampling.min_p);
  add("repetition_penalty", sampling.repetition_penalty);
  return out;
}

// What the text side of a model adds to `out`.
void AddText(const std::string& path, const ModelConfig& config, json::object* out) {
  json::array warnings(config.warnings.begin(), config.warnings.end());
  if (json::object sampling = SamplingJson(config.sampling); !sampling.empty())
    (*out)["sampling"] = std::move(sampling);
  const auto text = LoadModelText(path);
  if (text.ok()) {
    std::vector<int32_t> ends = text->ends;
    for (const int32_t id : config.eos_ids)
      if (std::ranges::find(ends, id) == ends.end()) ends.push_back(id);
    const auto names = [&](const std::vector<int32_t>& ids) {
      json::array out_names;
      for (const int32_t id : ids) out_names.emplace_back(rag::TokenJsonText(text->tokenizer->TokenBytes(id, true)));
      return out_names;
    };
    (*out)["begin_tokens"] = names(text->begin);
    (*out)["end_tokens"] = names(ends);
    std::vector<std::string> others = text->templates;
    std::erase(others, text->chosen_template);
    (*out)["chat_template"] = !text->chat ? "none: " + text->no_chat.message()
                              : others.empty()
                                  ? text->chosen_template
                                  : StrFormat("{} (there are also {})", text->chosen_template, fmt::join(others, ", "));
    for (const std::string& warning : text->warnings) warnings.emplace_back(warning);
  } else {
    warnings.emplace_back(text.status().message());
  }
  if (!warnings.empty()) (*out)["warnings"] = std::move(warnings);
}

Status Inspect(Options o) {
  for (const std::string& folder : {o.model, rag::BakedFolder(o.model)})
    if (!o.model.empty() && IsSpanFolder(folder)) return InspectSpans(o, folder);
  if (o.verify) return InvalidArgument("--verify goes with a folder of kept KV (--cache-dir, or index --bake)");
  if (!o.model.empty()) o.common.model = o.model;
  SW_ASSIGN_OR_RETURN(const std::string path, ModelPath(o.common));
  if (!o.same_as.empty()) return CompareModels(o, path);
  SW_ASSIGN_OR_RETURN(const auto source, WeightSource::Open(path));
  const ModelConfig& c = source->config();
  const std::vector<StoredTensor> stored = source->Tensors();
  const Sizes sizes = Measure(stored);
  const KvGeometry kv{
      .n_layers = c.n_layers, .n_kv_heads = c.n_kv_heads, .head_dim = c.head_dim, .dtype = DType::kBf16};
  const size_t kv_bytes = kv.BlockBytes() / kKvBlockTokens;
  json::object dtypes;
  for (const auto& [name, both] : sizes.by_dtype)
    dtypes[name] = json::object{{"tensors", both.first}, {"bytes", both.second}};
  json::array tensors, memory;
  for (const StoredTensor& t : stored) {
    json::array shape;
    for (const int64_t d : t.shape) shape.push_back(d);
    tensors.push_back(
        json::object{{"name", t.name}, {"dtype", json::string(WeightTypeName(t.type))}, {"shape", std::move(shape)}});
  }
  const auto add_memory = [&](int tokens) {
    memory.push_back(
        json::object{{"context_tokens", tokens}, {"bytes", sizes.in_memory + kv_bytes * static_cast<size_t>(tokens)}});
  };
  for (int tokens = 1024; tokens < c.max_positions && tokens < (1 << 29); tokens *= 2) add_memory(tokens);
  add_memory(c.max_positions);

  json::object out{{"model", path},
                   {"architecture", c.model_type},
                   {"parameters", sizes.parameters},
                   {"weight_bytes", sizes.stored},
                   {"dtypes", std::move(dtypes)},
                   {"layers", c.n_layers},
                   {"hidden", c.hidden_dim},
                   {"ffn", c.ffn_dim},
                   {"vocabulary", c.vocab_size},
                   {"tied_embeddings", c.tie_embeddings},
                   {"context_tokens", c.max_positions},
                   {"attention", Attention(c)},
                   {"kv_bytes_per_token", kv_bytes},
                   {"compose", Composition(c)},
                   {"memory", std::move(memory)},
                   {"tensors", std::move(tensors)}};
  if (c.experts.n_experts > 0)
    out["experts"] = json::object{{"experts", c.experts.n_experts},
                                  {"active", c.experts.n_active},
                                  {"ffn", c.experts.ffn_dim},
                                  {"layers", std::ranges::count(c.layer_experts, true)}};
  if (!c.note.empty()) out["note"] = c.note;
  AddText(path, c, &out);
  if (o.common.json) {
    PrintJson(out);
    return Status::Ok();
  }
  const auto print = [](std::string_view name, const json::value& value) {
    Print("{:<24} {}\n", name, value.is_string() ? std::string(value.get_string()) : json::serialize(value));
  };
  for (const auto& [key, value] : out) {
    const std::string_view name(key.data(), key.size());
    if (name == "tensors" || name == "memory" || name == "compose") continue;
    if (!value.is_object()) {
      print(name, value);
      continue;
    }
    for (const auto& [inner, part] : value.get_object())
      print(StrFormat("{} {}", name, std::string_view(inner.data(), inner.size())), part);
  }
  for (const json::value& way : out["compose"].get_array())
    Print("compose {:<16} {}: {}\n", std::string(way.at("mode").get_string()),
          way.at("allowed").get_bool() ? "yes" : "no", std::string(way.at("why").get_string()));
  for (const json::value& row : out["memory"].get_array())
    Print("memory                   {} MiB for weights and a context of {} tokens (bf16 KV)\n",
          row.at("bytes").to_number<size_t>() >> 20, row.at("context_tokens").to_number<int>());
  for (const json::value& t : out["tensors"].get_array())
    Print("  {:<48} {:<5} {}\n", std::string(t.at("name").get_string()), std::string(t.at("dtype").get_string()),
          json::serialize(t.at("shape")));
  return Status::Ok();
}

}  // namespace

Verb InspectVerb(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("inspect", "Show what a model is and needs, or what a folder of kept KV holds");
  verb->add_option("path", o->model, "Model folder or GGUF file (default: the bundled model), or a folder of kept KV");
  verb->add_option("--same-as", o->same_as, "Another model: do they share kept KV, and make the same prompts?");
  verb->add_flag("--verify", o->verify, "Of kept KV: read and check every byte");
  verb->add_option("--model", o->common.model, "The same");
  verb->add_flag("--json", o->common.json, "Print JSON");
  return {verb, [o] {
            const Status status = Inspect(*o);
            return status.ok() ? kDone : Fail(status);
          }};
}

}  // namespace spanwise::cli

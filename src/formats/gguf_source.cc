#include "formats/gguf_source.h"

#include <charconv>
#include <map>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/str.h"
#include "formats/gguf.h"
#include "formats/gguf_config.h"

namespace spanwise {
namespace {

// Where a tensor of the model stands.
struct Place {
  std::string name;  // in the file
  int expert = -1;   // of a tensor that holds all experts of a layer
  int n_experts = 0;
  int interleaved_heads = 0;
};

class GgufSource final : public WeightSource {
 public:
  static Result<std::unique_ptr<const WeightSource>> Open(const std::string& path) {
    auto source = std::make_unique<GgufSource>();
    SW_ASSIGN_OR_RETURN(source->file_, GgufFile::Open(path));
    auto config = ReadGgufConfig(*source->file_);
    if (!config.ok()) return config.status().WithContext(path);
    source->config_ = std::move(*config);
    source->NameTensors();
    return std::unique_ptr<const WeightSource>(std::move(source));
  }

  Result<StoredTensor> Find(const std::string& name) const override {
    const auto place = places_.find(name);
    const auto known = place != places_.end() ? std::optional(place->second) : ExpertPlace(name);
    if (!known) return NotFound(StrFormat("GGUF files have no tensor for {}", Quoted(name)));
    const Place& p = *known;
    const auto found = file_->tensors().find(p.name);
    if (found == file_->tensors().end()) return NotFound(StrFormat("there is no tensor {}", Quoted(p.name)));
    const GgufTensor& tensor = found->second;
    if (!tensor.type)
      return Unimplemented(
          StrFormat("tensor {} is stored as {}, expected {}", Quoted(p.name), tensor.stored_type, GgufTensorTypes()));
    StoredTensor stored{.name = p.name,
                        .data = tensor.data,
                        .type = *tensor.type,
                        .shape = tensor.shape,
                        .interleaved_heads = p.interleaved_heads};
    if (p.expert < 0) return stored;
    if (stored.shape.size() != 3 || stored.shape[0] != p.n_experts)
      return Corruption(StrFormat("tensor {} has the shape [{}], expected {} matrices", Quoted(p.name),
                                  fmt::join(stored.shape, ", "), p.n_experts));
    stored.shape.erase(stored.shape.begin());
    stored.data += static_cast<size_t>(p.expert) * stored.n_bytes();
    return stored;
  }

  std::vector<StoredTensor> Tensors() const override {
    std::vector<StoredTensor> all;
    for (const auto& [name, tensor] : file_->tensors())
      if (tensor.type)
        all.push_back(
            {.name = name, .data = tensor.data, .type = *tensor.type, .shape = tensor.shape, .interleaved_heads = 0});
    return all;
  }

 private:
  void Add(const std::string& name, const std::string& stored, int interleaved_heads = 0) {
    for (const char* part : {".weight", ".bias"})
      places_[name + part] = {.name = stored + part, .interleaved_heads = interleaved_heads};
  }

  // Every name that the model's layers may ask for; whether the tensor is there is seen when it is asked for.
  void NameTensors() {
    const ModelConfig& c = config_;
    const LayerNames& n = c.names;
    const bool interleaved = FindGgufArchitecture(*file_->GetString("general.architecture").value())->interleaved;
    Add("model.embed_tokens", "token_embd");
    Add("lm_head", "output");
    Add("model.norm", "output_norm");
    for (int i = 0; i < c.n_layers; ++i) {
      const std::string at = StrFormat("model.layers.{}.", i), in = StrFormat("blk.{}.", i);
      for (const auto& [name, stored] : {std::pair{&n.attention_norm, "attn_norm"},
                                         {&n.attention_post_norm, "post_attention_norm"},
                                         {&n.ffn_norm, "ffn_norm"},
                                         {&n.ffn_post_norm, "post_ffw_norm"},
                                         {&n.fused_qkv, "attn_qkv"},
                                         {&n.fused_gate_up, "ffn_up"},
                                         {&n.router, "ffn_gate_inp"}})
        if (!name->empty()) Add(at + *name, in + stored);
      Add(at + "self_attn.q_proj", in + "attn_q", interleaved ? c.n_heads : 0);
      Add(at + "self_attn.k_proj", in + "attn_k", interleaved ? c.n_kv_heads : 0);
      for (const auto& [name, stored] : {std::pair{"self_attn.v_proj", "attn_v"},
                                         {"self_attn.o_proj", "attn_output"},
                                         {"self_attn.q_norm", "attn_q_norm"},
                                         {"self_attn.k_norm", "attn_k_norm"},
                                         {"mlp.gate_proj", "ffn_gate"},
                                         {"mlp.up_proj", "ffn_up"},
                                         {"mlp.down_proj", "ffn_down"}})
        Add(at + name, in + stored);
    }
  }

  // Experts are found by their pattern rather than listed: layers times experts may be millions in a small file.
  std::optional<Place> ExpertPlace(std::string_view name) const {
    const auto take = [&](std::string_view text) {
      const bool starts = name.starts_with(text);
      if (starts) name.remove_prefix(text.size());
      return starts;
    };
    const auto number = [&](int limit) -> std::optional<int> {
      int value = 0;
      const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), value);
      if (error != std::errc() || value < 0 || value >= limit) return std::nullopt;
      name.remove_prefix(static_cast<size_t>(end - name.data()));
      return value;
    };
    if (!take("model.layers.")) return std::nullopt;
    const auto layer = number(config_.n_layers);
    if (!layer || !take(".")) return std::nullopt;
    const std::string_view in_layer = name;
    const LayerNames& n = config_.names;
    for (const auto& [pattern, stored] : {std::pair{&n.expert_gate, "ffn_gate_exps"},
                                          {&n.expert_up, "ffn_up_exps"},
                                          {&n.expert_down, "ffn_down_exps"}}) {
      name = in_layer;
      const size_t hole = pattern->find("{}");
      if (hole == std::string::npos || !take(pattern->substr(0, hole))) continue;
      const auto expert = number(config_.experts.n_experts);
      if (expert && name == pattern->substr(hole + 2) + ".weight")
        return Place{.name = StrFormat("blk.{}.{}.weight", *layer, stored),
                     .expert = *expert,
                     .n_experts = config_.experts.n_experts};
    }
    return std::nullopt;
  }

  std::shared_ptr<const GgufFile> file_;
  std::map<std::string, Place> places_;
};

}  // namespace

Result<std::unique_ptr<const WeightSource>> OpenGgufSource(const std::string& path) { return GgufSource::Open(path); }

}  // namespace spanwise

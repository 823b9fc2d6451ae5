#include "formats/gguf_config.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "base/json.h"
#include "base/str.h"
#include "formats/gguf_vocabulary.h"

namespace spanwise {
namespace {

// Facts: llama.cpp, convert_hf_to_gguf.py (which rows are permuted) and llama-model.cpp (what each key means).
constexpr GgufArchitecture kArchitectures[] = {
    {"llama", "llama", true},     {"qwen2", "qwen2"},           {"qwen3", "qwen3"}, {"qwen3moe", "qwen3_moe"},
    {"gemma2", "gemma2"},         {"gemma3", "gemma3_text"},    {"phi3", "phi3"},   {"olmo2", "olmo2"},
    {"smollm3", "smollm3", true}, {"granite", "granite", true},
};

constexpr int64_t kMaxCount = int64_t{1} << 31;
constexpr int64_t kMaxTopK = int64_t{1} << 24;
constexpr double kHuge = 1e30;

std::string ArchitectureNames() {
  std::string names;
  for (const GgufArchitecture& row : kArchitectures) names += StrFormat("{}{}", names.empty() ? "" : ", ", row.name);
  return names;
}

class Reader {
 public:
  explicit Reader(const GgufFile& file) : file_(file) {}

  Result<ModelConfig> Read() {
    SW_ASSIGN_OR_RETURN(const auto name, file_.GetString("general.architecture"));
    if (!name)
      return InvalidArgument(StrFormat("'general.architecture' is missing, expected one of {}", ArchitectureNames()));
    arch_ = FindGgufArchitecture(*name);
    if (!arch_)
      return Unimplemented(
          StrFormat("'general.architecture' is {}, expected one of {}", Quoted(*name), ArchitectureNames()));
    root_["model_type"] = arch_->model_type;
    SW_RETURN_IF_ERROR(ReadShape());
    SW_RETURN_IF_ERROR(ReadExperts());
    SW_RETURN_IF_ERROR(ReadNumbers());
    SW_RETURN_IF_ERROR(ReadWindow());
    SW_RETURN_IF_ERROR(ReadPositions());
    SW_RETURN_IF_ERROR(ReadEnds());
    SW_ASSIGN_OR_RETURN(ModelConfig config, ParseModelConfig(json::serialize(root_), "metadata as config.json"));
    SW_RETURN_IF_ERROR(SetWhatTensorsSay(&config));
    ReadSampling(&config);
    return config;
  }

 private:
  std::string Key(std::string_view name) const { return StrFormat("{}.{}", arch_->name, name); }
  bool Has(std::string_view tensor) const { return file_.tensors().contains(tensor); }

  // An integer of at least 1 that may be given for each layer, then all alike.
  Result<std::optional<int64_t>> Count(std::string_view name) {
    const std::string key = Key(name);
    const auto found = file_.metadata().find(key);
    if (found == file_.metadata().end() || !found->second.is_array) return file_.GetInt(key, 1, kMaxCount);
    SW_ASSIGN_OR_RETURN(const auto counts, file_.GetInts(key, 1, kMaxCount));
    if (!counts || counts->empty()) return InvalidArgument(StrFormat("'{}' is an empty array", key));
    if (std::adjacent_find(counts->begin(), counts->end(), std::not_equal_to<>()) != counts->end())
      return Unimplemented(StrFormat("'{}' differs by layer, which is not done", key));
    return std::optional(counts->front());
  }

  Status Missing(std::string_view name) const { return InvalidArgument(StrFormat("'{}' is missing", Key(name))); }

  Status ReadShape() {
    struct Row {
      std::string_view gguf, hf;
    };
    for (const Row& row :
         {Row{"block_count", "num_hidden_layers"}, Row{"embedding_length", "hidden_size"},
          Row{"context_length", "max_position_embeddings"}, Row{"feed_forward_length", "intermediate_size"},
          Row{"attention.head_count", "num_attention_heads"}}) {
      SW_ASSIGN_OR_RETURN(const auto count, Count(row.gguf));
      if (!count) return Missing(row.gguf);
      root_[row.hf] = *count;
    }
    heads_ = root_["num_attention_heads"].get_int64();
    hidden_ = root_["hidden_size"].get_int64();
    SW_ASSIGN_OR_RETURN(const auto kv_heads, Count("attention.head_count_kv"));
    root_["num_key_value_heads"] = kv_heads.value_or(heads_);
    SW_ASSIGN_OR_RETURN(const auto key_length, Count("attention.key_length"));
    SW_ASSIGN_OR_RETURN(const auto value_length, Count("attention.value_length"));
    head_dim_ = key_length.value_or(std::max(hidden_ / heads_, int64_t{1}));
    if (value_length && *value_length != head_dim_)
      return Unimplemented(
          StrFormat("'{}' is {}, expected {} as of keys", Key("attention.value_length"), *value_length, head_dim_));
    root_["head_dim"] = head_dim_;
    const auto embedding = file_.tensors().find("token_embd.weight");
    if (embedding == file_.tensors().end() || embedding->second.shape.size() != 2)
      return Corruption("there is no matrix \"token_embd.weight\"");
    root_["vocab_size"] = embedding->second.shape[0];
    root_["tie_word_embeddings"] = !Has("output.weight");
    return Status::Ok();
  }

  Status ReadExperts() {
    SW_ASSIGN_OR_RETURN(const auto count, file_.GetInt(Key("expert_count"), 0, kMaxCount));
    if (count.value_or(0) == 0) return Status::Ok();
    if (arch_->model_type == "llama") root_["model_type"] = "mixtral";
    root_["num_experts"] = root_["num_local_experts"] = *count;
    SW_ASSIGN_OR_RETURN(const auto used, Count("expert_used_count"));
    if (!used) return Missing("expert_used_count");
    root_["num_experts_per_tok"] = *used;
    root_["norm_topk_prob"] = true;
    SW_ASSIGN_OR_RETURN(const auto width, Count("expert_feed_forward_length"));
    if (width) {
      root_["moe_intermediate_size"] = *width;
      if (root_["model_type"] == "mixtral") root_["intermediate_size"] = *width;
    }
    return Status::Ok();
  }

  Status ReadNumbers() {
    struct Row {
      std::string_view gguf, hf;
    };
    constexpr Row kRows[] = {
        {"attention.layer_norm_rms_epsilon", "rms_norm_eps"},
        {"attn_logit_softcapping", "attn_logit_softcapping"},
        {"final_logit_softcapping", "final_logit_softcapping"},
        {"embedding_scale", "embedding_multiplier"},
        {"residual_scale", "residual_multiplier"},
        {"logit_scale", "logits_scaling"},
        {"attention.scale", "attention_multiplier"},
    };
    for (const Row& row : kRows) {
      SW_ASSIGN_OR_RETURN(const auto number, file_.GetNumber(Key(row.gguf), -kHuge, kHuge));
      if (number) root_[row.hf] = *number;
    }
    if (!root_.contains("rms_norm_eps")) return Missing("attention.layer_norm_rms_epsilon");
    // Files of Gemma do not state this one; the largest models alone differ from the head size.
    const int64_t layers = root_["num_hidden_layers"].get_int64();
    const bool large = (arch_->name == "gemma2" && layers == 46) || (arch_->name == "gemma3" && layers == 62);
    root_["query_pre_attn_scalar"] = large ? hidden_ / heads_ : head_dim_;
    return Status::Ok();
  }

  Status ReadWindow() {
    SW_ASSIGN_OR_RETURN(const auto window, file_.GetInt(Key("attention.sliding_window"), 0, kMaxCount));
    if (!window) return Status::Ok();
    root_["sliding_window"] = *window > 0 ? json::value(*window) : json::value();
    if (*window > 0 && root_["model_type"] == "llama") root_["model_type"] = "mistral";
    // Every n-th layer has none. Newer files may list the layers instead, which GetInt refuses.
    SW_ASSIGN_OR_RETURN(const auto period, file_.GetInt(Key("attention.sliding_window_pattern"), 1, kMaxCount));
    if (period) root_["sliding_window_pattern"] = *period;
    return Status::Ok();
  }

  Status ReadPositions() {
    SW_ASSIGN_OR_RETURN(const auto theta, file_.GetNumber(Key("rope.freq_base"), 0, kHuge));
    root_["rope_theta"] = theta.value_or(10000.0);
    SW_ASSIGN_OR_RETURN(const auto local, file_.GetNumber(Key("rope.freq_base_swa"), 0, kHuge));
    if (local) root_["rope_local_base_freq"] = *local;
    SW_ASSIGN_OR_RETURN(rotated_, file_.GetInt(Key("rope.dimension_count"), 1, kMaxCount));
    if (rotated_.value_or(head_dim_) != head_dim_)
      root_["partial_rotary_factor"] = static_cast<double>(*rotated_) / static_cast<double>(head_dim_);
    SW_ASSIGN_OR_RETURN(const auto original, Count("rope.scaling.original_context_length"));
    if (original) root_["original_max_position_embeddings"] = *original;

    SW_ASSIGN_OR_RETURN(const auto type, file_.GetString(Key("rope.scaling.type")));
    if (Has("rope_factors_short.weight")) return ReadLongRope();
    const std::string kind = type.value_or("linear");  // as llama.cpp reads a file that gives only the factor
    if (kind == "none") return Status::Ok();
    SW_ASSIGN_OR_RETURN(const double factor, ScalingFactor());
    json::object scaling{{"rope_type", kind}, {"factor", factor}};
    if (original) scaling["original_max_position_embeddings"] = *original;
    if (kind == "yarn") {
      SW_RETURN_IF_ERROR(ReadYarn(factor, &scaling));
    } else if (kind != "linear") {
      return Unimplemented(
          StrFormat("'{}' is {}, expected none, linear or yarn", Key("rope.scaling.type"), Quoted(kind)));
    }
    if (factor != 1.0) root_["rope_scaling"] = std::move(scaling);
    return Status::Ok();
  }

  // By how much positions are stretched: 1, and in old files 0, for not at all. Files from before August 2023 have it
  // under another key.
  Result<double> ScalingFactor() {
    std::optional<double> found;
    std::string_view first;
    for (const std::string_view name : {"rope.scaling.factor", "rope.scale_linear"}) {
      SW_ASSIGN_OR_RETURN(auto factor, file_.GetNumber(Key(name), -kHuge, kHuge));
      if (factor == 0.0) factor = 1.0;
      if (factor && found && *factor != *found)
        return InvalidArgument(StrFormat("'{}' is {}, but '{}' is {}", Key(name), *factor, Key(first), *found));
      if (!factor || found) continue;
      found = factor;
      first = name;
    }
    return found.value_or(1.0);
  }

  Status ReadYarn(double factor, json::object* scaling) {
    for (const auto& [gguf, hf] :
         {std::pair{"yarn_beta_fast", "beta_fast"}, std::pair{"yarn_beta_slow", "beta_slow"}}) {
      SW_ASSIGN_OR_RETURN(const auto beta, file_.GetNumber(Key(StrFormat("rope.scaling.{}", gguf)), 0, kHuge));
      if (beta) (*scaling)[hf] = *beta;
    }
    for (const auto& [name, done] : {std::pair{"rope.scaling.yarn_ext_factor", 1.0},
                                     {"rope.scaling.yarn_attn_factor", 1.0},
                                     {"rope.scaling.yarn_log_multiplier", 0.0}}) {
      SW_ASSIGN_OR_RETURN(const auto number, file_.GetNumber(Key(name), -kHuge, kHuge));
      if (number && *number != done)
        return Unimplemented(StrFormat("'{}' is {}, only {} is done", Key(name), *number, done));
    }
    // Multiplies what YaRN itself prescribes, where config.json replaces it.
    SW_ASSIGN_OR_RETURN(const auto magnitude, file_.GetNumber(Key("rope.scaling.attn_factor"), 0, kHuge));
    if (magnitude && factor > 0)
      (*scaling)["attention_factor"] = *magnitude * (factor > 1 ? 1 + 0.1 * std::log(factor) : 1);
    return Status::Ok();
  }

  // The factors of a long context, stored as tensors, one for each rotated pair.
  Status ReadLongRope() {
    json::object scaling{{"rope_type", "longrope"}};
    for (const auto& [tensor, hf] : {std::pair{"rope_factors_short.weight", "short_factor"},
                                     std::pair{"rope_factors_long.weight", "long_factor"}}) {
      SW_ASSIGN_OR_RETURN(const std::vector<double> factors, PairFactors(tensor));
      json::array list;
      for (const double factor : factors) list.emplace_back(factor);
      scaling[hf] = std::move(list);
    }
    SW_ASSIGN_OR_RETURN(const auto magnitude, file_.GetNumber(Key("rope.scaling.attn_factor"), 0, kHuge));
    if (magnitude) scaling["attention_factor"] = *magnitude;
    if (root_.contains("original_max_position_embeddings"))
      scaling["original_max_position_embeddings"] = root_["original_max_position_embeddings"];
    root_["rope_scaling"] = std::move(scaling);
    return Status::Ok();
  }

  Result<std::vector<double>> PairFactors(std::string_view name) {
    const auto found = file_.tensors().find(name);
    if (found == file_.tensors().end()) return Corruption(StrFormat("there is no tensor {}", Quoted(name)));
    const GgufTensor& tensor = found->second;
    const int64_t pairs = rotated_.value_or(head_dim_) / 2;
    if (tensor.shape != std::vector{pairs} || tensor.type != WeightType::kF32)
      return Corruption(StrFormat("tensor {} is {} of shape [{}], expected F32 of shape [{}]", Quoted(name),
                                  tensor.stored_type, fmt::join(tensor.shape, ", "), pairs));
    std::vector<float> factors(static_cast<size_t>(pairs));
    Widen(WeightType::kF32, tensor.data, factors.size(), factors.data());
    for (const float factor : factors)
      if (!(factor >= 1e-6f && factor <= 1e6f))
        return Corruption(StrFormat("tensor {} holds {}, expected numbers from 1e-6 to 1e6", Quoted(name), factor));
    return std::vector<double>(factors.begin(), factors.end());
  }

  // Ids that end a text and the one that begins it, as the metadata name them.
  Status ReadEnds() {
    if (!file_.metadata().contains("tokenizer.ggml.model")) return Status::Ok();
    SW_ASSIGN_OR_RETURN(const GgufVocabulary vocabulary, ReadGgufVocabulary(file_));
    if (static_cast<int64_t>(vocabulary.tokens.size()) > root_["vocab_size"].get_int64())
      return Corruption(StrFormat("'tokenizer.ggml.tokens' holds {} tokens, but \"token_embd.weight\" has {} rows",
                                  vocabulary.tokens.size(), root_["vocab_size"].get_int64()));
    json::array ends;
    for (const auto& id : {vocabulary.eos_id, vocabulary.eot_id, vocabulary.eom_id})
      if (id) ends.emplace_back(*id);
    root_["eos_token_id"] = std::move(ends);
    if (vocabulary.bos_id) root_["bos_token_id"] = *vocabulary.bos_id;
    return Status::Ok();
  }

  // How its makers say to choose the next token. Kinds of sampling that are not done are named.
  void ReadSampling(ModelConfig* config) const {
    const auto read = [&](std::string_view name, double low, double high) {
      const std::string key = StrFormat("general.sampling.{}", name);
      return RecommendedNumber(file_.GetNumber(key, low, high), file_.name(), &config->warnings);
    };
    SamplingDefaults& sampling = config->sampling;
    sampling.temperature = read("temp", 0, 100);
    sampling.top_p = read("top_p", 0, 1);
    sampling.min_p = read("min_p", 0, 1);
    sampling.repetition_penalty = read("penalty_repeat", 0.01, 100);
    if (const auto top_k = read("top_k", -1, kMaxTopK)) sampling.top_k = std::max(0, static_cast<int>(*top_k));
    for (const std::string_view name : {"mirostat", "xtc_probability"})
      if (const auto value = read(name, -kHuge, kHuge); value.value_or(0) != 0)
        config->warnings.push_back(
            StrFormat("{}: 'general.sampling.{}' is {}, which is not done and is ignored", file_.name(), name, *value));
  }

  Status SetWhatTensorsSay(ModelConfig* config) {
    config->qkv_bias = Has("blk.0.attn_q.bias") || Has("blk.0.attn_qkv.bias");
    config->output_bias = Has("blk.0.attn_output.bias");
    config->mlp_bias = Has("blk.0.ffn_up.bias");
    config->norm_adds_one = false;
    if (rotated_) config->rotary_dim = static_cast<int>(std::min<int64_t>(*rotated_, config->head_dim));
    if (root_.contains("attention_multiplier") && root_["attention_multiplier"].to_number<double>() > 0)
      config->attention_scale = static_cast<float>(root_["attention_multiplier"].to_number<double>());
    if (!Has("rope_freqs.weight")) return Status::Ok();
    RopeConfig& rope = config->ropes.front();
    if (rope.scaling != RopeConfig::Scaling::kNone)
      return Unimplemented(StrFormat("\"rope_freqs.weight\" together with '{}' is not done", Key("rope.scaling.type")));
    SW_ASSIGN_OR_RETURN(rope.divisors, PairFactors("rope_freqs.weight"));
    rope.scaling = RopeConfig::Scaling::kDivided;
    return Status::Ok();
  }

  const GgufFile& file_;
  const GgufArchitecture* arch_ = nullptr;
  json::object root_;  // what config.json would say
  int64_t heads_ = 0, hidden_ = 0, head_dim_ = 0;
  std::optional<int64_t> rotated_;
};

}  // namespace

const GgufArchitecture* FindGgufArchitecture(std::string_view name) {
  for (const GgufArchitecture& row : kArchitectures)
    if (row.name == name) return &row;
  return nullptr;
}

Result<ModelConfig> ReadGgufConfig(const GgufFile& file) { return Reader(file).Read(); }

}  // namespace spanwise

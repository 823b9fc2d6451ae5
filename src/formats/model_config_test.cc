#include "formats/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/json.h"
#include "base/str.h"

namespace spanwise {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// A small valid configuration with members replaced, or removed where the value is "-".
std::string Config(std::string_view type,
                   std::initializer_list<std::pair<std::string_view, std::string_view>> changes = {}) {
  json::object root =
      ParseJson(R"({"hidden_size":64,"intermediate_size":128,"num_hidden_layers":4,"num_attention_heads":8,
    "num_key_value_heads":2,"vocab_size":100,"max_position_embeddings":512,"rms_norm_eps":1e-5,"hidden_act":"silu"})",
                "base")
          .value()
          .get_object();
  root["model_type"] = type;
  for (const auto& [key, value] : changes) {
    if (value == "-") {
      root.erase(key);
    } else {
      root[key] = ParseJson(value, key).value();
    }
  }
  return json::serialize(root);
}

Result<ModelConfig> Parse(const std::string& config, std::string_view generation = "") {
  auto parsed = ParseModelConfig(config, "m/config.json");
  if (!parsed.ok() || generation.empty()) return parsed;
  SW_RETURN_IF_ERROR(AddGenerationConfig(generation, "m/generation_config.json", &*parsed));
  return parsed;
}

TEST(ModelConfig, Llama) {
  const auto c =
      Parse(
          Config(
              "llama",
              {{"rope_theta", "500000.0"},
               {"bos_token_id", "1"},
               {"eos_token_id", "[2,3]"},
               {"torch_dtype", "\"bfloat16\""},
               {"rope_scaling",
                R"({"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192})"}}))
          .value();
  EXPECT_EQ(c.n_layers, 4);
  EXPECT_EQ(c.head_dim, 8);
  EXPECT_EQ(c.n_kv_heads, 2);
  EXPECT_FLOAT_EQ(c.norm_eps, 1e-5f);
  EXPECT_FALSE(c.tie_embeddings || c.qkv_bias || c.output_bias || c.mlp_bias || c.qk_norm != QkNorm::kNone);
  EXPECT_THAT(c.windows, ElementsAre(0, 0, 0, 0));
  EXPECT_EQ(c.ropes[0].scaling, RopeConfig::Scaling::kLlama3);
  EXPECT_EQ(c.ropes[0].theta, 500000.0);
  EXPECT_EQ(c.ropes[0].factor, 8.0);
  EXPECT_EQ(c.ropes[0].original_max_positions, 8192);
  EXPECT_THAT(c.eos_ids, ElementsAre(2, 3));
  EXPECT_EQ(c.bos_id, 1);
  EXPECT_EQ(c.stored_dtype, DType::kBf16);
}

TEST(ModelConfig, DefaultsOfTheFamilies) {
  const auto llama =
      Parse(Config("llama", {{"num_key_value_heads", "-"}, {"rms_norm_eps", "-"}, {"hidden_act", "-"}})).value();
  EXPECT_EQ(llama.n_kv_heads, 8);
  EXPECT_FLOAT_EQ(llama.norm_eps, 1e-6f);
  EXPECT_EQ(llama.ropes[0].theta, 10000.0);
  EXPECT_TRUE(llama.eos_ids.empty());
  EXPECT_EQ(llama.bos_id, std::nullopt);
  EXPECT_EQ(Parse(Config("mistral", {{"num_key_value_heads", "-"}})).value().n_kv_heads, 8);
  EXPECT_EQ(Parse(Config("mistral", {{"num_key_value_heads", "null"}})).value().n_kv_heads, 8);
  EXPECT_EQ(Parse(Config("qwen3")).value().head_dim, 128);
  EXPECT_EQ(Parse(Config("qwen3", {{"head_dim", "32"}})).value().head_dim, 32);
}

TEST(ModelConfig, BiasesAndNormsOfTheFamilies) {
  const auto llama =
      Parse(Config("llama", {{"attention_bias", "true"}, {"mlp_bias", "true"}, {"tie_word_embeddings", "true"}}))
          .value();
  EXPECT_TRUE(llama.qkv_bias && llama.output_bias && llama.mlp_bias && llama.tie_embeddings);
  const auto qwen2 = Parse(Config("qwen2")).value();
  EXPECT_TRUE(qwen2.qkv_bias);
  EXPECT_FALSE(qwen2.output_bias || qwen2.mlp_bias || qwen2.qk_norm != QkNorm::kNone);
  const auto qwen3 = Parse(Config("qwen3")).value();
  EXPECT_EQ(qwen3.qk_norm, QkNorm::kHead);
  EXPECT_FALSE(qwen3.qkv_bias || qwen3.output_bias);
}

TEST(ModelConfig, SlidingWindows) {
  const auto windows = [](std::string_view type,
                          std::initializer_list<std::pair<std::string_view, std::string_view>> changes) {
    return Parse(Config(type, changes)).value().windows;
  };
  EXPECT_THAT(windows("mistral", {}), Each(4096));  // what transformers assumes when the member is absent
  EXPECT_THAT(windows("mistral", {{"sliding_window", "null"}}), Each(0));
  EXPECT_THAT(windows("mistral", {{"sliding_window", "32"}}), Each(32));
  EXPECT_THAT(windows("llama", {{"sliding_window", "32"}}), Each(0));
  EXPECT_THAT(windows("qwen2", {{"sliding_window", "32"}, {"max_window_layers", "2"}}), Each(0));
  EXPECT_THAT(windows("qwen2", {{"use_sliding_window", "true"}, {"sliding_window", "32"}, {"max_window_layers", "2"}}),
              ElementsAre(0, 0, 32, 32));
  EXPECT_THAT(windows("qwen3", {{"use_sliding_window", "true"},
                                {"sliding_window", "16"},
                                {"layer_types",
                                 R"(["sliding_attention","full_attention","full_attention","sliding_attention"])"}}),
              ElementsAre(16, 0, 0, 16));
  EXPECT_THAT(
      windows("qwen3", {{"sliding_window", "null"},
                        {"layer_types", R"(["full_attention","full_attention","full_attention","full_attention"])"}}),
      Each(0));
}

TEST(ModelConfig, SpellingsOfRope) {
  EXPECT_EQ(Parse(Config("llama", {{"rope_scaling", "null"}})).value().ropes[0].scaling, RopeConfig::Scaling::kNone);
  EXPECT_EQ(Parse(Config("llama", {{"rope_scaling", R"({"type":"linear","factor":2})"}})).value().ropes[0].factor, 2.0);
  const auto v5 = Parse(Config("llama", {{"rope_parameters", R"({"rope_theta":1000000.0,"rope_type":"default"})"}}))
                      .value()
                      .ropes[0];
  EXPECT_EQ(v5.theta, 1000000.0);
  EXPECT_EQ(v5.scaling, RopeConfig::Scaling::kNone);
  const auto yarn =
      Parse(
          Config(
              "qwen2",
              {{"rope_scaling",
                R"({"type":"yarn","factor":4.0,"original_max_position_embeddings":128,"beta_fast":16,"mscale":0.7,"mscale_all_dim":1.0,"truncate":false})"}}))
          .value()
          .ropes[0];
  EXPECT_EQ(yarn.scaling, RopeConfig::Scaling::kYarn);
  EXPECT_EQ(yarn.original_max_positions, 128);
  EXPECT_EQ(yarn.beta_fast, 16.0);
  EXPECT_EQ(yarn.beta_slow, 1.0);
  EXPECT_EQ(yarn.mscale, 0.7);
  EXPECT_FALSE(yarn.truncate);
  EXPECT_EQ(yarn.attention_factor, std::nullopt);
  // Without a factor YaRN stretches to the stated maximum; without an original maximum that is the stated one.
  EXPECT_EQ(Parse(Config("llama", {{"rope_scaling", R"({"rope_type":"yarn","original_max_position_embeddings":128})"}}))
                .value()
                .ropes[0]
                .factor,
            4.0);
  EXPECT_EQ(Parse(Config("llama", {{"rope_scaling", R"({"rope_type":"yarn","factor":2})"}}))
                .value()
                .ropes[0]
                .original_max_positions,
            512);
}

TEST(ModelConfig, EveryEndThatAFileNamesEnds) {
  const auto ends = [](const std::string& config, std::string_view generation) {
    return Parse(config, generation).value().eos_ids;
  };
  EXPECT_THAT(ends(Config("llama", {{"eos_token_id", "2"}}), R"({"eos_token_id":[5,2,6]})"), ElementsAre(2, 5, 6));
  EXPECT_THAT(ends(Config("llama"), R"({"eos_token_id":[5,6]})"), ElementsAre(5, 6));
  EXPECT_THAT(ends(Config("llama", {{"eos_token_id", "2"}}), R"({"temperature":1})"), ElementsAre(2));
  EXPECT_THAT(ends(Config("llama", {{"eos_token_id", "2"}, {"text_config", R"({"eos_token_id":[3]})"}}), ""),
              ElementsAre(2, 3));
  EXPECT_THAT(Parse(Config("llama"), R"({"eos_token_id":"x"})").status().message(),
              StartsWith("m/generation_config.json: 'eos_token_id' is"));
  EXPECT_THAT(Parse(Config("llama"), "{").status().message(), StartsWith("m/generation_config.json: JSON ends"));
}

TEST(ModelConfig, GenerationConfigRecommendsHowToSample) {
  const ModelConfig c =
      Parse(Config("llama"), R"({"do_sample":true,"temperature":0.6,"top_p":0.9,"top_k":40,"min_p":null,
      "repetition_penalty":1.1})")
          .value();
  EXPECT_EQ(c.sampling.temperature, 0.6f);
  EXPECT_EQ(c.sampling.top_p, 0.9f);
  EXPECT_EQ(c.sampling.top_k, 40);
  EXPECT_EQ(c.sampling.min_p, std::nullopt);
  EXPECT_EQ(c.sampling.repetition_penalty, 1.1f);
  EXPECT_TRUE(c.warnings.empty());
  EXPECT_EQ(Parse(Config("llama"), R"({"do_sample":false,"temperature":0.6})").value().sampling.temperature, 0.0f);
  EXPECT_EQ(Parse(Config("llama"), "{}").value().sampling.temperature, std::nullopt);
  EXPECT_EQ(Parse(Config("llama"), R"({"top_k":-1})").value().sampling.top_k, 0);
  // A value that cannot be is no reason to refuse a model.
  const ModelConfig bad =
      Parse(Config("llama"), R"({"temperature":NaN,"top_p":1.5,"top_k":"all","do_sample":1,"min_p":0.1})").value();
  EXPECT_EQ(bad.sampling.temperature, std::nullopt);
  EXPECT_EQ(bad.sampling.top_p, std::nullopt);
  EXPECT_EQ(bad.sampling.min_p, 0.1f);
  EXPECT_THAT(
      bad.warnings,
      ElementsAre("m/generation_config.json: 'temperature' is nan, expected a number from 0 to 100; it is ignored",
                  "m/generation_config.json: 'top_p' is 1.5, expected a number from 0 to 1; it is ignored",
                  "m/generation_config.json: 'top_k' is a string, expected a number; it is ignored",
                  "m/generation_config.json: 'do_sample' is an integer, expected a boolean; it is ignored"));
}

TEST(ModelConfig, PythonsNumbersHurtOnlyWhereTheyAreUsed) {
  std::string config = Config("llama", {{"some_scale", "77"}});
  const auto with = [&](std::string_view number, std::string_view by) {
    std::string text = config;
    return Parse(text.replace(text.find(number), number.size(), by));
  };
  EXPECT_TRUE(with("77", "NaN").ok());
  EXPECT_TRUE(with("77", "[Infinity, -Infinity]").ok());
  config = Config("llama", {{"rms_norm_eps", "77"}});
  EXPECT_EQ(with("77", "NaN").status().message(),
            "m/config.json: 'rms_norm_eps' is nan, expected a number from 1e-20 to 1");
  config = Config("llama", {{"hidden_size", "77"}});
  EXPECT_THAT(with("77", "Infinity").status().message(), HasSubstr("'hidden_size' is a number, expected an integer"));
}

TEST(ModelConfig, GemmaFamilies) {
  const ModelConfig two = Parse(Config("gemma2", {{"head_dim", "8"}, {"sliding_window", "16"}})).value();
  EXPECT_TRUE(two.tie_embeddings && two.norm_adds_one);
  EXPECT_EQ(two.activation, Activation::kGeluTanh);
  EXPECT_EQ(two.embedding_scale, 8);
  EXPECT_EQ(two.attention_scale, 1.0f / 16);
  EXPECT_EQ(two.attention_softcap, 50);
  EXPECT_EQ(two.logit_softcap, 30);
  EXPECT_THAT(two.windows, ElementsAre(16, 0, 16, 0));
  EXPECT_EQ(Parse(Config("gemma2", {{"final_logit_softcapping", "null"}})).value().logit_softcap, 0);

  const ModelConfig three = Parse(Config("gemma3_text", {{"num_hidden_layers", "6"},
                                                         {"rope_scaling", R"({"rope_type":"linear","factor":8})"},
                                                         {"rope_local_base_freq", "5000"}}))
                                .value();
  EXPECT_EQ(three.qk_norm, QkNorm::kHead);
  EXPECT_EQ(three.attention_softcap, 0);
  EXPECT_THAT(three.windows, ElementsAre(4096, 4096, 4096, 4096, 4096, 0));
  EXPECT_THAT(three.layer_ropes, ElementsAre(1, 1, 1, 1, 1, 0));
  ASSERT_EQ(three.ropes.size(), 2u);
  EXPECT_EQ(three.ropes[0].theta, 1e6);
  EXPECT_EQ(three.ropes[0].factor, 8);
  EXPECT_EQ(three.ropes[1].theta, 5000);
  EXPECT_EQ(three.ropes[1].scaling, RopeConfig::Scaling::kNone);

  const std::string inner = Config("gemma3_text", {{"sliding_window", "7"}});
  const ModelConfig whole =
      Parse(R"({"model_type":"gemma3","eos_token_id":[1,106],"text_config":)" + inner + "}").value();
  EXPECT_EQ(whole.tensor_prefix, "language_model.");
  EXPECT_THAT(whole.windows, Each(7));
  EXPECT_THAT(whole.eos_ids, ElementsAre(1, 106));
}

TEST(ModelConfig, PhiRotatesAPartAndStopsWhereItsFactorsChange) {
  const ModelConfig c =
      Parse(Config("phi3", {{"partial_rotary_factor", "0.75"},
                            {"head_dim", "16"},
                            {"original_max_position_embeddings", "128"},
                            {"sliding_window", "64"},
                            {"rope_scaling", R"({"type":"longrope","short_factor":[1,1,2,2,3,3],"long_factor":[9]})"}}))
          .value();
  EXPECT_EQ(c.rotary_dim, 12);
  EXPECT_THAT(c.ropes[0].divisors, ElementsAre(1, 1, 2, 2, 3, 3));
  EXPECT_NEAR(c.ropes[0].attention_factor.value(), std::sqrt(1 + std::log(4.0) / std::log(128.0)), 1e-12);
  EXPECT_EQ(c.max_positions, 128);
  EXPECT_THAT(c.note, HasSubstr("128 of 512 positions"));
  EXPECT_EQ(c.names.fused_qkv, "self_attn.qkv_proj");
  EXPECT_THAT(c.windows, Each(64));
}

TEST(ModelConfig, LayersWithoutPositionsAndLayersWithExperts) {
  EXPECT_THAT(Parse(Config("smollm3")).value().layer_ropes, ElementsAre(0, 0, 0, ModelConfig::kNoRope));
  EXPECT_THAT(Parse(Config("smollm3", {{"no_rope_layers", "[0,1,1,0]"}})).value().layer_ropes,
              ElementsAre(ModelConfig::kNoRope, 0, 0, ModelConfig::kNoRope));
  const ModelConfig qwen = Parse(Config("qwen3_moe", {{"decoder_sparse_step", "2"},
                                                      {"mlp_only_layers", "[3]"},
                                                      {"num_experts", "16"},
                                                      {"moe_intermediate_size", "24"},
                                                      {"norm_topk_prob", "true"}}))
                               .value();
  EXPECT_THAT(qwen.layer_experts, ElementsAre(false, true, false, false));
  EXPECT_EQ(qwen.experts.n_experts, 16);
  EXPECT_EQ(qwen.experts.n_active, 8);
  EXPECT_EQ(qwen.experts.ffn_dim, 24);
  EXPECT_TRUE(qwen.experts.normalise);
  EXPECT_EQ(Parse(Config("mixtral", {{"num_local_experts", "4"}})).value().experts.n_active, 2);
}

TEST(ModelConfig, NamesFieldValueAndExpectation) {
  struct Case {
    std::string config, message;
    StatusCode code = StatusCode::kInvalidArgument;
  };
  const StatusCode unimplemented = StatusCode::kUnimplemented;
  const Case cases[] = {
      {"", "JSON ends too early"},
      {"[]", "holds an array, expected an object"},
      {"{}", "'model_type' is missing"},
      {Config("gpt2"), "'model_type' is \"gpt2\", expected one of gemma2,", unimplemented},
      {Config("llama", {{"hidden_act", "\"gelu\""}}), "'hidden_act' is \"gelu\"", unimplemented},
      {Config("llama", {{"hidden_size", "-"}}), "'hidden_size' is missing, expected an integer from 1 to 1048576"},
      {Config("llama", {{"hidden_size", "\"64\""}}), "'hidden_size' is a string, expected an integer"},
      {Config("llama", {{"hidden_size", "0"}}), "'hidden_size' is 0"},
      {Config("llama", {{"hidden_size", "-64"}}), "'hidden_size' is -64"},
      {Config("llama", {{"hidden_size", "1048577"}}), "'hidden_size' is 1048577"},
      {Config("llama", {{"hidden_size", "18446744073709551615"}}), "'hidden_size' is 18446744073709551615"},
      {Config("llama", {{"hidden_size", "65"}}),
       "'hidden_size' is 65, expected a multiple of 'num_attention_heads', which is 8"},
      {Config("llama", {{"num_hidden_layers", "1025"}}), "'num_hidden_layers' is 1025"},
      {Config("llama", {{"vocab_size", "16777217"}}), "'vocab_size' is 16777217"},
      {Config("llama", {{"num_key_value_heads", "3"}}), "'num_key_value_heads' is 3, expected a divisor of"},
      {Config("llama", {{"num_key_value_heads", "16"}}), "'num_key_value_heads' is 16"},
      {Config("llama", {{"head_dim", "7"}}), "'head_dim' is 7, expected an even number"},
      {Config("llama", {{"head_dim", "1048576"}}), "'num_attention_heads' x 'head_dim'"},
      {Config("llama", {{"rms_norm_eps", "-1"}}), "'rms_norm_eps' is -1"},
      {Config("llama", {{"rms_norm_eps", "[]"}}), "'rms_norm_eps' is an array"},
      {Config("llama", {{"rope_theta", "0"}}), "'rope_theta' is 0"},
      {Config("llama", {{"rope_theta", "1"}}), "'rope_theta' is 1"},
      {Config("llama", {{"partial_rotary_factor", "0.5"}}), "'partial_rotary_factor' is 0.5", unimplemented},
      {Config("llama", {{"rope_scaling", R"({"rope_type":"dynamic","factor":2})"}}),
       "'rope_scaling': 'rope_type' is \"dynamic\"", unimplemented},
      {Config("llama", {{"rope_scaling", R"({"type":"longrope"})"}}), "'short_factor' is missing"},
      {Config("phi3", {{"rope_scaling", R"({"type":"longrope","short_factor":[1,2]})"}}),
       "'short_factor' has 2 members, expected 4"},
      {Config("phi3", {{"rope_scaling", R"({"type":"su","short_factor":[1,2,0,4]})"}}), "'short_factor' is \"0\""},
      {Config("phi3", {{"partial_rotary_factor", "0.4"}}), "'partial_rotary_factor' leaves 3 dimensions"},
      {Config("gemma2", {{"hidden_activation", "\"relu\""}}), "'hidden_activation' is \"relu\"", unimplemented},
      {Config("gemma3_text", {{"use_bidirectional_attention", "true"}}), "'use_bidirectional_attention'",
       unimplemented},
      {Config("gemma3"), "'text_config' is missing"},
      {Config("granite", {{"logits_scaling", "0"}}), "'logits_scaling' is 0"},
      {Config("smollm3", {{"no_rope_layers", "[1]"}}), "'no_rope_layers' has 1 members, expected 4"},
      {Config("smollm3", {{"no_rope_layers", "[1,0,2,1]"}}), "'no_rope_layers' is \"2\""},
      {Config("mixtral", {{"num_experts_per_tok", "9"}}), "'num_experts_per_tok' is 9"},
      {Config("qwen3_moe", {{"mlp_only_layers", "[4]"}}), "'mlp_only_layers' is \"4\", expected layers from 0 to 3"},
      {Config("llama", {{"rope_scaling", R"({"type":"linear"})"}}), "'factor' is missing"},
      {Config("llama", {{"rope_scaling", R"({"type":"linear","factor":0.5})"}}), "'factor' is 0.5"},
      {Config("llama", {{"rope_scaling", R"({"type":"llama3","factor":2,"low_freq_factor":4,"high_freq_factor":4})"}}),
       "'low_freq_factor' is 4, expected less than"},
      {Config("llama", {{"rope_scaling", R"({"type":"llama3","factor":2})"}}), "'low_freq_factor' is missing"},
      {Config("llama", {{"rope_scaling", R"({"type":"yarn","factor":2,"beta_fast":1,"beta_slow":2})"}}),
       "'beta_fast' is 1"},
      {Config("llama", {{"rope_scaling", "3"}}), "'rope_scaling' is an integer, expected an object"},
      {Config("llama", {{"rope_parameters", R"({"full_attention":{"rope_theta":1}})"}}), "differ by layer type",
       unimplemented},
      {Config("llama", {{"rope_parameters", R"({"rope_theta":"x"})"}}), "'rope_parameters': 'rope_theta' is a string"},
      {Config("llama", {{"eos_token_id", "-1"}}), "'eos_token_id' is \"-1\", expected a token id"},
      {Config("llama", {{"eos_token_id", "[1,\"x\"]"}}), "'eos_token_id' is"},
      {Config("llama", {{"bos_token_id", "16777216"}}), "'bos_token_id' is 16777216"},
      {Config("mistral", {{"sliding_window", "0"}}), "'sliding_window' is 0"},
      {Config("qwen3", {{"layer_types", "[]"}}), "'layer_types' has 0 members, expected 4"},
      {Config("qwen3", {{"layer_types", R"(["sliding_attention","a","b","c"])"}}), "no 'sliding_window' is in use"},
      {Config("qwen3", {{"layer_types", R"(["linear_attention","a","b","c"])"}}), "member 0 is \"linear_attention\"",
       unimplemented},
      {Config("mistral", {{"layer_types", R"(["full_attention","full_attention","full_attention","full_attention"])"}}),
       "member 0 is full_attention", unimplemented},
  };
  for (const Case& c : cases) {
    const Status status = Parse(c.config).status();
    EXPECT_EQ(status.code(), c.code) << c.config << ": " << status.message();
    EXPECT_THAT(status.message(), HasSubstr(c.message));
    EXPECT_THAT(status.message(), HasSubstr("m/config.json: "));
    EXPECT_EQ(status.message().find('\n'), std::string::npos);
  }
}

}  // namespace
}  // namespace spanwise

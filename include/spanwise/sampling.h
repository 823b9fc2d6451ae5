// How the next token is chosen. Field names and meanings follow the OpenAI API and Hugging Face generation.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace spanwise {

struct SamplingParams {
  int max_tokens = 256;
  int min_tokens = 0;        // EOS and stop strings are not honoured before
  float temperature = 0.0f;  // 0: greedy, ties to the lowest id
  int top_k = 0;             // 0: off
  float top_p = 1.0f;
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;  // over prompt and output, as in CTRL
  float presence_penalty = 0.0f;    // over output, as in OpenAI's API
  float frequency_penalty = 0.0f;
  std::map<int32_t, float> logit_bias;  // token id -> added to its logit
  std::optional<uint64_t> seed;         // absent: drawn at random and reported
  std::vector<std::string> stop;        // text that ends the answer and is not part of it
  bool ignore_eos = false;
  std::optional<int> logprobs;  // report this many alternatives for each token (0: only the token itself)
};

// What a model's files recommend where a request is silent. Absent: they say nothing.
struct SamplingDefaults {
  std::optional<float> temperature;  // 0: always the most probable token ("do_sample": false)
  std::optional<int> top_k;
  std::optional<float> top_p, min_p, repetition_penalty;
};

// `params` with the values that the model's files recommend.
SamplingParams WithDefaults(SamplingParams params, const SamplingDefaults& defaults);

}  // namespace spanwise

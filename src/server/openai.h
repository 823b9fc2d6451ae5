// Requests of the OpenAI API from JSON to typed values. Pure: no sockets, no engine, so it is tested and fuzzed alone.
//
// Nothing is silently ignored: a field that is not understood, or is understood but not offered, is an error that names
// it; only fields that cannot change an answer (metadata, store, ...) are accepted and dropped. docs/http.md
// lists all.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/backend.h"
#include "server/error.h"

namespace spanwise::server {

struct ParseLimits {
  int default_max_tokens = 1024;  // of chat requests that give none
  size_t max_prompts = 2048;
  size_t max_messages = 4096;
  size_t max_documents = 1024;
  SamplingDefaults sampling = {};  // of requests that say nothing; where it is silent too, temperature 1 and no cuts
};

struct ChatCall {
  std::string model;  // empty: not given
  Job job;
  bool stream = false;
  bool include_usage = false;
};

struct CompletionCall {
  std::string model;
  std::vector<Job> jobs;  // one for each prompt
  bool stream = false;
  bool include_usage = false;
};

struct TokenizeCall {
  std::string model;
  std::string text;
  bool parse_special = true;
};

struct DetokenizeCall {
  std::string model;
  std::vector<int32_t> tokens;
  bool keep_special = true;
};

// Each fills *call, or returns what is wrong with the body (400). Thread-safe.
std::optional<ApiError> ParseChat(std::string_view body, const ParseLimits& limits, ChatCall* call);
std::optional<ApiError> ParseCompletion(std::string_view body, const ParseLimits& limits, CompletionCall* call);
std::optional<ApiError> ParseTokenize(std::string_view body, TokenizeCall* call);
std::optional<ApiError> ParseDetokenize(std::string_view body, DetokenizeCall* call);

}  // namespace spanwise::server

// Requests of the OpenAI API from JSON to typed values. Pure: no sockets, no engine, so it is tested and fuzzed alone.
// What the tables of known_fields.h do not have is ignored, and its names are given back.
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
  bool strict = false;             // fields that are not known are refused
};

// What all bodies have.
struct Call {
  std::string model;                 // empty: not given
  std::vector<std::string> ignored;  // paths of fields that are not known
};

struct ChatCall : Call {
  Job job;
  bool stream = false;
  bool include_usage = false;
};

struct CompletionCall : Call {
  std::vector<Job> jobs;  // one for each prompt
  bool stream = false;
  bool include_usage = false;
};

struct TokenizeCall : Call {
  // A prompt or messages, to be read as the endpoints of answers read them ...
  std::optional<Request> request;
  // ... or else text as it is.
  std::string text;
  bool parse_special = true;
  std::string field;       // that holds them
  bool strings = false;    // the answer has the tokens' texts
  bool as_pieces = false;  // it has them as llama.cpp gives them
};

struct DetokenizeCall : Call {
  std::vector<int32_t> tokens;
  bool keep_special = true;
};

// Each fills *call, or returns what is wrong with the body (400). Thread-safe.
std::optional<ApiError> ParseChat(std::string_view body, const ParseLimits& limits, ChatCall* call);
std::optional<ApiError> ParseCompletion(std::string_view body, const ParseLimits& limits, CompletionCall* call);
std::optional<ApiError> ParseTokenize(std::string_view body, const ParseLimits& limits, TokenizeCall* call);
std::optional<ApiError> ParseDetokenize(std::string_view body, const ParseLimits& limits, DetokenizeCall* call);

// The field that a refusal from behind this layer speaks of: the first one that its message names near its beginning.
// Empty: none.
std::string ParamOf(std::string_view message, bool chat);

}  // namespace spanwise::server

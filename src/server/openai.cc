#include "server/openai.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <set>

#include "base/str.h"
#include "decode/sampler.h"
#include "server/fields.h"
#include "server/structure.h"

namespace spanwise::server {

namespace {

constexpr int kMaxLogprobs = 20;  // as OpenAI's API allows
constexpr int kCompletionMaxTokens = 16;

// The part of both endpoints that shapes the next token, and the request's other common fields.
void ReadSampling(Fields& fields, SamplingParams* s) {
  if (const auto v = fields.Number("temperature")) s->temperature = static_cast<float>(*v);
  if (const auto v = fields.Number("top_p")) s->top_p = static_cast<float>(*v);
  if (const auto v = fields.Number("min_p")) s->min_p = static_cast<float>(*v);
  if (const auto v = fields.Int("top_k")) s->top_k = *v == -1 ? 0 : *v;  // -1 is "off" to clients of other engines
  if (const auto v = fields.Number("presence_penalty")) s->presence_penalty = static_cast<float>(*v);
  if (const auto v = fields.Number("frequency_penalty")) s->frequency_penalty = static_cast<float>(*v);
  if (const auto v = fields.Number("repetition_penalty")) s->repetition_penalty = static_cast<float>(*v);
  if (const auto v = fields.Int("min_tokens")) s->min_tokens = *v;
  if (const auto v = fields.Bool("ignore_eos")) s->ignore_eos = *v;
  if (const json::value* seed = fields.Any("seed")) {
    if (seed->is_int64()) {
      s->seed = static_cast<uint64_t>(seed->get_int64());
    } else if (seed->is_uint64()) {
      s->seed = seed->get_uint64();
    } else {
      fields.Fail(StrFormat("'seed' is {}, expected an integer of 64 bits", JsonKindName(*seed)), "seed",
                  "invalid_type");
    }
  }
}

void ReadStop(Fields& fields, SamplingParams* s) {
  const json::value* stop = fields.Any("stop");
  if (!stop) return;
  if (stop->is_string()) {
    s->stop = {std::string(stop->get_string())};
  } else if (stop->is_array()) {
    for (const json::value& item : stop->get_array()) {
      if (!item.is_string())
        return fields.Fail(StrFormat("'stop' holds {}, expected strings", JsonKindName(item)), "stop", "invalid_type");
      s->stop.emplace_back(item.get_string());
    }
  } else {
    fields.Fail(StrFormat("'stop' is {}, expected a string or an array of strings", JsonKindName(*stop)), "stop",
                "invalid_type");
  }
}

void ReadLogitBias(Fields& fields, SamplingParams* s) {
  const json::object* bias = fields.Object("logit_bias");
  if (!bias) return;
  for (const auto& member : *bias) {
    const std::string_view key = member.key();
    int32_t id = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size())
      return fields.Fail(StrFormat("'logit_bias' has the key {}, expected a token id", Quoted(key)), "logit_bias");
    if (!member.value().is_number())
      return fields.Fail(
          StrFormat("'logit_bias' of token {} is {}, expected a number", id, JsonKindName(member.value())),
          "logit_bias", "invalid_type");
    s->logit_bias[id] = member.value().to_number<float>();
  }
}

// The ranges are the sampler's own; here they are only given the name of the field.
void CheckSampling(Fields& fields, const SamplingParams& s) {
  const Status status = decode::ValidateSampling(s, std::numeric_limits<int>::max());
  if (status.ok()) return;
  const std::string& message = status.message();
  std::string_view param;
  for (const std::string_view name :
       {"max_tokens", "min_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "presence_penalty",
        "frequency_penalty", "logprobs", "logit_bias"})
    if (message.find(name) != std::string::npos && param.empty()) param = name;
  if (message.find("stop string") != std::string::npos) param = "stop";
  if (message.starts_with("min_tokens")) param = "min_tokens";
  fields.Fail(message, param);
}

struct StreamOptions {
  bool stream = false, include_usage = false;
};

StreamOptions ReadStream(Fields& fields) {
  StreamOptions out;
  out.stream = fields.Bool("stream").value_or(false);
  if (const json::object* object = fields.Object("stream_options")) {
    Fields options(*object, "stream_options");
    out.include_usage = options.Bool("include_usage").value_or(false);
    options.Restrict({{"include_obfuscation", "[false]"}});
    options.RefuseRest();
    if (options.error()) {
      fields.Fail(*options.error());
    } else if (!out.stream) {
      fields.Fail("'stream_options' goes with 'stream': true", "stream_options");
    }
  }
  return out;
}

// A string, or an array of text parts that are joined.
std::string ReadContent(Fields& message) {
  const json::value* content = message.Any("content");
  if (!content) {
    message.Fail(StrFormat("'{}' is missing, expected a string or an array of text parts", message.PathOf("content")),
                 "content");
    return {};
  }
  if (content->is_string()) return std::string(content->get_string());
  if (!content->is_array()) {
    message.Fail(StrFormat("'{}' is {}, expected a string or an array of text parts", message.PathOf("content"),
                           JsonKindName(*content)),
                 "content", "invalid_type");
    return {};
  }
  std::string text;
  const json::array& parts = content->get_array();
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string key = StrFormat("content[{}]", i);
    if (!parts[i].is_object()) {
      message.Fail(StrFormat("'{}' is {}, expected an object", message.PathOf(key), JsonKindName(parts[i])), key,
                   "invalid_type");
      return {};
    }
    Fields part(parts[i].get_object(), message.PathOf(key));
    const std::string type = part.String("type").value_or("");
    if (type != "text") {
      part.Fail(
          StrFormat("'{}' is {}, expected \"text\": this model reads text only", part.PathOf("type"), Quoted(type)),
          "type", "unsupported_content");
    }
    const auto piece = part.String("text");
    if (!piece) part.Fail(StrFormat("'{}' is missing, expected a string", part.PathOf("text")), "text");
    part.RefuseRest();
    if (part.error()) {
      message.Fail(*part.error());
      return {};
    }
    text += *piece;
  }
  return text;
}

std::optional<std::string> ReadSalt(Fields& fields) {
  auto salt = fields.String("cache_salt");
  if (salt && salt->size() > Document::kMostSaltBytes)
    fields.Fail(StrFormat("'{}' has {} bytes, expected at most {}", fields.PathOf("cache_salt"), salt->size(),
                          Document::kMostSaltBytes),
                "cache_salt");
  return salt;
}

void ReadMessages(Fields& fields, const ParseLimits& limits, std::vector<Message>* out) {
  const json::array* messages = fields.Array("messages");
  if (!messages || messages->empty())
    return fields.Fail("'messages' is missing or empty, expected at least one message", "messages");
  if (messages->size() > limits.max_messages)
    return fields.Fail(
        StrFormat("'messages' has {} entries, expected at most {}", messages->size(), limits.max_messages), "messages");
  for (size_t i = 0; i < messages->size(); ++i) {
    const std::string key = StrFormat("messages[{}]", i);
    const json::value& item = (*messages)[i];
    if (!item.is_object())
      return fields.Fail(StrFormat("'{}' is {}, expected an object", key, JsonKindName(item)), key, "invalid_type");
    Fields message(item.get_object(), key);
    std::string role = message.String("role").value_or("");
    if (role == "developer") role = "system";
    if (role != "system" && role != "user" && role != "assistant")
      message.Fail(
          StrFormat("'{}' is {}, expected system, developer, user or assistant", message.PathOf("role"), Quoted(role)),
          "role");
    std::string content = ReadContent(message);
    auto salt = ReadSalt(message);
    // What a client sends back when it returns an answer of ours unchanged.
    message.Restrict({{"name", "[]"},
                      {"refusal", "[]"},
                      {"annotations", "[[]]"},
                      {"audio", "[]"},
                      {"tool_calls", "[[]]"},
                      {"function_call", "[]"}});
    message.RefuseRest();
    if (message.error()) return fields.Fail(*message.error());
    out->push_back({std::move(role), std::move(content), std::move(salt)});
  }
}

void ReadDocuments(Fields& fields, const ParseLimits& limits, std::vector<Document>* out) {
  const json::array* documents = fields.Array("documents");
  if (!documents) return;
  if (documents->size() > limits.max_documents)
    return fields.Fail(StrFormat("'documents' has {} entries, expected at most {} (serve --max-documents)",
                                 documents->size(), limits.max_documents),
                       "documents");
  std::set<std::string> ids;
  for (size_t i = 0; i < documents->size(); ++i) {
    const std::string key = StrFormat("documents[{}]", i);
    const json::value& item = (*documents)[i];
    Document document;
    if (item.is_string()) {
      document.text = item.get_string();
    } else if (item.is_object()) {
      Fields parts(item.get_object(), key);
      document.id = parts.String("id").value_or("");
      document.title = parts.String("title").value_or("");
      document.score = parts.Number("score");
      document.cache_salt = ReadSalt(parts);
      const auto text = parts.String("text");
      if (!text) parts.Fail(StrFormat("'{}' is missing, expected a string", parts.PathOf("text")), "text");
      parts.Restrict({{"metadata", ""}});
      parts.RefuseRest();
      if (parts.error()) return fields.Fail(*parts.error());
      document.text = *text;
    } else {
      return fields.Fail(StrFormat("'{}' is {}, expected an object or a string", key, JsonKindName(item)), key,
                         "invalid_type");
    }
    const std::string id = document.id.empty() ? std::to_string(i + 1) : document.id;
    if (!ids.insert(id).second)
      return fields.Fail(StrFormat("'{}.id' is {}, which an earlier document has", key, Quoted(id)), key + ".id");
    out->push_back(std::move(document));
  }
}

void ReadPriority(Fields& options, Request* request) {
  constexpr int kMost = Request::kMostPriority;
  const auto priority = options.Int("priority");
  if (!priority) return;
  if (*priority < -kMost || *priority > kMost)
    options.Fail(StrFormat("'{}' is {}, expected -{} to {}", options.PathOf("priority"), *priority, kMost, kMost),
                 "priority");
  request->priority = *priority;
}

// true or "written", "attention", or false.
void ReadCite(Fields& options, Job* job) {
  const json::value* cite = options.Any("cite");
  if (!cite) return;
  job->cite = *cite != false;
  job->request.attention = *cite == "attention";
  if (!cite->is_bool() && *cite != "written" && *cite != "attention")
    options.Fail(StrFormat("'{}' is {}, expected true, false, \"written\" or \"attention\"", options.PathOf("cite"),
                           json::serialize(*cite).substr(0, 40)),
                 "cite");
}

void ReadSpanwise(Fields& fields, Job* job) {
  const json::object* object = fields.Object("spanwise");
  if (!object) return;
  Fields options(*object, "spanwise");
  if (const auto name = options.String("compose")) {
    const auto mode = ParseComposeMode(*name);
    if (mode.ok()) {
      job->compose = *mode;
    } else {
      options.Fail(mode.status().message(), "compose");
    }
  }
  if (const auto name = options.String("order")) {
    const auto order = ParseDocumentOrder(*name);
    if (order.ok()) {
      job->order = *order;
    } else {
      options.Fail(order.status().message(), "order");
    }
  }
  const auto number = [&](const char* key, double least, double most) {
    const auto value = options.Number(key);
    if (value && !(*value >= least && *value <= most))
      options.Fail(StrFormat("'{}' is {}, expected {} to {}", options.PathOf(key), *value, least, most), key);
    return value;
  };
  job->repair_fraction = number("repair_fraction", 0, 1);
  job->repair_threshold = number("repair_threshold", 0, 1e9);
  job->documents_temperature = number("documents_temperature", 0.01, 100);
  job->documents_scale = number("documents_scale", 0, 100);
  job->repair_policy = options.String("repair_policy");
  job->search_draft = options.String("search_draft");
  job->search_trials = options.Int("search_trials");
  if (constexpr int kMost = ComposeOptions::kMostTrials;
      job->search_trials && (*job->search_trials < 1 || *job->search_trials > kMost))
    options.Fail(StrFormat("'{}' is {}, expected 1 to {}", options.PathOf("search_trials"), *job->search_trials, kMost),
                 "search_trials");
  job->force = options.Bool("force").value_or(false);
  if (const auto top_k = options.Int("top_k")) {
    if (*top_k < 0 || *top_k > 1000)
      options.Fail(StrFormat("'spanwise.top_k' is {}, expected 0 to 1000", *top_k), "top_k");
    job->top_k = *top_k;
  }
  ReadCite(options, job);
  job->request.extract = options.Bool("extract").value_or(false);
  job->request.use_cache = options.Bool("cache").value_or(true);
  ReadPriority(options, &job->request);
  ReadStructure(options, &job->request);
  options.RefuseRest();
  if (options.error()) fields.Fail(*options.error());
}

// Parses the body and hands its members to `read`.
template <typename Read>
std::optional<ApiError> WithBody(std::string_view body, Read read) {
  json::monotonic_resource memory;  // of large bodies, whose many pieces are freed in one go
  const auto value = ParseJson(body, "request body", 64, &memory);
  if (!value.ok()) return ErrorOf(value.status());
  if (!value->is_object())
    return BadRequest(StrFormat("request body: is {}, expected an object", JsonKindName(*value)), {}, "invalid_type");
  Fields fields(value->get_object(), "");
  read(fields);
  return fields.error();
}

void RefuseUnsupported(Fields& fields) {
  fields.Restrict({{"metadata", ""},
                   {"store", ""},
                   {"service_tier", ""},
                   {"safety_identifier", ""},
                   {"prompt_cache_key", ""},
                   {"prompt_cache_retention", ""},
                   {"n", "[1]"}});
}

std::optional<int32_t> TokenOf(const json::value& value) {
  if (!value.is_int64() || value.get_int64() < 0 || value.get_int64() > std::numeric_limits<int32_t>::max()) return {};
  return static_cast<int32_t>(value.get_int64());
}

std::optional<std::vector<int32_t>> TokensOf(const json::array& array) {
  std::vector<int32_t> tokens;
  tokens.reserve(array.size());
  for (const json::value& item : array) {
    const auto id = TokenOf(item);
    if (!id) return {};
    tokens.push_back(*id);
  }
  return tokens;
}

// "prompt": a string, an array of strings, an array of token ids, or an array of such arrays.
void ReadPrompts(Fields& fields, const ParseLimits& limits, const Job& common, std::vector<Job>* jobs) {
  constexpr std::string_view kExpected = "expected a string, an array of strings, or token ids";
  const json::value* prompt = fields.Any("prompt");
  if (!prompt) return fields.Fail(StrFormat("'prompt' is missing, {}", kExpected), "prompt");
  const auto add_text = [&](const json::value& text) {
    jobs->push_back(common);
    jobs->back().request.prompt = std::string(text.get_string());
  };
  const auto add_tokens = [&](const json::array& array) {
    auto tokens = TokensOf(array);
    if (!tokens || tokens->empty()) return false;
    jobs->push_back(common);
    jobs->back().request.prompt_tokens = std::move(*tokens);
    return true;
  };
  if (prompt->is_string()) return add_text(*prompt);
  if (!prompt->is_array())
    return fields.Fail(StrFormat("'prompt' is {}, {}", JsonKindName(*prompt), kExpected), "prompt", "invalid_type");
  const json::array& items = prompt->get_array();
  if (items.empty()) return fields.Fail(StrFormat("'prompt' is an empty array, {}", kExpected), "prompt");
  if (items[0].is_number()) {
    if (!add_tokens(items)) fields.Fail("'prompt' holds something else than token ids", "prompt", "invalid_type");
    return;
  }
  if (items.size() > limits.max_prompts)
    return fields.Fail(StrFormat("'prompt' has {} entries, expected at most {}", items.size(), limits.max_prompts),
                       "prompt");
  for (size_t i = 0; i < items.size(); ++i) {
    if (items[i].is_string()) {
      add_text(items[i]);
    } else if (!items[i].is_array() || !add_tokens(items[i].get_array())) {
      return fields.Fail(StrFormat("'prompt[{}]' is {}, expected a string or token ids", i, JsonKindName(items[i])),
                         "prompt", "invalid_type");
    }
  }
}

}  // namespace

std::optional<ApiError> ParseChat(std::string_view body, const ParseLimits& limits, ChatCall* call) {
  return WithBody(body, [&](Fields& fields) {
    Request& request = call->job.request;
    SamplingParams& sampling = request.sampling;
    call->model = fields.String("model").value_or("");
    ReadMessages(fields, limits, &request.messages);
    ReadDocuments(fields, limits, &request.documents);
    ReadSpanwise(fields, &call->job);
    sampling.temperature = 1.0f;
    sampling = WithDefaults(sampling, limits.sampling);
    ReadSampling(fields, &sampling);
    ReadStop(fields, &sampling);
    ReadLogitBias(fields, &sampling);
    const auto completion_tokens = fields.Int("max_completion_tokens"), tokens = fields.Int("max_tokens");
    sampling.max_tokens = completion_tokens ? *completion_tokens
                          : tokens          ? *tokens
                                            : std::max(limits.default_max_tokens, sampling.min_tokens);
    const bool logprobs = fields.Bool("logprobs").value_or(false);
    if (const auto n = fields.Int("top_logprobs")) {
      if (*n < 0 || *n > kMaxLogprobs)
        fields.Fail(StrFormat("'top_logprobs' is {}, expected 0 to {}", *n, kMaxLogprobs), "top_logprobs");
      if (!logprobs && *n > 0) fields.Fail("'top_logprobs' goes with 'logprobs': true", "top_logprobs");
      sampling.logprobs = *n;
    }
    if (!logprobs) {
      sampling.logprobs.reset();
    } else if (!sampling.logprobs) {
      sampling.logprobs = 0;
    }
    request.cache_salt = ReadSalt(fields).value_or("");
    request.client = fields.String("user").value_or("");
    const StreamOptions stream = ReadStream(fields);
    call->stream = stream.stream;
    call->include_usage = stream.include_usage;
    RefuseUnsupported(fields);
    fields.Restrict({{"parallel_tool_calls", ""},
                     {"tools", "[[]]"},
                     {"tool_choice", R"(["none","auto"])"},
                     {"functions", "[[]]"},
                     {"function_call", R"(["none","auto"])"},
                     {"response_format", R"([{"type":"text"}])"},
                     {"modalities", R"([["text"]])"},
                     {"audio", "[]"},
                     {"prediction", "[]"},
                     {"web_search_options", "[]"},
                     {"reasoning_effort", "[]"},
                     {"verbosity", "[]"}});
    fields.RefuseRest();
    CheckSampling(fields, sampling);
  });
}

std::optional<ApiError> ParseCompletion(std::string_view body, const ParseLimits& limits, CompletionCall* call) {
  return WithBody(body, [&](Fields& fields) {
    Job common;
    SamplingParams& sampling = common.request.sampling;
    call->model = fields.String("model").value_or("");
    sampling.temperature = 1.0f;
    sampling = WithDefaults(sampling, limits.sampling);
    ReadSampling(fields, &sampling);
    ReadStop(fields, &sampling);
    ReadLogitBias(fields, &sampling);
    sampling.max_tokens = fields.Int("max_tokens").value_or(std::max(kCompletionMaxTokens, sampling.min_tokens));
    if (const auto n = fields.Int("logprobs")) {
      if (*n < 0 || *n > kMaxLogprobs)
        fields.Fail(StrFormat("'logprobs' is {}, expected 0 to {}", *n, kMaxLogprobs), "logprobs");
      sampling.logprobs = *n;
    }
    common.request.echo = fields.Bool("echo").value_or(false);
    common.request.cache_salt = ReadSalt(fields).value_or("");
    common.request.client = fields.String("user").value_or("");
    if (const json::object* object = fields.Object("spanwise")) {
      Fields options(*object, "spanwise");
      common.request.use_cache = options.Bool("cache").value_or(true);
      ReadPriority(options, &common.request);
      ReadStructure(options, &common.request);
      options.RefuseRest();
      if (options.error()) fields.Fail(*options.error());
    }
    common.cite = false;
    common.top_k = 0;
    const StreamOptions stream = ReadStream(fields);
    call->stream = stream.stream;
    call->include_usage = stream.include_usage;
    RefuseUnsupported(fields);
    fields.Restrict({{"best_of", "[1]"}, {"suffix", R"([""])"}});
    ReadPrompts(fields, limits, common, &call->jobs);
    // Their reports come with an answer of one choice.
    if (call->jobs.size() > 1)
      for (const auto& [name, given] : {std::pair{"spanwise.branches", !common.request.branches.empty()},
                                        {"spanwise.steps", !common.request.steps.empty()},
                                        {"spanwise.keep_subtasks", common.request.keep_subtasks.has_value()}})
        if (given) fields.Fail(StrFormat("'{}' goes with one prompt", name), name);
    fields.RefuseRest();
    CheckSampling(fields, sampling);
  });
}

std::optional<ApiError> ParseTokenize(std::string_view body, TokenizeCall* call) {
  return WithBody(body, [&](Fields& fields) {
    call->model = fields.String("model").value_or("");
    const auto text = fields.String("text");
    if (!text) fields.Fail("'text' is missing, expected a string", "text");
    call->text = text.value_or("");
    call->parse_special = fields.Bool("parse_special").value_or(true);
    fields.RefuseRest();
  });
}

std::optional<ApiError> ParseDetokenize(std::string_view body, DetokenizeCall* call) {
  return WithBody(body, [&](Fields& fields) {
    call->model = fields.String("model").value_or("");
    if (const json::array* tokens = fields.Array("tokens")) {
      auto ids = TokensOf(*tokens);
      if (!ids) fields.Fail("'tokens' holds something else than token ids", "tokens", "invalid_type");
      call->tokens = std::move(ids).value_or(std::vector<int32_t>());
    } else {
      fields.Fail("'tokens' is missing, expected an array of token ids", "tokens");
    }
    call->keep_special = fields.Bool("keep_special").value_or(true);
    fields.RefuseRest();
  });
}

}  // namespace spanwise::server

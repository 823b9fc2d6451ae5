#include "server/openai.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <set>

#include "base/str.h"
#include "decode/sampler.h"
#include "prompt/repair/repair.h"
#include "server/known_fields.h"
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
    if (seed->is_uint64()) {
      s->seed = seed->get_uint64();
    } else if (const auto integer = IntegerOf(*seed)) {
      s->seed = static_cast<uint64_t>(*integer);
    } else {
      fields.WrongType("seed", *seed, "an integer of 64 bits");
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
    fields.WrongType("stop", *stop, "a string or an array of strings");
  }
}

void ReadLogitBias(Fields& fields, SamplingParams* s) {
  const json::object* bias = fields.Object("logit_bias");
  if (!bias) return;
  for (const auto& member : *bias) {
    const std::string_view key = member.key();
    int32_t id = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id < 0)
      return fields.Fail(StrFormat("'logit_bias' has the key {}, expected a token id", Quoted(key)), "logit_bias");
    if (!member.value().is_number())
      return fields.Fail(
          StrFormat("'logit_bias' of token {} is {}, expected a number", id, JsonKindName(member.value())),
          "logit_bias", "invalid_type");
    s->logit_bias[id] = member.value().to_number<float>();
  }
}

// The ranges are the sampler's own; here they are only given the name of the field.
void CheckSampling(Fields& fields, const SamplingParams& s, bool chat) {
  const Status status = decode::ValidateSampling(s, std::numeric_limits<int>::max());
  if (!status.ok()) fields.Fail(status.message(), ParamOf(status.message(), chat));
}

struct StreamOptions {
  bool stream = false, include_usage = false;
};

StreamOptions ReadStream(Fields& fields) {
  StreamOptions out;
  out.stream = fields.Bool("stream").value_or(false);
  if (const json::object* object = fields.Object("stream_options")) {
    Fields options(*object, kStreamOptionsFields, &fields, "stream_options");
    out.include_usage = options.Bool("include_usage").value_or(false);
    if (options.Finish() && !out.stream) fields.Fail("'stream_options' goes with 'stream': true", "stream_options");
  }
  return out;
}

// One part of a message's content: an object, or a string as some clients write it.
std::string ReadPart(Fields& message, const json::value& value, const std::string& key) {
  if (value.is_string()) return std::string(value.get_string());
  if (!value.is_object()) {
    message.WrongType(key, value, "an object or a string");
    return {};
  }
  Fields part(value.get_object(), kContentPartFields, &message, key);
  const auto type = part.String("type");
  if (!type) {
    part.Missing("type", "\"text\"");
  } else if (*type != "text") {
    part.Fail(
        StrFormat("'{}' is {}, expected \"text\": this model reads text only", part.PathOf("type"), Quoted(*type)),
        "type", "unsupported_content");
  }
  auto text = part.String("text");
  if (!text) part.Missing("text", "a string");
  return part.Finish() ? std::move(*text) : std::string();
}

// A string, or an array of text parts that are joined. An answer may have none: so clients return one that was empty.
std::string ReadContent(Fields& message, std::string_view role) {
  constexpr std::string_view kExpected = "a string or an array of text parts";
  const json::value* content = message.Any("content");
  if (!content) {
    if (role != "assistant") message.Missing("content", kExpected);
    return {};
  }
  if (content->is_string()) return std::string(content->get_string());
  if (!content->is_array()) {
    message.WrongType("content", *content, kExpected);
    return {};
  }
  std::string text;
  const json::array& parts = content->get_array();
  for (size_t i = 0; i < parts.size() && !message.error(); ++i)
    text += ReadPart(message, parts[i], StrFormat("content[{}]", i));
  return text;
}

std::string ReadRole(Fields& message) {
  constexpr std::string_view kExpected = "system, developer, user or assistant";
  const auto role = message.String("role");
  if (!role) {
    message.Missing("role", kExpected);
    return {};
  }
  if (*role == "developer") return "system";
  if (*role == "tool" || *role == "function") {
    message.Fail(StrFormat("'{}' is {}, but calls of tools are not supported; expected {}", message.PathOf("role"),
                           Quoted(*role), kExpected),
                 "role", "unsupported_value");
  } else if (*role != "system" && *role != "user" && *role != "assistant") {
    message.Fail(StrFormat("'{}' is {}, expected {}", message.PathOf("role"), Quoted(*role), kExpected), "role");
  }
  return *role;
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
  if (!messages) return fields.Missing("messages", "at least one message");
  if (messages->empty()) return fields.Fail("'messages' is empty, expected at least one message", "messages");
  if (messages->size() > limits.max_messages)
    return fields.Fail(
        StrFormat("'messages' has {} entries, expected at most {}", messages->size(), limits.max_messages), "messages");
  for (size_t i = 0; i < messages->size(); ++i) {
    const std::string key = StrFormat("messages[{}]", i);
    const json::value& item = (*messages)[i];
    if (!item.is_object()) return fields.WrongType(key, item, "an object");
    Fields message(item.get_object(), kMessageFields, &fields, key);
    std::string role = ReadRole(message);
    std::string content = ReadContent(message, role);
    auto salt = ReadSalt(message);
    if (!message.Finish()) return;
    out->push_back({std::move(role), std::move(content), std::move(salt)});
  }
}

// A string, or an integer, which is its decimal digits. Empty: none.
std::string ReadDocumentId(Fields& document) {
  const json::value* id = document.Any("id");
  if (!id) return {};
  if (id->is_string()) return std::string(id->get_string());
  if (id->is_uint64()) return std::to_string(id->get_uint64());
  if (const auto integer = IntegerOf(*id)) return std::to_string(*integer);
  document.WrongType("id", *id, "a string or an integer of 64 bits");
  return {};
}

// Under whichever of its names it is given.
std::string ReadDocumentText(Fields& document) {
  std::optional<std::string> text;
  std::string_view name;
  for (const std::string_view key : {"text", "content", "page_content"}) {
    auto given = document.String(key);
    if (!given) continue;
    if (text)
      document.Fail(
          StrFormat("'{}' and '{}' are both given, expected one of them", document.PathOf(name), document.PathOf(key)),
          key);
    text = std::move(given);
    name = key;
  }
  if (!text) document.Missing("text", "a string, here or as 'content' or 'page_content'");
  return std::move(text).value_or("");
}

// Its own, or that of its metadata, or the source that these name.
std::string ReadDocumentTitle(Fields& document) {
  if (auto title = document.String("title")) return std::move(*title);
  const json::value* metadata = document.Any("metadata");
  if (!metadata || !metadata->is_object()) return {};
  for (const std::string_view key : {"title", "source"})
    if (const json::value* value = metadata->get_object().if_contains(key);
        value && value->is_string() && !value->get_string().empty())
      return std::string(value->get_string());
  return {};
}

std::optional<Document> ReadDocument(Fields& fields, const json::value& item, const std::string& key) {
  Document document;
  if (item.is_string()) {
    document.text = item.get_string();
    return document;
  }
  if (!item.is_object()) {
    fields.WrongType(key, item, "an object or a string");
    return {};
  }
  Fields parts(item.get_object(), kDocumentFields, &fields, key);
  document.id = ReadDocumentId(parts);
  document.title = ReadDocumentTitle(parts);
  document.text = ReadDocumentText(parts);
  document.score = parts.Number("score");
  document.cache_salt = ReadSalt(parts);
  if (!parts.Finish()) return {};
  return document;
}

// A document without an id is called by its place in the list, from 1. Those whose place is another's id get one here.
Status NameApart(std::vector<Document>* documents, size_t* at) {
  std::set<std::string, std::less<>> ids;
  for (size_t i = 0; i < documents->size(); ++i) {
    const std::string& id = (*documents)[i].id;
    *at = i;
    if (!id.empty() && !ids.insert(id).second)
      return InvalidArgument(StrFormat("{}, which an earlier document has", Quoted(id)));
  }
  for (size_t i = 0; i < documents->size(); ++i) {
    Document& document = (*documents)[i];
    if (!document.id.empty()) continue;
    std::string id = std::to_string(i + 1);
    if (ids.insert(id).second) continue;
    do id = "document-" + id;
    while (!ids.insert(id).second);
    document.id = std::move(id);
  }
  return Status::Ok();
}

void ReadDocuments(Fields& fields, const ParseLimits& limits, std::vector<Document>* out) {
  const json::array* documents = fields.Array("documents");
  if (!documents) return;
  if (documents->size() > limits.max_documents)
    return fields.Fail(StrFormat("'documents' has {} entries, expected at most {} (serve --max-documents)",
                                 documents->size(), limits.max_documents),
                       "documents");
  for (size_t i = 0; i < documents->size(); ++i) {
    auto document = ReadDocument(fields, (*documents)[i], StrFormat("documents[{}]", i));
    if (!document) return;
    out->push_back(std::move(*document));
  }
  size_t at = 0;
  if (const Status status = NameApart(out, &at); !status.ok()) {
    const std::string path = StrFormat("documents[{}].id", at);
    fields.Fail(StrFormat("'{}' is {}", path, status.message()), path);
  }
}

void ReadPriority(Fields& options, Request* request) {
  constexpr int kMost = Request::kMostPriority;
  request->priority = options.Int("priority", -kMost, kMost).value_or(0);
}

// Tools are none of this server's, but where the answer may not call them they change nothing.
void ReadTools(Fields& fields) {
  const json::value* choice = fields.Any("tool_choice");
  const json::value* tools = fields.Any("tools");
  if (choice && *choice == "none") return;
  if (tools && *tools != json::array()) {
    fields.Fail(
        "'tools' is not supported: the answer would never call them; leave it out, or give 'tool_choice': \"none\"",
        "tools", "unsupported_parameter");
  } else if (choice && *choice != "auto") {
    fields.Fail("'tool_choice' is not supported with this value; leave it out or give \"none\" or \"auto\"",
                "tool_choice", "unsupported_parameter");
  }
}

// true or "written", "attention", or false.
void ReadCite(Fields& options, Job* job) {
  const json::value* cite = options.Any("cite");
  if (!cite) return;
  job->cite = *cite != false;
  job->request.attention = *cite == "attention";
  if (!cite->is_bool() && *cite != "written" && *cite != "attention")
    options.Fail(StrFormat("'{}' is {}, expected true, false, \"written\" or \"attention\"", options.PathOf("cite"),
                           cite->is_string() ? Quoted(cite->get_string(), 40) : std::string(JsonKindName(*cite))),
                 "cite");
}

void ReadSpanwise(Fields& fields, Job* job) {
  const json::object* object = fields.Object("spanwise");
  if (!object) return;
  Fields options(*object, kChatOptionFields, &fields, "spanwise");
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
  job->repair_fraction = options.Number("repair_fraction", 0, 1);
  job->repair_threshold = options.Number("repair_threshold", 0, 1e9);
  job->documents_temperature = options.Number("documents_temperature", 0.01, 100);
  job->documents_scale = options.Number("documents_scale", 0, 100);
  job->repair_policy = options.String("repair_policy");
  if (job->repair_policy)
    if (const auto policy = FindRepairPolicy(*job->repair_policy); !policy.ok())
      options.Fail(policy.status().message(), "repair_policy");
  job->search_draft = options.String("search_draft");
  job->search_trials = options.Int("search_trials", 1, ComposeOptions::kMostTrials);
  job->force = options.Bool("force").value_or(false);
  job->top_k = options.Int("top_k", 0, 1000);
  ReadCite(options, job);
  job->request.extract = options.Bool("extract").value_or(false);
  job->request.use_cache = options.Bool("cache").value_or(true);
  ReadPriority(options, &job->request);
  ReadStructure(options, &job->request);
  options.Finish();
}

// Parses the body and hands its members, of which `known` is the table, to `read`.
template <typename Read>
std::optional<ApiError> WithBody(std::string_view body, FieldTable known, const ParseLimits& limits, Call* call,
                                 Read read) {
  body = WithoutByteOrderMark(body);
  if (Trim(body).empty()) return BadRequest("the request body is empty, expected a JSON object", {}, "invalid_json");
  json::monotonic_resource memory;  // of large bodies, whose many pieces are freed in one go
  const auto value = ParseJson(body, "request body", 64, &memory);
  if (!value.ok()) {
    size_t at = 0;
    if (!IsUtf16(body) && !IsValidUtf8(body, &at))
      return BadRequest(StrFormat("the request body is not valid UTF-8 at byte {}", at), {}, "invalid_utf8");
    return BadRequest(value.status().message(), {}, "invalid_json");
  }
  if (!value->is_object())
    return BadRequest(StrFormat("request body: is {}, expected an object", JsonKindName(*value)), {}, "invalid_type");
  UnknownFields unknown{.refuse = limits.strict, .ignored = {}};
  Fields fields(value->get_object(), known, &unknown);
  call->model = fields.String("model").value_or("");
  read(fields);
  fields.Finish();
  call->ignored = std::move(unknown.ignored);
  return fields.error();
}

std::optional<int32_t> TokenOf(const json::value& value) {
  const auto id = IntegerOf(value);
  if (!id || *id < 0 || *id > std::numeric_limits<int32_t>::max()) return {};
  return static_cast<int32_t>(*id);
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
  constexpr std::string_view kExpected = "a string, an array of strings, or token ids";
  const json::value* prompt = fields.Any("prompt");
  if (!prompt) return fields.Missing("prompt", kExpected);
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
  if (!prompt->is_array()) return fields.WrongType("prompt", *prompt, kExpected);
  const json::array& items = prompt->get_array();
  if (items.empty()) return fields.Fail(StrFormat("'prompt' is an empty array, expected {}", kExpected), "prompt");
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

// What a message begins with: words, and paths such as messages[0].content.
std::string_view NextName(std::string_view* rest) {
  const auto is_name = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  const auto is_path = [&](char c) { return is_name(c) || (c >= '0' && c <= '9') || c == '[' || c == ']' || c == '.'; };
  const auto begin = std::ranges::find_if(*rest, is_name);
  const auto end = std::find_if_not(begin, rest->end(), is_path);
  const std::string_view name(begin, end);
  *rest = std::string_view(end, rest->end());
  return name;
}

}  // namespace

std::string ParamOf(std::string_view message, bool chat) {
  constexpr int kWords = 5;
  for (int i = 0; i < kWords; ++i) {
    const std::string_view path = NextName(&message);
    const std::string_view name = path.substr(0, path.find_first_of(".["));
    if (name == "prompt" && chat) return "messages";
    const auto reads = [&](FieldTable table) {
      const KnownField* field = FindField(table, name);
      return field && field->use == KnownField::Use::kRead;
    };
    if (reads(chat ? kChatFields : kCompletionFields)) return std::string(path);
    if (reads(chat ? kChatOptionFields : kCompletionOptionFields)) return StrFormat("spanwise.{}", path);
  }
  return {};
}

std::optional<ApiError> ParseChat(std::string_view body, const ParseLimits& limits, ChatCall* call) {
  return WithBody(body, kChatFields, limits, call, [&](Fields& fields) {
    Request& request = call->job.request;
    SamplingParams& sampling = request.sampling;
    ReadMessages(fields, limits, &request.messages);
    ReadDocuments(fields, limits, &request.documents);
    ReadSpanwise(fields, &call->job);
    sampling.temperature = 1.0f;
    sampling = WithDefaults(sampling, limits.sampling);
    ReadSampling(fields, &sampling);
    ReadStop(fields, &sampling);
    ReadLogitBias(fields, &sampling);
    const auto completion_tokens = fields.Int("max_completion_tokens", 0), tokens = fields.Int("max_tokens", 0);
    sampling.max_tokens = completion_tokens ? *completion_tokens
                          : tokens          ? *tokens
                                            : std::max(limits.default_max_tokens, sampling.min_tokens);
    const bool logprobs = fields.Bool("logprobs").value_or(false);
    sampling.logprobs = fields.Int("top_logprobs", 0, kMaxLogprobs);
    if (!logprobs && sampling.logprobs.value_or(0) > 0)
      fields.Fail("'top_logprobs' goes with 'logprobs': true", "top_logprobs");
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
    ReadTools(fields);
    CheckSampling(fields, sampling, /*chat=*/true);
  });
}

std::optional<ApiError> ParseCompletion(std::string_view body, const ParseLimits& limits, CompletionCall* call) {
  return WithBody(body, kCompletionFields, limits, call, [&](Fields& fields) {
    Job common;
    SamplingParams& sampling = common.request.sampling;
    sampling.temperature = 1.0f;
    sampling = WithDefaults(sampling, limits.sampling);
    ReadSampling(fields, &sampling);
    ReadStop(fields, &sampling);
    ReadLogitBias(fields, &sampling);
    sampling.max_tokens = fields.Int("max_tokens", 0).value_or(std::max(kCompletionMaxTokens, sampling.min_tokens));
    sampling.logprobs = fields.Int("logprobs", 0, kMaxLogprobs);
    common.request.echo = fields.Bool("echo").value_or(false);
    common.request.cache_salt = ReadSalt(fields).value_or("");
    common.request.client = fields.String("user").value_or("");
    if (const json::object* object = fields.Object("spanwise")) {
      Fields options(*object, kCompletionOptionFields, &fields, "spanwise");
      common.request.use_cache = options.Bool("cache").value_or(true);
      ReadPriority(options, &common.request);
      ReadStructure(options, &common.request);
      options.Finish();
    }
    common.cite = false;
    common.top_k = 0;
    const StreamOptions stream = ReadStream(fields);
    call->stream = stream.stream;
    call->include_usage = stream.include_usage;
    ReadPrompts(fields, limits, common, &call->jobs);
    // Their reports come with an answer of one choice.
    if (call->jobs.size() > 1)
      for (const auto& [name, given] : {std::pair{"spanwise.branches", !common.request.branches.empty()},
                                        {"spanwise.steps", !common.request.steps.empty()},
                                        {"spanwise.keep_subtasks", common.request.keep_subtasks.has_value()}})
        if (given) fields.Fail(StrFormat("'{}' goes with one prompt", name), name);
    CheckSampling(fields, sampling, /*chat=*/false);
  });
}

std::optional<ApiError> ParseTokenize(std::string_view body, const ParseLimits& limits, TokenizeCall* call) {
  return WithBody(body, kTokenizeFields, limits, call, [&](Fields& fields) {
    const auto text = fields.String("text"), prompt = fields.String("prompt"), content = fields.String("content");
    const bool messages = fields.Array("messages") != nullptr;
    if (const int n = text.has_value() + prompt.has_value() + content.has_value() + messages; n == 0) {
      fields.Missing("text", "a string, here or as 'prompt' or 'content', or else 'messages'");
    } else if (n > 1) {
      fields.Fail("more than one of 'text', 'prompt', 'content' and 'messages' is given, expected one",
                  messages ? "messages"
                  : prompt ? "prompt"
                           : "content");
    }
    call->field = messages ? "messages" : prompt ? "prompt" : content ? "content" : "text";
    call->text = prompt ? *prompt : content ? *content : text.value_or("");
    call->parse_special = fields.Bool("parse_special").value_or(true);
    // As vLLM has it, a prompt gets the tokens that a completion's gets unless that is not wanted; as llama.cpp has it,
    // content gets them when that is wanted.
    const auto add_to_prompt = fields.Bool("add_special_tokens"), add_to_content = fields.Bool("add_special");
    if (prompt ? add_to_prompt.value_or(true) : content ? add_to_content.value_or(false) : false)
      call->request.emplace().prompt = call->text;
    if (messages) ReadMessages(fields, limits, &call->request.emplace().messages);
    call->strings = fields.Bool("return_token_strs").value_or(false);
    call->as_pieces = fields.Bool("with_pieces").value_or(false);
  });
}

std::optional<ApiError> ParseDetokenize(std::string_view body, const ParseLimits& limits, DetokenizeCall* call) {
  return WithBody(body, kDetokenizeFields, limits, call, [&](Fields& fields) {
    if (const json::array* tokens = fields.Array("tokens")) {
      auto ids = TokensOf(*tokens);
      if (!ids) fields.Fail("'tokens' holds something else than token ids", "tokens", "invalid_type");
      call->tokens = std::move(ids).value_or(std::vector<int32_t>());
    } else {
      fields.Missing("tokens", "an array of token ids");
    }
    call->keep_special = fields.Bool("keep_special").value_or(true);
  });
}

}  // namespace spanwise::server

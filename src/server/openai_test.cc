#include "server/openai.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <tuple>

#include "base/file.h"
#include "base/str.h"
#include "rag/report.h"
#include "server/known_fields.h"
#include "server/response.h"

namespace spanwise::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

ChatCall Chat(std::string_view body) {
  ChatCall call;
  const auto error = ParseChat(body, {}, &call);
  EXPECT_FALSE(error) << (error ? error->message : "");
  return call;
}

ApiError ChatError(std::string_view body) {
  ChatCall call;
  return ParseChat(body, {}, &call).value_or(ApiError{200, "accepted", {}, {}});
}

// A chat request with further members.
std::string With(std::string_view members) {
  return R"({"model":"m","messages":[{"role":"user","content":"Hi"}],)" + std::string(members) + "}";
}

ApiError CompletionError(std::string_view body) {
  CompletionCall call;
  return ParseCompletion(body, {}, &call).value_or(ApiError{200, "accepted", {}, {}});
}

TEST(ParseChat, TakesFromTheModelsFilesWhatARequestDoesNotSay) {
  ParseLimits limits;
  limits.sampling = {.temperature = 0.0f, .top_k = 40, .top_p = 0.9f, .min_p = {}, .repetition_penalty = 1.25f};
  ChatCall chat;
  EXPECT_FALSE(ParseChat(With(R"("top_k":5)"), limits, &chat));
  const SamplingParams& s = chat.job.request.sampling;
  EXPECT_EQ(s.temperature, 0.0f);
  EXPECT_EQ(s.top_k, 5);
  EXPECT_EQ(s.top_p, 0.9f);
  EXPECT_EQ(s.repetition_penalty, 1.25f);
  CompletionCall completion;
  EXPECT_FALSE(ParseCompletion(R"({"prompt":"x","temperature":0.5})", limits, &completion));
  EXPECT_EQ(completion.jobs[0].request.sampling.temperature, 0.5f);
  EXPECT_EQ(completion.jobs[0].request.sampling.top_k, 40);
  EXPECT_EQ(Chat(With(R"("n":1)")).job.request.sampling.temperature, 1.0f);
}

TEST(ParseChat, PassesOverAByteOrderMark) {
  EXPECT_EQ(Chat("\xEF\xBB\xBF" + With(R"("n":1)")).job.request.messages.size(), 1u);
  EXPECT_THAT(ChatError("\xFF\xFE{").message, HasSubstr("request body: is UTF-16 text, expected UTF-8"));
}

TEST(ParseChat, ReadsWhatClientsSend) {
  const ChatCall call = Chat(R"({"model":"m","stream":true,"stream_options":{"include_usage":true},
    "messages":[{"role":"developer","content":"Be brief."},{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}],
    "temperature":0.5,"top_p":0.9,"seed":-1,"stop":["x","y"],"max_completion_tokens":7,"max_tokens":9,"logprobs":true,"top_logprobs":2,
    "presence_penalty":1,"frequency_penalty":-1,"logit_bias":{"5":-100,"6":2.5},"top_k":-1,"min_p":0.1,"repetition_penalty":1.1,
    "min_tokens":2,"ignore_eos":true,"cache_salt":"s","user":"u","metadata":{"a":"b"},"store":false,"n":1,"tools":[],"tool_choice":"none",
    "response_format":{"type":"text"},"parallel_tool_calls":false,"service_tier":"auto"})");
  EXPECT_EQ(call.model, "m");
  EXPECT_TRUE(call.stream && call.include_usage);
  const Request& r = call.job.request;
  ASSERT_EQ(r.messages.size(), 2u);
  EXPECT_EQ(r.messages[0].role, "system");
  EXPECT_EQ(r.messages[1].content, "ab");
  EXPECT_EQ(r.cache_salt, "s");
  EXPECT_EQ(r.client, "u");
  const SamplingParams& s = r.sampling;
  EXPECT_EQ(s.temperature, 0.5f);
  EXPECT_EQ(s.top_p, 0.9f);
  EXPECT_EQ(s.seed, ~uint64_t{0});
  EXPECT_THAT(s.stop, ElementsAre("x", "y"));
  EXPECT_EQ(s.max_tokens, 7);
  EXPECT_EQ(s.logprobs, 2);
  EXPECT_EQ(s.top_k, 0);
  EXPECT_EQ(s.logit_bias.at(5), -100.0f);
  EXPECT_EQ(s.min_tokens, 2);
  EXPECT_TRUE(s.ignore_eos);
}

TEST(ParseChat, HasTheDefaultsOfTheApi) {
  const ChatCall call = Chat(With(R"("stop":null)"));
  EXPECT_EQ(call.job.request.sampling.temperature, 1.0f);
  EXPECT_EQ(call.job.request.sampling.max_tokens, 1024);
  EXPECT_FALSE(call.job.request.sampling.logprobs);
  EXPECT_FALSE(call.stream);
  EXPECT_FALSE(call.job.compose || call.job.order || call.job.top_k);
  EXPECT_TRUE(call.job.cite);
  EXPECT_EQ(Chat(With(R"("logprobs":true)")).job.request.sampling.logprobs, 0);
  EXPECT_EQ(Chat(With(R"("seed":18446744073709551615)")).job.request.sampling.seed, ~uint64_t{0});
}

TEST(ParseChat, ReadsDocumentsAndExtensions) {
  const ChatCall call = Chat(With(
      R"("documents":[{"id":"d","title":"T","text":"x","score":-1.5,"metadata":{"k":1}},{"text":"y"},"z",{"id":7,"text":"w"}],
    "spanwise":{"compose":"set","order":"canonical","top_k":3,"cite":false,"cache":false,"force":true})"));
  const auto& documents = call.job.request.documents;
  ASSERT_EQ(documents.size(), 4u);
  EXPECT_EQ(documents[0].title, "T");
  EXPECT_EQ(documents[0].score, -1.5);
  EXPECT_EQ(documents[1].id, "");
  EXPECT_FALSE(documents[1].score);
  EXPECT_EQ(documents[2].text, "z");
  EXPECT_EQ(documents[3].id, "7");
  EXPECT_EQ(call.job.compose, ComposeMode::kSet);
  EXPECT_TRUE(call.job.force);
  EXPECT_FALSE(Chat(With(R"("spanwise":{})")).job.force);
  EXPECT_EQ(call.job.order, DocumentOrder::kCanonical);
  EXPECT_EQ(call.job.top_k, 3);
  EXPECT_FALSE(call.job.cite);
  EXPECT_FALSE(Chat(With(R"("spanwise":{"cite":true})")).job.request.attention);
  EXPECT_FALSE(Chat(With(R"("spanwise":{"cite":"written"})")).job.request.attention);
  const Job by_attention = Chat(With(R"("spanwise":{"cite":"attention"})")).job;
  EXPECT_TRUE(by_attention.cite && by_attention.request.attention);
  EXPECT_FALSE(by_attention.request.extract);
  const Job searched = Chat(With(R"("spanwise":{"order":"search","search_trials":5,"search_draft":"x"})")).job;
  EXPECT_EQ(searched.order, DocumentOrder::kSearch);
  EXPECT_EQ(searched.search_trials, 5);
  EXPECT_EQ(searched.search_draft, "x");
  EXPECT_EQ(ChatError(With(R"("spanwise":{"search_trials":0})")).param, "spanwise.search_trials");
  EXPECT_TRUE(Chat(With(R"("spanwise":{"extract":true})")).job.request.extract);
  EXPECT_EQ(ChatError(With(R"("spanwise":{"cite":"both"})")).param, "spanwise.cite");
  EXPECT_EQ(ChatError(With(R"("spanwise":{"cite":1})")).param, "spanwise.cite");
  EXPECT_FALSE(call.job.request.use_cache);
}

TEST(ParseChat, ReadsTheSaltOfEveryText) {
  const ChatCall call = Chat(
      R"({"cache_salt":"tenant","messages":[{"role":"system","content":"s","cache_salt":""},{"role":"user","content":"q"}],
    "documents":[{"text":"x","cache_salt":"group"},{"text":"y","cache_salt":null},{"text":"z","cache_salt":""},"w"]})");
  const Request& request = call.job.request;
  EXPECT_EQ(request.cache_salt, "tenant");
  EXPECT_EQ(request.messages[0].cache_salt, "");
  EXPECT_FALSE(request.messages[1].cache_salt);
  EXPECT_EQ(request.documents[0].cache_salt, "group");
  EXPECT_FALSE(request.documents[1].cache_salt);
  EXPECT_EQ(request.documents[2].cache_salt, "");
  EXPECT_FALSE(request.documents[3].cache_salt);
  const std::string longest(Document::kMostSaltBytes, 'x'), longer = longest + "x";
  const auto with_salt = [](const std::string& salt) { return With("\"cache_salt\":\"" + salt + "\""); };
  EXPECT_EQ(Chat(with_salt(longest)).job.request.cache_salt, longest);
  EXPECT_EQ(ChatError(with_salt(longer)).param, "cache_salt");
  const std::string in_document = "\"documents\":[{\"text\":\"\",\"cache_salt\":\"" + longer + "\"}]";
  EXPECT_EQ(ChatError(With(in_document)).param, "documents[0].cache_salt");
  EXPECT_THAT(ChatError(With(in_document)).message, HasSubstr("1025 bytes, expected at most 1024"));
}

TEST(ParseChat, SaysWhatIsWrongWithABody) {
  const std::string deep = R"({"metadata":)" + std::string(100, '[') + std::string(100, ']') + "}";
  const std::tuple<std::string, const char*, const char*> cases[] = {
      {R"({"model": nope})", "invalid_json", "near byte 10: syntax error"},
      {R"({"messages":[)", "invalid_json", "ends too early, after 13 bytes"},
      {"{} x", "invalid_json", "\"x\" follows the JSON value at byte 3"},
      {"", "invalid_json", "is empty, expected a JSON object"},
      {" \r\n", "invalid_json", "is empty, expected a JSON object"},
      {"[]", "invalid_type", "an array, expected an object"},
      {"null", "invalid_type", "null, expected an object"},
      {deep, "invalid_json", "nested deeper than 64 at byte"},
      {"{\"a\":\"\xff\"}", "invalid_utf8", "not valid UTF-8 at byte 6"},
      {std::string("\x1f\x8b\x08", 3), "invalid_utf8", "not valid UTF-8 at byte 1"},
      {R"({"a":"\ud800"})", "invalid_json", "near byte 12"},
  };
  for (const auto& [body, code, message] : cases) {
    const ApiError error = ChatError(body);
    EXPECT_EQ(error.http_status, 400) << body;
    EXPECT_EQ(error.code, code) << body;
    EXPECT_THAT(error.message, HasSubstr(message));
    EXPECT_EQ(error.param, "");
  }
  Chat("\xef\xbb\xbf" + With(R"("n":1)"));  // a byte order mark is no fault
}

TEST(ParseChat, SaysWhatANumberIs) {
  const std::string many(5000, '9');
  const std::pair<std::string, std::string> cases[] = {
      {"\"max_tokens\":" + many,
       "'max_tokens' is a number of more than 308 digits, expected an integer of 0 to 2147483647"},
      {R"("max_tokens":1e999)",
       "'max_tokens' is a number of more than 308 digits, expected an integer of 0 to 2147483647"},
      {R"("max_completion_tokens":-1)", "'max_completion_tokens' is -1, expected an integer of 0 to 2147483647"},
      {R"("max_tokens":2147483648)", "'max_tokens' is 2147483648, expected an integer of 0 to 2147483647"},
      {R"("max_tokens":18446744073709551615)",
       "'max_tokens' is 18446744073709551615, expected an integer of 0 to 2147483647"},
      {R"("max_tokens":1.5)", "'max_tokens' is 1.5, expected an integer of 0 to 2147483647"},
      {R"("max_tokens":"5")", "'max_tokens' is a string, expected an integer of 0 to 2147483647"},
      {R"("temperature":1e999)", "'temperature' is a number of more than 308 digits, expected a number"},
      {R"("seed":1e20)", "'seed' is a number, expected an integer of 64 bits"},
      {R"("spanwise":{"top_k":1001})", "'spanwise.top_k' is 1001, expected an integer of 0 to 1000"},
      {R"("spanwise":{"repair_fraction":2})", "'spanwise.repair_fraction' is 2, expected a number of 0 to 1"},
  };
  for (const auto& [members, message] : cases) EXPECT_EQ(ChatError(With(members)).message, message);
  const SamplingParams s =
      Chat(With(R"("max_tokens":100.0,"top_k":-1.0,"seed":7.0,"temperature":-0.0,"min_tokens":-0,"n":1.0)"))
          .job.request.sampling;
  EXPECT_EQ(s.max_tokens, 100);
  EXPECT_EQ(s.top_k, 0);
  EXPECT_EQ(s.seed, 7u);
  EXPECT_EQ(s.min_tokens, 0);
  CompletionCall call;
  EXPECT_FALSE(ParseCompletion(R"({"prompt":[1.0,2]})", {}, &call));
  EXPECT_THAT(*call.jobs[0].request.prompt_tokens, ElementsAre(1, 2));
  EXPECT_EQ(Chat(With(R"("max_tokens":5,"max_tokens":6)")).job.request.sampling.max_tokens, 6);  // the last one counts
}

TEST(ParseChat, TellsMissingFromNull) {
  const auto content = [](std::string_view message) {
    return ChatError(R"({"messages":[)" + std::string(message) + "]}").message;
  };
  EXPECT_THAT(content(R"({"role":"user"})"), HasSubstr("'messages[0].content' is missing, expected a string"));
  EXPECT_THAT(content(R"({"role":"user","content":null})"), HasSubstr("'messages[0].content' is null, expected a str"));
  EXPECT_THAT(content(R"({"role":null,"content":""})"), HasSubstr("'messages[0].role' is null, expected system"));
  EXPECT_EQ(Chat(R"({"messages":[{"role":"assistant","content":null},{"role":"assistant"}]})")
                .job.request.messages[1]
                .content,
            "");
  EXPECT_THAT(ChatError("{}").message, HasSubstr("'messages' is missing"));
  EXPECT_THAT(ChatError(R"({"messages":null})").message, HasSubstr("'messages' is null"));
  EXPECT_THAT(ChatError(R"({"messages":[]})").message, HasSubstr("'messages' is empty"));
  EXPECT_THAT(CompletionError(R"({"prompt":null})").message, HasSubstr("'prompt' is null"));
}

TEST(ParseBoth, IgnoreAndReportWhatIsNotKnown) {
  const std::string body =
      R"({"messages":[{"role":"user","name":"Ann","content":["a",{"type":"text","text":"b","cache_control":{}}],"x":1}],
          "documents":[{"text":"t","url":"u","metadata":{"any":1}}],"spanwise":{"magic":true,"branches":[{"prompt":"b","y":0}]},
          "stream":true,"stream_options":{"z":1},"metadata":{"a":1},"store":true,"tempperature":1,"keep_alive":null})";
  const ChatCall call = Chat(body);
  EXPECT_EQ(call.job.request.messages[0].content, "ab");
  EXPECT_THAT(call.ignored,
              testing::UnorderedElementsAre("messages[0].content[1].cache_control", "messages[0].x", "documents[0].url",
                                            "spanwise.branches[0].y", "spanwise.magic", "stream_options.z",
                                            "tempperature", "keep_alive"));
  ChatCall strict;
  EXPECT_EQ(ParseChat(body, {.strict = true}, &strict)->param, "messages[0].content[1].cache_control");
  for (const auto& [members, param] : {std::pair{R"("tempperature":1)", "tempperature"},
                                       {R"("spanwise":{"magic":true})", "spanwise.magic"},
                                       {R"("documents":[{"text":"","url":""}])", "documents[0].url"}}) {
    const auto error = ParseChat(With(members), {.strict = true}, &strict);
    ASSERT_TRUE(error);
    EXPECT_EQ(error->param, param);
    EXPECT_EQ(error->code, "unknown_parameter");
  }
  EXPECT_FALSE(ParseChat(
      With(R"("user":"u","metadata":{"a":{"b":1}},"store":true,"parallel_tool_calls":true,"verbosity":"low")"),
      {.strict = true}, &strict));
  CompletionCall completion;
  EXPECT_FALSE(
      ParseCompletion(R"({"prompt":"a","messages":[],"spanwise":{"magic":1,"compose":"exact"}})", {}, &completion));
  EXPECT_THAT(completion.ignored, testing::UnorderedElementsAre("messages", "spanwise.magic"));
}

TEST(ParseBoth, TakeWhatAsksForNothing) {
  ChatCall chat;
  EXPECT_FALSE(ParseChat(
      With(
          R"("n":1,"tools":[],"tool_choice":"auto","functions":null,"function_call":"none","modalities":["text"],"audio":null,
        "logit_bias":{},"stop":[],"top_logprobs":0,"logprobs":false,"response_format":{"type":"text"},"reasoning_effort":"low",
        "prediction":{"type":"content","content":"x"},"best_of":1,"length_penalty":1.0,"guided_json":null,"stop_token_ids":[],
        "chat_template_kwargs":{},"echo":false,"stream":false,"stream_options":null,"seed":null,"user":null,"documents":null,
        "spanwise":null,"max_tokens":null,"temperature":null)"),
      {.strict = true}, &chat));
  EXPECT_FALSE(ParseChat(With(R"("tools":[{"type":"function"}],"tool_choice":"none")"), {.strict = true}, &chat));
  CompletionCall completion;
  EXPECT_FALSE(ParseCompletion(R"({"prompt":"a","best_of":1,"suffix":"","stop":null,"n":1,"logprobs":null,"echo":null,
                                   "logit_bias":null,"documents":[]})",
                               {.strict = true}, &completion));
}

TEST(ParseChat, TakesDocumentsAsOtherToolsWriteThem) {
  const auto documents = Chat(With(R"("documents":[
      {"page_content":"p","metadata":{"source":"a.md","title":""},"id":null,"type":"Document"},
      {"content":"c","id":7,"metadata":{"source":"b.md"}},
      {"text":"t","id":18446744073709551615,"title":"T","metadata":{"title":"M"}},
      {"text":"u","id":-3,"metadata":"free text"},
      {"text":"v","id":"4.5","content":null,"metadata":{"source":5}},
      "w", {"text":"x","id":"6"},{"text":"y","id":8.0},"z"])"))
                             .job.request.documents;
  ASSERT_EQ(documents.size(), 9u);
  EXPECT_EQ(documents[0].text, "p");
  EXPECT_EQ(documents[0].title, "a.md");
  EXPECT_EQ(documents[0].id, "");
  EXPECT_EQ(documents[1].text, "c");
  EXPECT_EQ(documents[1].id, "7");
  EXPECT_EQ(documents[1].title, "b.md");
  EXPECT_EQ(documents[2].id, "18446744073709551615");
  EXPECT_EQ(documents[2].title, "T");
  EXPECT_EQ(documents[3].id, "-3");
  EXPECT_EQ(documents[3].title, "");
  EXPECT_EQ(documents[4].title, "");
  EXPECT_EQ(documents[5].id, "document-6");  // its place is another's id
  EXPECT_EQ(documents[7].id, "8");
  EXPECT_EQ(documents[8].id, "");
}

TEST(ParamOf, FindsTheFieldThatARefusalSpeaksOf) {
  const std::tuple<const char*, const char*, const char*> cases[] = {
      // message, field of a chat, of a completion
      {"prompt token 9 is outside the vocabulary of 8", "messages", "prompt"},
      {"the prompt is empty", "messages", "prompt"},
      {"the prompt reaches position 9, the model's context holds 8 tokens: use fewer documents", "messages", "prompt"},
      {"a token of logit_bias is 9, expected 0 to 8, the vocabulary", "logit_bias", "logit_bias"},
      {"the length of a stop string is 0, expected 1", "stop", "stop"},
      {"min_tokens is 5, expected 0 to max_tokens, which is 2", "min_tokens", "min_tokens"},
      {"messages[2].role \"x\" is not one of system", "messages[2].role", ""},
      {"'branches[1].prompt' is empty", "spanwise.branches[1].prompt", "spanwise.branches[1].prompt"},
      {"'extract' copies from documents", "spanwise.extract", ""},
      {"order 'sides' changes nothing", "spanwise.order", ""},
      {"'spanwise.top_k' asks for passages", "spanwise.top_k", "spanwise.top_k"},
      {"", "", ""},
      {"something else entirely", "", ""},
  };
  for (const auto& [message, chat, completion] : cases) {
    EXPECT_EQ(ParamOf(message, true), chat) << message;
    EXPECT_EQ(ParamOf(message, false), completion) << message;
  }
}

// docs/http.md lists every field, those without an effect and those with few values where it says so.
TEST(KnownFields, AreDocumented) {
  const auto page = ReadFile(std::string(getenv("SPANWISE_SOURCE_DIR")) + "/docs/http.md", size_t{1} << 20);
  ASSERT_TRUE(page.ok()) << page.status().message();
  const auto section = [&](std::string_view title) {
    const size_t begin = page->find(StrFormat("\n## {}\n", title));
    EXPECT_NE(begin, std::string::npos) << title;
    return page->substr(begin, page->find("\n## ", begin + 1) - begin);
  };
  const std::string fields = section("Fields");
  for (const FieldTable table :
       {kChatFields, kCompletionFields, kTokenizeFields, kDetokenizeFields, kMessageFields, kContentPartFields,
        kDocumentFields, kStreamOptionsFields, kChatOptionFields, kContinuationFields}) {
    for (const KnownField& field : table) {
      const bool read = field.use == KnownField::Use::kRead;
      const std::string& where = read ? *page : fields;
      size_t at = std::string::npos;
      for (const char* form : {"`{}`", ".{}`", "\"{}\""})
        at = std::min(at, where.find(StrFormat(fmt::runtime(form), field.name)));
      EXPECT_NE(at, std::string::npos) << field.name;
      if (field.use != KnownField::Use::kOnly) continue;
      const auto only = ParseJson(field.only, field.name).value();
      const size_t row = where.rfind('\n', at) + 1;
      for (const json::value& v : only.as_array())
        EXPECT_THAT(where.substr(row, where.find('\n', row) - row), HasSubstr(json::serialize(v))) << field.name;
    }
  }
}

struct BadField {
  const char* members;
  const char* param;
};

TEST(ParseChat, NamesTheFieldThatIsWrong) {
  const BadField cases[] = {
      {R"("temperature":"hot")", "temperature"},
      {R"("temperature":-1)", "temperature"},
      {R"("temperature":1e300)", "temperature"},
      {R"("top_p":2)", "top_p"},
      {R"("max_tokens":1.5)", "max_tokens"},
      {R"("max_tokens":1e18)", "max_tokens"},
      {R"("max_tokens":-1)", "max_tokens"},
      {R"("seed":1.5)", "seed"},
      {R"("stop":[1])", "stop"},
      {R"("stop":{})", "stop"},
      {R"("stop":"")", "stop"},
      {R"("logit_bias":{"x":1})", "logit_bias"},
      {R"("logit_bias":{"-1":1})", "logit_bias"},
      {R"("logit_bias":{"1":"a"})", "logit_bias"},
      {R"("logit_bias":{"1":101})", "logit_bias"},
      {R"("top_logprobs":3)", "top_logprobs"},
      {R"("logprobs":true,"top_logprobs":21)", "top_logprobs"},
      {R"("logprobs":2)", "logprobs"},
      {R"("stream":"yes")", "stream"},
      {R"("stream_options":{"include_usage":true})", "stream_options"},
      {R"("stream":true,"stream_options":{"include_obfuscation":true})", "stream_options.include_obfuscation"},
      {R"("n":2)", "n"},
      {R"("tools":[{"type":"function"}])", "tools"},
      {R"("tool_choice":"required")", "tool_choice"},
      {R"("response_format":{"type":"json_schema","json_schema":{}})", "response_format"},
      {R"("functions":[{}])", "functions"},
      {R"("modalities":["audio"])", "modalities"},
      {R"("web_search_options":{})", "web_search_options"},
      {R"("best_of":2)", "best_of"},
      {R"("tools":[{}],"tool_choice":"required")", "tools"},
      {R"("guided_regex":"a*")", "guided_regex"},
      {R"("echo":true)", "echo"},
      {R"("documents":{})", "documents"},
      {R"("documents":[1])", "documents[0]"},
      {R"("documents":[{"id":"a"}])", "documents[0].text"},
      {R"("documents":[{"text":"","cache_salt":1}])", "documents[0].cache_salt"},
      {R"("documents":[{"id":1.5,"text":""}])", "documents[0].id"},
      {R"("documents":[{"id":[],"text":""}])", "documents[0].id"},
      {R"("documents":[{"text":"","content":""}])", "documents[0].content"},
      {R"("documents":[{"page_content":1}])", "documents[0].page_content"},
      {R"("documents":[{"id":7,"text":""},"",{"id":"7","text":""}])", "documents[2].id"},
      {R"("documents":[{"id":1,"text":""},{"id":"1","text":""}])", "documents[1].id"},
      {R"("documents":[{"id":"a","text":""},{"id":"a","text":""}])", "documents[1].id"},
      {R"("spanwise":[])", "spanwise"},
      {R"("spanwise":{"compose":"mix"})", "spanwise.compose"},
      {R"("spanwise":{"order":"random"})", "spanwise.order"},
      {R"("spanwise":{"top_k":-1})", "spanwise.top_k"},
      {R"("spanwise":{"repair_fraction":1.1})", "spanwise.repair_fraction"},
      {R"("spanwise":{"repair_policy":3})", "spanwise.repair_policy"},
      {R"("spanwise":{"repair_threshold":-0.1})", "spanwise.repair_threshold"},
      {R"("spanwise":{"documents_temperature":0})", "spanwise.documents_temperature"},
      {R"("spanwise":{"documents_scale":-1})", "spanwise.documents_scale"},
      {R"("spanwise":{"repair_policy":"magic"})", "spanwise.repair_policy"},
      {R"("spanwise":{"priority":"high"})", "spanwise.priority"},
      {R"("spanwise":{"priority":1.5})", "spanwise.priority"},
      {R"("spanwise":{"priority":101})", "spanwise.priority"},
      {R"("spanwise":{"priority":-1e9})", "spanwise.priority"},
      {R"("spanwise":{"priority":[1]})", "spanwise.priority"},
      {R"("user":7)", "user"},
      {R"("user":{"name":"a"})", "user"},
  };
  for (const auto& [members, param] : cases) {
    const ApiError error = ChatError(With(members));
    EXPECT_EQ(error.http_status, 400) << members;
    EXPECT_EQ(error.param, param) << members << ": " << error.message;
  }
}

TEST(ParseChat, NamesThePlaceInMessages) {
  const BadField cases[] = {
      {R"({"messages":[]})", "messages"},
      {R"({})", "messages"},
      {R"({"messages":{}})", "messages"},
      {R"({"messages":["x"]})", "messages[0]"},
      {R"({"messages":[{"role":"user"}]})", "messages[0].content"},
      {R"({"messages":[{"role":"user","content":null}]})", "messages[0].content"},
      {R"({"messages":[{"role":"tool","content":"x"}]})", "messages[0].role"},
      {R"({"messages":[{"role":"user","content":3}]})", "messages[0].content"},
      {R"({"messages":[{"role":"user","content":"a"},{"role":"user","content":[1]}]})", "messages[1].content[0]"},
      {R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":{}}]}]})",
       "messages[0].content[0].type"},
      {R"({"messages":[{"role":"user","content":[{"type":"text"}]}]})", "messages[0].content[0].text"},
      {R"({"messages":[{"role":"assistant","content":"a","tool_calls":[{}]}]})", "messages[0].tool_calls"},
      {R"({"messages":[{"content":"a"}]})", "messages[0].role"},
      {R"({"messages":[{"role":"user","content":[{"text":"a"}]}]})", "messages[0].content[0].type"},
      {R"({"messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"x"}]}]})", "messages[0].tool_calls"},
  };
  for (const auto& [body, param] : cases) {
    const ApiError error = ChatError(body);
    EXPECT_EQ(error.http_status, 400) << body;
    EXPECT_EQ(error.param, param) << body << ": " << error.message;
  }
  Chat(
      R"({"messages":[{"role":"assistant","content":"a","refusal":null,"annotations":[],"tool_calls":null},{"role":"user","content":"b"}]})");
}

TEST(ParseCompletion, TakesEveryFormOfPrompt) {
  const auto parse = [](std::string_view body) {
    CompletionCall call;
    const auto error = ParseCompletion(body, {}, &call);
    EXPECT_FALSE(error) << (error ? error->message : "");
    return call;
  };
  CompletionCall call = parse(R"({"prompt":"a","echo":true,"logprobs":5,"max_tokens":0})");
  ASSERT_EQ(call.jobs.size(), 1u);
  EXPECT_EQ(call.jobs[0].request.prompt, "a");
  EXPECT_TRUE(call.jobs[0].request.echo);
  EXPECT_EQ(call.jobs[0].request.sampling.logprobs, 5);
  EXPECT_EQ(call.jobs[0].request.sampling.max_tokens, 0);
  call = parse(R"({"prompt":["a","b"]})");
  ASSERT_EQ(call.jobs.size(), 2u);
  EXPECT_EQ(call.jobs[1].request.prompt, "b");
  EXPECT_EQ(call.jobs[1].request.sampling.max_tokens, 16);
  call = parse(R"({"prompt":[1,2,3]})");
  ASSERT_EQ(call.jobs.size(), 1u);
  EXPECT_THAT(*call.jobs[0].request.prompt_tokens, ElementsAre(1, 2, 3));
  call = parse(R"({"prompt":[[1],[2,3]]})");
  ASSERT_EQ(call.jobs.size(), 2u);
  EXPECT_THAT(*call.jobs[1].request.prompt_tokens, ElementsAre(2, 3));
}

TEST(ParseCompletion, NamesTheFieldThatIsWrong) {
  const BadField cases[] = {
      {R"({})", "prompt"},
      {R"({"prompt":[]})", "prompt"},
      {R"({"prompt":{}})", "prompt"},
      {R"({"prompt":[1,"a"]})", "prompt"},
      {R"({"prompt":["a",1]})", "prompt"},
      {R"({"prompt":[1.5]})", "prompt"},
      {R"({"prompt":[-1]})", "prompt"},
      {R"({"prompt":[[]]})", "prompt"},
      {R"({"prompt":"a","best_of":2})", "best_of"},
      {R"({"prompt":"a","n":2})", "n"},
      {R"({"prompt":"a","suffix":"b"})", "suffix"},
      {R"({"prompt":"a","logprobs":true})", "logprobs"},
      {R"({"prompt":"a","logprobs":21})", "logprobs"},
      {R"({"prompt":null})", "prompt"},
      {R"({"prompt":"a","documents":["x"]})", "documents"},
      {R"({"prompt":"a","user":["b"]})", "user"},
      {R"({"prompt":"a","spanwise":{"priority":true}})", "spanwise.priority"},
      {R"({"prompt":"a","spanwise":{"compose":"set"}})", "spanwise.compose"},
  };
  for (const auto& [body, param] : cases) {
    const ApiError error = CompletionError(body);
    EXPECT_EQ(error.http_status, 400) << body;
    EXPECT_EQ(error.param, param) << body << ": " << error.message;
  }
}

TEST(ParseBoth, ReadPriorityAndUser) {
  EXPECT_EQ(Chat(With(R"("spanwise":{"priority":-7})")).job.request.priority, -7);
  EXPECT_EQ(Chat(With(R"("user":null,"spanwise":{})")).job.request.priority, 0);
  CompletionCall call;
  EXPECT_FALSE(
      ParseCompletion(R"({"prompt":["a","b"],"user":"u","spanwise":{"priority":3,"cache":false}})", {}, &call));
  ASSERT_EQ(call.jobs.size(), 2u);
  EXPECT_EQ(call.jobs[1].request.priority, 3);
  EXPECT_EQ(call.jobs[1].request.client, "u");
  EXPECT_FALSE(call.jobs[1].request.use_cache);
}

TEST(ParseBoth, ReadBranches) {
  const std::string members = R"("spanwise":{"branches":[{"prompt":"a","max_tokens":3},{"prompt":"b"}],"join":"c"})";
  CompletionCall completion;
  ASSERT_FALSE(ParseCompletion(R"({"prompt":"p",)" + members + "}", {}, &completion));
  for (const Request& r : {Chat(With(members)).job.request, completion.jobs[0].request}) {
    ASSERT_EQ(r.branches.size(), 2u);
    EXPECT_EQ(r.branches[0].prompt, "a");
    EXPECT_EQ(r.branches[0].max_tokens, 3);
    EXPECT_FALSE(r.branches[1].max_tokens.has_value());
    EXPECT_EQ(r.join, "c");
  }
  const std::pair<const char*, const char*> wrong[] = {
      {R"("branches":[])", "spanwise.branches"},
      {R"("branches":{})", "spanwise.branches"},
      {R"("branches":["a"])", "spanwise.branches[0]"},
      {R"("branches":[{"prompt":"a"},{}])", "spanwise.branches[1].prompt"},
      {R"("branches":[{"prompt":"a","max_tokens":-1}])", "spanwise.branches[0].max_tokens"},
      {R"("branches":[{"prompt":"a","max_tokens":1.5}])", "spanwise.branches[0].max_tokens"},
      {R"("join":"c")", "spanwise.join"},
  };
  for (const auto& [given, param] : wrong) {
    const ApiError error = ChatError(With(std::string(R"("spanwise":{)") + given + "}"));
    EXPECT_EQ(error.http_status, 400);
    EXPECT_EQ(error.param, param);
    EXPECT_THAT(error.message, HasSubstr(param));
  }
  EXPECT_EQ(CompletionError(R"({"prompt":["p","q"],"spanwise":{"branches":[{"prompt":"a"}]}})").param,
            "spanwise.branches");
}

TEST(ParseBoth, ReadSteps) {
  const std::string members = R"("spanwise":{"steps":[{"max_tokens":3},{"prompt":"b"}],"keep_subtasks":2})";
  CompletionCall completion;
  ASSERT_FALSE(ParseCompletion(R"({"prompt":"p",)" + members + "}", {}, &completion));
  for (const Request& r : {Chat(With(members)).job.request, completion.jobs[0].request}) {
    ASSERT_EQ(r.steps.size(), 2u);
    EXPECT_EQ(r.steps[0].max_tokens, 3);
    EXPECT_EQ(r.steps[1].prompt, "b");
    EXPECT_EQ(r.keep_subtasks, 2);
  }
  EXPECT_EQ(ChatError(With(R"("spanwise":{"steps":[{},{}]})")).param, "spanwise.steps[1].prompt");
  EXPECT_EQ(ChatError(With(R"("spanwise":{"keep_subtasks":-1})")).param, "spanwise.keep_subtasks");
  EXPECT_EQ(ChatError(With(R"("spanwise":{"keep_subtasks":1,"branches":[{"prompt":"a"}]})")).param,
            "spanwise.branches");
  EXPECT_EQ(CompletionError(R"({"prompt":["p","q"],"spanwise":{"keep_subtasks":0}})").param, "spanwise.keep_subtasks");
}

TEST(Response, TellsWhatStepsCameTo) {
  Answer answer;
  EXPECT_FALSE(SpanwiseJson(answer).contains("steps") || SpanwiseJson(answer).contains("pruning"));
  answer.steps = {{.text = "a", .finish_reason = FinishReason::kStop, .tokens = {}, .completion_tokens = 2}};
  answer.pruning = {.lists = 1, .tokens = 2, .reencoded_tokens = 3, .peak_position = 4};
  const json::object out = SpanwiseJson(answer);
  EXPECT_EQ(json::serialize(out.at("steps")), R"([{"text":"a","finish_reason":"stop","completion_tokens":2}])");
  EXPECT_EQ(json::serialize(out.at("pruning")), R"({"lists":1,"tokens":2,"reencoded_tokens":3,"peak_position":4})");
}

TEST(Response, TellsWhatBranchesCameTo) {
  Answer answer;
  EXPECT_FALSE(SpanwiseJson(answer).contains("branches"));
  answer.branches = {{.text = "a\xff", .finish_reason = FinishReason::kLength, .tokens = {}, .usage = {3, 2, 1}}};
  answer.branches[0].recomputed_tokens = 1;
  const json::object one = SpanwiseJson(answer).at("branches").as_array().at(0).as_object();
  EXPECT_EQ(one.at("text").as_string(), "a\xef\xbf\xbd");
  EXPECT_EQ(one.at("finish_reason").as_string(), "length");
  EXPECT_EQ(json::serialize(one.at("usage")), R"({"prompt_tokens":3,"cached_tokens":2,"completion_tokens":1})");
  EXPECT_EQ(one.at("recomputed_tokens").as_int64(), 1);
}

TEST(ParseTokens, BothWays) {
  TokenizeCall tokenize;
  EXPECT_FALSE(ParseTokenize(R"({"text":"a","parse_special":false})", {}, &tokenize));
  EXPECT_FALSE(tokenize.parse_special);
  EXPECT_EQ(ParseTokenize("{}", {}, &tokenize)->param, "text");
  DetokenizeCall detokenize;
  EXPECT_FALSE(ParseDetokenize(R"({"tokens":[1,2]})", {}, &detokenize));
  EXPECT_THAT(detokenize.tokens, ElementsAre(1, 2));
  EXPECT_EQ(ParseDetokenize(R"({"tokens":["a"]})", {}, &detokenize)->param, "tokens");
  tokenize = {};
  EXPECT_FALSE(ParseTokenize(R"({"prompt":"a"})", {}, &tokenize));  // as vLLM has it: what a completion would read
  EXPECT_EQ(tokenize.request->prompt, "a");
  tokenize = {};
  EXPECT_FALSE(ParseTokenize(R"({"prompt":"a","add_special_tokens":false,"return_token_strs":true})", {}, &tokenize));
  EXPECT_FALSE(tokenize.request);
  EXPECT_TRUE(tokenize.strings && tokenize.parse_special);
  EXPECT_EQ(tokenize.text, "a");
  tokenize = {};
  EXPECT_FALSE(ParseTokenize(R"({"content":"a","with_pieces":true})", {}, &tokenize));  // as llama.cpp has it
  EXPECT_FALSE(tokenize.request);
  EXPECT_TRUE(tokenize.as_pieces);
  EXPECT_FALSE(ParseTokenize(R"({"content":"a","add_special":true})", {}, &tokenize));
  EXPECT_EQ(tokenize.request->prompt, "a");
  tokenize = {};
  EXPECT_FALSE(
      ParseTokenize(R"({"messages":[{"role":"user","content":"a"}],"add_generation_prompt":true})", {}, &tokenize));
  EXPECT_EQ(tokenize.request->messages[0].content, "a");
  EXPECT_EQ(ParseTokenize(R"({"messages":[{"role":"user"}]})", {}, &tokenize)->param, "messages[0].content");
  EXPECT_EQ(ParseTokenize(R"({"text":"a","prompt":"b"})", {}, &tokenize)->param, "prompt");
  EXPECT_EQ(ParseTokenize(R"({"messages":[],"prompt":"b"})", {}, &tokenize)->param, "messages");
  EXPECT_EQ(ParseDetokenize(R"({"tokens":"a"})", {}, &detokenize)->param, "tokens");
}

TEST(Response, ReplacesOnlyBadBytesAndTheSameInPieces) {
  EXPECT_EQ(rag::ReplaceInvalidUtf8("gr\xc3\xbc\xc3\x9f"), "gr\xc3\xbc\xc3\x9f");
  EXPECT_EQ(rag::ReplaceInvalidUtf8("a\xe2\x82"
                                    "b"),
            "a\xef\xbf\xbd\xef\xbf\xbd"
            "b");
  EXPECT_EQ(rag::ReplaceInvalidUtf8("\xff"), "\xef\xbf\xbd");
}

TEST(Response, CompletionLogprobsCountCharacters) {
  const std::vector<TokenReport> tokens = {
      {.id = 1, .token = "gr", .logprob = {}, .alternatives = {}},
      {.id = 2, .token = "\xc3", .logprob = -0.1f, .alternatives = {{2, "\xc3", -0.1f}, {7, "x", -3.0f}}},
      {.id = 3, .token = "\xbc", .logprob = -0.2f, .alternatives = {}},
      {.id = 4, .token = "n", .logprob = -0.3f, .alternatives = {}}};
  size_t offset = 0;
  const json::object out = rag::CompletionLogprobs(tokens, &offset);
  EXPECT_EQ(out.at("text_offset"), (json::array{0, 2, 3, 3}));
  EXPECT_EQ(offset, 4u);
  EXPECT_TRUE(out.at("token_logprobs").at(0).is_null());
  EXPECT_EQ(static_cast<float>(out.at("token_logprobs").at(1).get_double()), -0.1f);
  EXPECT_EQ(out.at("tokens").at(1), "bytes:\\xc3");
  EXPECT_TRUE(out.at("top_logprobs").at(1).as_object().contains("x"));
}

TEST(Errors, EveryCodeHasAStatus) {
  EXPECT_EQ(HttpStatusOf(StatusCode::kInvalidArgument), 400);
  EXPECT_EQ(HttpStatusOf(StatusCode::kNotFound), 404);
  EXPECT_EQ(HttpStatusOf(StatusCode::kResourceExhausted), 429);
  EXPECT_EQ(HttpStatusOf(StatusCode::kUnimplemented), 400);
  EXPECT_EQ(HttpStatusOf(StatusCode::kInternal), 500);
  EXPECT_EQ(json::serialize(ErrorJson({404, "no", "", "x"})),
            R"({"error":{"message":"no","type":"invalid_request_error","param":null,"code":"x"}})");
}

}  // namespace
}  // namespace spanwise::server

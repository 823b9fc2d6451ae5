#include "server/api.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

#include "base/str.h"
#include "server/fake_backend.h"

namespace spanwise::server {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;

// An exchange without a socket.
class FakeExchange final : public Exchange {
 public:
  std::shared_ptr<CancelFlag> cancel() const override { return cancel_; }
  bool abandoned() const override { return abandoned_; }
  void Send(HttpResponse r) override {
    const std::lock_guard lock(mutex_);
    response_ = std::move(r);
    done_ = true;
    changed_.notify_all();
  }
  void StartStream(HttpResponse head) override {
    const std::lock_guard lock(mutex_);
    response_ = std::move(head);
  }
  void Write(std::string bytes) override {
    const std::lock_guard lock(mutex_);
    response_.body += bytes;
    ++n_writes_;
  }
  void EndStream() override {
    const std::lock_guard lock(mutex_);
    done_ = true;
    changed_.notify_all();
  }

  // Until the response is complete.
  HttpResponse Wait() {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(20), [&] { return done_; }));
    return response_;
  }

  void Leave() {
    abandoned_ = true;
    cancel_->Cancel();
  }
  int n_writes() const {
    const std::lock_guard lock(mutex_);
    return n_writes_;
  }

 private:
  const std::shared_ptr<CancelFlag> cancel_ = std::make_shared<CancelFlag>();
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  HttpResponse response_;  // guarded by mutex_
  bool done_ = false;      // guarded by mutex_
  int n_writes_ = 0;       // guarded by mutex_
  std::atomic<bool> abandoned_ = false;
};

class ApiTest : public testing::Test {
 protected:
  HttpResponse Call(Api& api, HttpRequest request) {
    if (auto refusal = api.Check(request)) return *refusal;
    const auto exchange = std::make_shared<FakeExchange>();
    api.Handle(std::move(request), exchange);
    return exchange->Wait();
  }
  HttpResponse Get(std::string target) {
    return Call(
        api_,
        {.method = "GET", .target = std::move(target), .host = {}, .origin = {}, .authorization = {}, .body = {}});
  }
  HttpResponse Post(std::string target, std::string body) {
    return Call(api_, {.method = "POST",
                       .target = std::move(target),
                       .host = {},
                       .origin = {},
                       .authorization = {},
                       .body = std::move(body)});
  }
  static json::value Json(const HttpResponse& response) {
    auto value = ParseJson(response.body, "response");
    EXPECT_TRUE(value.ok()) << response.body;
    return value.ok() ? *value : json::value();
  }
  // The data of every event; the last must be [DONE].
  static std::vector<json::value> Events(const HttpResponse& response) {
    std::vector<json::value> events;
    std::string_view rest = response.body;
    while (!rest.empty()) {
      const size_t end = rest.find("\n\n");
      EXPECT_TRUE(rest.starts_with("data: ") && end != std::string_view::npos);
      const std::string_view data = rest.substr(6, end - 6);
      rest.remove_prefix(end + 2);
      if (data == "[DONE]") {
        EXPECT_TRUE(rest.empty());
        return events;
      }
      events.push_back(ParseJson(data, "event").value());
    }
    ADD_FAILURE() << "no [DONE]";
    return events;
  }

  std::unique_ptr<Backend> backend_ = NewFakeBackend();
  Api api_{ApiOptions{}, *backend_};
};

TEST_F(ApiTest, Chats) {
  const HttpResponse response =
      Post("/v1/chat/completions", R"({"model":"fake","messages":[{"role":"user","content":"Hi"}],"seed":5})");
  EXPECT_EQ(response.status, 200);
  const json::value v = Json(response);
  EXPECT_EQ(v.at("object"), "chat.completion");
  EXPECT_EQ(v.at("choices").at(0).at("message").at("content"), "You said: Hi");
  EXPECT_EQ(v.at("choices").at(0).at("finish_reason"), "stop");
  EXPECT_EQ(v.at("usage").at("total_tokens"), 14);
  EXPECT_EQ(v.at("usage").at("prompt_tokens_details").at("cached_tokens"), 1);
  EXPECT_EQ(v.at("spanwise").at("seed"), 5);
  EXPECT_TRUE(v.at("citations").as_array().empty());
}

TEST_F(ApiTest, StreamedTextIsTheSameText) {
  const std::string members =
      R"("model":"fake","messages":[{"role":"user","content":"gr\u00fc\u00df \ud83d\ude42 END x"}],"stop":"END","logprobs":true)";
  const json::value whole = Json(Post("/v1/chat/completions", "{" + members + "}"));
  const HttpResponse response =
      Post("/v1/chat/completions", "{" + members + R"(,"stream":true,"stream_options":{"include_usage":true}})");
  EXPECT_THAT(response.content_type, HasSubstr("text/event-stream"));
  const auto events = Events(response);
  std::string text;
  size_t n_logprobs = 0;
  for (size_t i = 0; i + 1 < events.size(); ++i) {
    const json::object& choice = events[i].at("choices").at(0).as_object();
    const json::object& delta = choice.at("delta").as_object();
    EXPECT_EQ(delta.contains("role"), i == 0);
    EXPECT_TRUE(events[i].at("usage").is_null());
    if (delta.contains("content")) {
      text += delta.at("content").as_string();
      EXPECT_TRUE(IsValidUtf8(delta.at("content").as_string().c_str()));
    }
    if (choice.at("logprobs").is_object()) n_logprobs += choice.at("logprobs").at("content").as_array().size();
    EXPECT_EQ(choice.at("finish_reason").is_null(), i + 2 < events.size());
  }
  EXPECT_EQ(text, "You said: gr\u00fc\u00df \U0001F642 ");
  EXPECT_EQ(text, whole.at("choices").at(0).at("message").at("content").as_string().c_str());
  EXPECT_EQ(n_logprobs, whole.at("choices").at(0).at("logprobs").at("content").as_array().size());
  EXPECT_TRUE(events.back().at("choices").as_array().empty());
  EXPECT_EQ(events.back().at("usage"), whole.at("usage"));
  EXPECT_TRUE(events[events.size() - 2].as_object().contains("spanwise"));
}

TEST_F(ApiTest, CitesDocuments) {
  const json::value v = Json(Post(
      "/v1/chat/completions",
      R"({"messages":[{"role":"user","content":"How heavy?"}],"documents":[{"id":"t40","title":"T40","text":"It weighs 12 kg."}]})"));
  EXPECT_EQ(v.at("choices").at(0).at("message").at("content"), "It weighs 12 kg. [1]");
  const json::value& citation = v.at("citations").at(0);
  EXPECT_EQ(citation.at("document"), "t40");
  EXPECT_EQ(citation.at("quote"), "It weighs 12 kg.");
  EXPECT_EQ(citation.at("start"), 0);
  EXPECT_EQ(v.at("spanwise").at("spans").at(0).at("document"), "t40");
}

TEST_F(ApiTest, CompletesManyPromptsWithEchoAndLogprobs) {
  const json::value v =
      Json(Post("/v1/completions", R"({"prompt":["ab",[99]],"echo":true,"logprobs":2,"max_tokens":1})"));
  ASSERT_EQ(v.at("choices").as_array().size(), 2u);
  EXPECT_EQ(v.at("choices").at(0).at("text"), "ab.");
  EXPECT_EQ(v.at("choices").at(1).at("text"), "c.");
  EXPECT_EQ(v.at("choices").at(1).at("finish_reason"), "length");
  const json::value& logprobs = v.at("choices").at(0).at("logprobs");
  EXPECT_EQ(logprobs.at("tokens"), (json::array{"a", "b", "."}));
  EXPECT_TRUE(logprobs.at("token_logprobs").at(0).is_null());
  EXPECT_EQ(logprobs.at("token_logprobs").at(2), -0.5);
  EXPECT_EQ(logprobs.at("top_logprobs").at(1).as_object().size(), 2u);
  EXPECT_EQ(v.at("usage").at("completion_tokens"), 2);

  const auto events = Events(
      Post("/v1/completions", R"({"prompt":["ab",[99]],"echo":true,"logprobs":2,"max_tokens":1,"stream":true})"));
  std::string text[2];
  std::vector<json::value> offsets[2];
  for (const json::value& event : events) {
    const json::value& choice = event.at("choices").at(0);
    const auto index = choice.at("index").to_number<size_t>();
    text[index] += choice.at("text").as_string();
    if (choice.at("logprobs").is_object())
      for (const json::value& o : choice.at("logprobs").at("text_offset").as_array()) offsets[index].push_back(o);
  }
  EXPECT_EQ(text[0], "ab.");
  EXPECT_EQ(text[1], "c.");
  EXPECT_THAT(offsets[0], testing::ElementsAre(0, 1, 2));
  EXPECT_THAT(offsets[1], testing::ElementsAre(0, 1));
}

TEST_F(ApiTest, PromptsWaitForTheirOwnWhenTheQueueIsShort) {
  backend_ = NewFakeBackend({.max_queued = 1});
  Api api({}, *backend_);
  for (const char* stream : {"", R"(,"stream":true)"}) {
    const HttpResponse response =
        Call(api, {.method = "POST",
                   .target = "/v1/completions",
                   .host = {},
                   .origin = {},
                   .authorization = {},
                   .body = StrFormat(R"({{"prompt":["a","b","c","d","e"],"echo":true,"max_tokens":1{}}})", stream)});
    ASSERT_EQ(response.status, 200) << response.body;
    std::map<int64_t, std::string> texts;
    const auto add = [&](const json::value& v) {
      for (const json::value& choice : v.at("choices").as_array())
        texts[choice.at("index").to_number<int64_t>()] += choice.at("text").as_string();
    };
    if (*stream) {
      for (const json::value& event : Events(response)) add(event);
    } else {
      add(Json(response));
    }
    EXPECT_THAT(texts, testing::ElementsAre(testing::Pair(0, "a."), testing::Pair(1, "b."), testing::Pair(2, "c."),
                                            testing::Pair(3, "d."), testing::Pair(4, "e.")));
  }
}

TEST_F(ApiTest, OnePromptThatFailsEndsAll) {
  for (const char* prompts : {R"(["a","REFUSE","b"])", R"(["a","b","REFUSE"])"}) {
    const HttpResponse response = Post("/v1/completions", StrFormat(R"({{"prompt":{}}})", prompts));
    EXPECT_EQ(response.status, 400) << response.body;
  }
  const auto events = Events(Post("/v1/completions", R"({"prompt":["FAIL","a"],"stream":true})"));
  EXPECT_EQ(events.back().at("error").at("message"), "failed as asked");
}

TEST_F(ApiTest, TellsFailuresBeforeAndWithinAStream) {
  EXPECT_EQ(Post("/v1/completions", R"({"prompt":"FAIL"})").status, 500);
  const HttpResponse refused = Post("/v1/completions", R"({"prompt":"REFUSE","stream":true})");
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(Json(refused).at("error").at("type"), "invalid_request_error");
  EXPECT_EQ(Json(refused).at("error").at("code"), "context_length_exceeded");
  EXPECT_EQ(Json(refused).at("error").at("param"), "prompt");
  const HttpResponse chat = Post("/v1/chat/completions", R"({"messages":[{"role":"user","content":"REFUSE"}]})");
  EXPECT_EQ(chat.status, 400);
  EXPECT_EQ(Json(chat).at("error").at("code"), "context_length_exceeded");
  EXPECT_EQ(Json(chat).at("error").at("param"), "messages");
  const auto events = Events(Post("/v1/completions", R"({"prompt":"FAIL","stream":true})"));
  EXPECT_EQ(events.back().at("error").at("message"), "failed as asked");
  EXPECT_EQ(events.back().at("error").at("type"), "server_error");
}

TEST_F(ApiTest, HalfACharacterIsStillJson) {
  EXPECT_EQ(Json(Post("/v1/completions", R"({"prompt":"HALF"})")).at("choices").at(0).at("text"), "\ufffd\ufffd");
  std::string text;
  for (const json::value& event : Events(Post("/v1/completions", R"({"prompt":"HALF","stream":true})")))
    text += event.at("choices").at(0).at("text").as_string();
  EXPECT_EQ(text, "\ufffd\ufffd");
}

TEST_F(ApiTest, KnowsItsModelsAndTokens) {
  EXPECT_EQ(Json(Get("/v1/models")).at("data").at(0).at("id"), "fake");
  EXPECT_EQ(Json(Get("/v1/models/fa%6Be")).at("object"), "model");
  EXPECT_EQ(Json(Get("/v1/models/gpt-4")).at("error").at("code"), "model_not_found");
  const HttpResponse unknown =
      Post("/v1/chat/completions", R"({"model":"gpt-4","messages":[{"role":"user","content":"Hi"}]})");
  EXPECT_EQ(unknown.status, 404);
  EXPECT_EQ(Json(unknown).at("error").at("param"), "model");
  EXPECT_EQ(Json(Post("/tokenize", R"({"text":"ab"})")).at("tokens"), (json::array{97, 98}));
  EXPECT_EQ(Json(Post("/detokenize", R"({"tokens":[97,98]})")).at("text"), "ab");
  EXPECT_EQ(Post("/detokenize", R"({"tokens":[300]})").status, 400);
  EXPECT_EQ(Json(Get("/health?x=1")).at("status"), "ok");
}

TEST_F(ApiTest, RefusesUnknownPathsAndMethods) {
  EXPECT_EQ(Get("/nope").status, 404);
  EXPECT_EQ(Get("/v1/models/").status, 404);
  const HttpResponse wrong = Get("/v1/completions");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_THAT(wrong.headers, testing::Contains(testing::Pair("Allow", "POST")));
  EXPECT_EQ(Post("/v1/chat/completions", "{").status, 400);
}

TEST_F(ApiTest, CountsWhatItDid) {
  Post("/v1/chat/completions", R"({"messages":[{"role":"user","content":"Hi"}]})");
  Get("/nope");
  const std::string text = Get("/metrics").body;
  EXPECT_THAT(text, HasSubstr("spanwise_http_requests_total{path=\"/v1/chat/completions\",status=\"200\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("spanwise_http_requests_total{path=\"other\",status=\"404\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("\nspanwise_completion_tokens_total 12\n"));
  EXPECT_THAT(text, HasSubstr("\nspanwise_cached_tokens_total 1\n"));
}

TEST_F(ApiTest, SaysWhenToComeBackWhenTheQueueIsFull) {
  for (const auto& [drain_s, expected] : {std::pair(0.0, "1"), {0.3, "1"}, {9.0, "5"}, {1e9, "300"}}) {
    const auto full = NewFakeBackend({.max_queued = 0, .drain_s = drain_s});
    Api api(ApiOptions{}, *full);
    for (const bool stream : {false, true}) {
      const HttpResponse response = Call(api, {.method = "POST",
                                               .target = "/v1/completions",
                                               .host = {},
                                               .origin = {},
                                               .authorization = {},
                                               .body = StrFormat(R"({{"prompt":"a","stream":{}}})", stream)});
      EXPECT_EQ(response.status, 429);
      EXPECT_THAT(response.headers, testing::Contains(testing::Pair("Retry-After", expected)));
      const json::value error = Json(response).at("error");
      EXPECT_EQ(error.at("type"), "rate_limit_error");
      EXPECT_EQ(error.at("code"), "rate_limit_exceeded");
      EXPECT_EQ(error.at("message"), "the queue is full");
      EXPECT_TRUE(error.at("param").is_null());
    }
  }
}

TEST_F(ApiTest, AsksForKeysWhereThereAreSome) {
  ApiOptions options;
  options.keys = ApiKeys::FromList({"secret", "other"});
  Api api(std::move(options), *backend_);
  HttpRequest request{
      .method = "GET", .target = "/v1/models", .host = "example.org", .origin = {}, .authorization = {}, .body = {}};
  request.host.clear();
  EXPECT_EQ(Call(api, request).status, 401);
  for (const char* bad : {"secret", "Basic secret", "Bearer", "Bearer ", "Bearer secre", "Bearer secrets"}) {
    request.authorization = bad;
    EXPECT_EQ(Call(api, request).status, 401) << bad;
  }
  for (const char* good : {"Bearer secret", "bearer  other"}) {
    request.authorization = good;
    EXPECT_EQ(Call(api, request).status, 200) << good;
  }
  request.authorization.clear();
  request.target = "/health";
  EXPECT_EQ(Call(api, request).status, 200);
  request.target = "/nope";
  EXPECT_EQ(Call(api, request).status, 401);  // nothing is told to strangers
}

// Remembers for whom requests counted, and refuses them.
class RecordingBackend final : public Backend {
 public:
  const ModelCard& model() const override { return card_; }
  Status Submit(Job job, RequestObserver, std::shared_ptr<CancelFlag>,
                std::function<void(Result<JobAnswer>)>) override {
    client = job.request.client;
    priority = job.request.priority;
    return ResourceExhausted("full");
  }
  EngineStats stats() const override { return {}; }
  Result<std::vector<int32_t>> Tokenize(const std::string&, bool) const override { return std::vector<int32_t>(); }
  Result<std::string> Detokenize(const std::vector<int32_t>&, bool) const override { return std::string(); }
  Result<std::vector<int32_t>> PromptTokens(const Request&) const override { return std::vector<int32_t>(); }
  std::string TokenText(int32_t) const override { return {}; }
  std::string client;
  int priority = 0;

 private:
  ModelCard card_;
};

TEST_F(ApiTest, KnowsForWhomARequestCounts) {
  RecordingBackend backend;
  ApiOptions with_keys;
  with_keys.keys = ApiKeys::FromList({"one", "two"});
  Api open(ApiOptions{}, backend), keyed(std::move(with_keys), backend);
  const auto client = [&](Api& api, const std::string& peer, const std::string& key, const std::string& user) {
    backend.client.clear();
    Call(api, {.method = "POST",
               .target = "/v1/completions",
               .host = {},
               .origin = {},
               .authorization = "Bearer " + key,
               .body = StrFormat(R"({{"prompt":"a"{},"spanwise":{{"priority":2}}}})",
                                 user.empty() ? "" : R"(,"user":")" + user + "\""),
               .peer = peer});
    EXPECT_EQ(backend.priority, 2);
    EXPECT_EQ(backend.client.size(), 32u);
    return backend.client;
  };
  EXPECT_EQ(client(open, "10.0.0.1", "x", ""), client(open, "10.0.0.1", "y", ""));
  EXPECT_NE(client(open, "10.0.0.1", "x", ""), client(open, "10.0.0.2", "x", ""));
  EXPECT_EQ(client(open, "10.0.0.1", "x", "ann"), client(open, "10.0.0.2", "x", "ann"));
  EXPECT_NE(client(open, "10.0.0.1", "x", "ann"), client(open, "10.0.0.1", "x", "bob"));
  EXPECT_EQ(client(keyed, "10.0.0.1", "one", ""), client(keyed, "10.0.0.2", " one", ""));
  EXPECT_NE(client(keyed, "10.0.0.1", "one", ""), client(keyed, "10.0.0.1", "two", ""));
  EXPECT_NE(client(keyed, "10.0.0.1", "one", "ann"), client(keyed, "10.0.0.1", "two", "ann"));
}

TEST_F(ApiTest, NamesFieldsThatItIgnored) {
  const auto with = [](const std::string& members) {
    return R"({"messages":[{"role":"user","content":"Hi"}],"metadata":{})" + members + "}";
  };
  const auto ignored = [](const HttpResponse& response) {
    for (const auto& [name, value] : response.headers)
      if (name == "X-Spanwise-Ignored") return value;
    return std::string("none");
  };
  EXPECT_EQ(ignored(Post("/v1/chat/completions", with(""))), "none");
  const std::string two = with(R"(,"foo":1,"spanwise":{"bar":2})");
  for (const std::string& body : {two, two.substr(0, two.size() - 1) + R"(,"stream":true})"})
    EXPECT_EQ(ignored(Post("/v1/chat/completions", body)), "spanwise.bar, foo");
  // No field's name ends the header or makes it endless.
  EXPECT_EQ(ignored(Post("/v1/chat/completions", with(R"(,"a\r\nX: y,%\u00fc":1)"))), "a%0D%0AX:%20y%2C%25%C3%BC");
  std::string many;
  for (int i = 0; i < 1000; ++i) many += StrFormat(",\"field{}\":1", i);
  EXPECT_THAT(ignored(Post("/v1/chat/completions", with(many))), testing::EndsWith("field63, ..."));
  many.clear();
  for (int i = 0; i < 60; ++i) many += StrFormat(",\"{}{}\":1", std::string(100, 'f'), i);
  EXPECT_LT(ignored(Post("/v1/chat/completions", with(many))).size(), 1500u);
  EXPECT_EQ(ignored(Post("/v1/chat/completions", with(",\"" + std::string(9000, 'x') + "\":1"))),
            std::string(128, 'x'));

  HttpRequest strict{.method = "POST",
                     .target = "/v1/chat/completions",
                     .host = {},
                     .origin = {},
                     .authorization = {},
                     .body = two,
                     .strict = "1"};
  const HttpResponse refused = Call(api_, strict);
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(Json(refused).at("error").at("param"), "spanwise.bar");
  strict.body = with("");
  EXPECT_EQ(Call(api_, strict).status, 200);
}

TEST_F(ApiTest, LogsEveryRequestOnceAndNothingThatItSays) {
  std::vector<std::pair<LogLevel, std::string>> lines;
  ApiOptions options;
  options.log = [&](LogLevel level, std::string_view line) { lines.emplace_back(level, line); };
  options.keys = ApiKeys::FromList({"SECRET"});
  Api api(std::move(options), *backend_);
  const auto call = [&](std::string method, std::string target, std::string body, std::string key = "Bearer SECRET") {
    return Call(api, {.method = std::move(method),
                      .target = std::move(target),
                      .host = {},
                      .origin = {},
                      .authorization = std::move(key),
                      .body = std::move(body),
                      .peer = "10.0.0.1",
                      .request_id = "mine"});
  };
  const auto last = [&] { return lines.empty() ? std::string() : lines.back().second; };
  const std::string chat = R"({"messages":[{"role":"user","content":"WORDS"}])";
  HttpResponse response = call("POST", "/v1/chat/completions?key=SECRET", chat + "}");
  EXPECT_THAT(response.headers, testing::Contains(testing::Pair("X-Request-Id", "mine")));
  EXPECT_THAT(last(), HasSubstr("id=mine method=POST path=/v1/chat/completions status=200 prompt_tokens=5 "
                                "cached_tokens=2 completion_tokens=15 first_token_ms="));
  EXPECT_THAT(last(), HasSubstr(" peer=10.0.0.1"));
  response = call("POST", "/v1/chat/completions", chat + R"(,"stream":true})");
  EXPECT_THAT(response.headers, testing::Contains(testing::Pair("X-Request-Id", "mine")));
  EXPECT_THAT(last(), HasSubstr("status=200 stream=true prompt_tokens=5"));
  response = call("POST", "/v1/chat/completions", chat + R"(,"temperature":"WORDS"})");
  EXPECT_THAT(last(), HasSubstr("status=400 error=invalid_type param=temperature total_ms="));
  EXPECT_EQ(Json(response).at("error").at("request_id"), "mine");
  call("POST", "/v1/chat/completions", chat + R"(,"model":"WORDS"})");
  EXPECT_THAT(last(), HasSubstr("status=404 error=model_not_found param=model"));
  call("POST", "/v1/completions", R"({"prompt":"REFUSE"})");
  EXPECT_THAT(last(), HasSubstr("status=400 error=context_length_exceeded param=prompt"));
  call("GET", "/nope", "", "");
  EXPECT_THAT(last(), HasSubstr("path=/nope status=401 error=invalid_api_key"));
  call("GET", "/nope", "");
  EXPECT_THAT(last(), HasSubstr("status=404 error=unknown_url"));
  call("PUT", "/tokenize", "");
  EXPECT_THAT(last(), HasSubstr("method=PUT path=/tokenize status=405"));
  for (const auto& [level, line] : lines) {
    EXPECT_EQ(level, LogLevel::kInfo);
    EXPECT_THAT(line, testing::Not(testing::AnyOf(HasSubstr("SECRET"), HasSubstr("WORDS"))));
  }
  EXPECT_EQ(lines.size(), 8u);
  call("POST", "/v1/completions", R"({"prompt":"FAIL","stream":true})");
  EXPECT_THAT(last(), HasSubstr("status=500 error=internal_error stream=true"));
  EXPECT_EQ(lines.back().first, LogLevel::kWarning);
  for (const char* target : {"/health", "/metrics"}) {
    call("GET", target, "");
    EXPECT_EQ(lines.back().first, LogLevel::kDebug);
  }
  api.Refuse({.method = "POST", .target = "/tokenize", .host = {}, .origin = {}, .authorization = {}, .body = {}},
             {413, "too large", {}, "body_too_large"});
  EXPECT_THAT(last(), HasSubstr("path=/tokenize status=413 error=body_too_large"));
  EXPECT_EQ(lines.size(), 12u);
}

TEST_F(ApiTest, TellsWhoEndedAStream) {
  std::string line;
  ApiOptions options;
  options.log = [&](LogLevel, std::string_view text) { line = text; };
  backend_ = NewFakeBackend({.per_token = std::chrono::milliseconds(1)});
  Api api(std::move(options), *backend_);
  for (const bool leaves : {false, true}) {
    const auto exchange = std::make_shared<FakeExchange>();
    api.Handle({.method = "POST",
                .target = "/v1/chat/completions",
                .host = {},
                .origin = {},
                .authorization = {},
                .body = StrFormat(R"({{"messages":[{{"role":"user","content":"{}"}}],"stream":true}})",
                                  std::string(4000, 'x'))},
               exchange);
    while (exchange->n_writes() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (leaves) {
      exchange->Leave();
    } else {
      exchange->cancel()->Cancel();  // as the server does when it ends
    }
    const HttpResponse response = exchange->Wait();
    if (leaves) {
      EXPECT_THAT(line, HasSubstr("status=499 error=client_left stream=true"));
    } else {
      EXPECT_THAT(line, HasSubstr("status=503 error=shutting_down stream=true"));
      EXPECT_THAT(response.body, HasSubstr(R"("message":"the server is shutting down","type":"server_error")"));
    }
  }
}

TEST_F(ApiTest, SpeaksOfItsTokenizerAsOtherServersDo) {
  const json::value info = Json(Get("/tokenizer_info"));
  EXPECT_EQ(info.at("bos_token"), "<s>");
  EXPECT_EQ(info.at("eos_token"), "</s>");
  EXPECT_TRUE(info.at("pad_token").is_null());
  EXPECT_EQ(info.at("chat_template"), "{{ messages }}");
  EXPECT_EQ(info.at("model_max_length"), 4096);
  EXPECT_EQ(info.at("vocab_size"), 256);
  EXPECT_EQ(Json(Post("/tokenize", R"({"prompt":"a"})")).at("count"), 4);  // <s>a
  const json::value plain =
      Json(Post("/tokenize", R"({"prompt":"ab","add_special_tokens":false,"return_token_strs":true})"));
  EXPECT_EQ(plain.at("tokens"), (json::array{97, 98}));
  EXPECT_EQ(plain.at("token_strs"), (json::array{"a", "b"}));
  EXPECT_EQ(plain.at("max_model_len"), 4096);
  EXPECT_EQ(Json(Post("/tokenize", R"({"content":"a\u00fc","with_pieces":true})")).at("tokens"),
            (json::array{json::object{{"id", 97}, {"piece", "a"}}, json::object{{"id", 195}, {"piece", {195}}},
                         json::object{{"id", 188}, {"piece", {188}}}}));
  EXPECT_EQ(Json(Post("/tokenize", R"({"messages":[{"role":"user","content":"a"}]})")).at("count"), 7);
  const json::value text = Json(Post("/detokenize", R"({"tokens":[97]})"));
  for (const char* name : {"text", "prompt", "content"}) EXPECT_EQ(text.at(name), "a");
}

TEST_F(ApiTest, RefusesForeignPagesAndNames) {
  HttpRequest request{
      .method = "GET", .target = "/health", .host = "localhost:8080", .origin = {}, .authorization = {}, .body = {}};
  EXPECT_EQ(Call(api_, request).status, 200);
  for (const char* host : {"127.0.0.1:1", "[::1]:8080", "LOCALHOST", "a.localhost", "127.0.0.1"}) {
    request.host = host;
    EXPECT_EQ(Call(api_, request).status, 200) << host;
  }
  for (const char* host : {"evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "[::2]"}) {
    request.host = host;
    EXPECT_EQ(Call(api_, request).status, 403) << host;
  }
  request.host = "localhost:8080";
  request.origin = "http://localhost:8080";
  EXPECT_EQ(Call(api_, request).status, 200);
  for (const char* origin : {"https://evil.example", "null", "http://localhost:81"}) {
    request.origin = origin;
    EXPECT_EQ(Call(api_, request).status, 403) << origin;
  }
  ApiOptions options;
  options.cors = CorsPolicy::Parse({"https://app.example"}).value();
  options.allowed_hosts = {"Box"};
  Api api(std::move(options), *backend_);
  request.origin = "https://app.example";
  request.host = "box:80";
  EXPECT_EQ(Call(api, request).status, 200);
}

TEST_F(ApiTest, RefusalsNameTheOptionThatHelps) {
  HttpRequest request{
      .method = "GET", .target = "/health", .host = "backend:8080", .origin = {}, .authorization = {}, .body = {}};
  EXPECT_THAT(Call(api_, request).body, AllOf(HasSubstr("--allowed-host"), HasSubstr("--api-key-file")));
  request.host = "127.0.0.1:8080";
  request.origin = "https://rag.example";  // a proxy's page, whose Host the proxy changed
  EXPECT_THAT(Call(api_, request).body, AllOf(HasSubstr("--cors-origin"), HasSubstr("https://rag.example")));
}

TEST_F(ApiTest, AnswersPreflights) {
  ApiOptions options;
  options.cors = CorsPolicy::Parse({"http://localhost:5173"}).value();
  options.keys = ApiKeys::FromList({"secret"});
  options.check_host = false;
  Api api(std::move(options), *backend_);
  HttpRequest request{.method = "OPTIONS",
                      .target = "/v1/chat/completions",
                      .host = "localhost",
                      .origin = "http://localhost:5173",
                      .authorization = {},
                      .body = {},
                      .peer = {},
                      .preflight = {.method = "POST", .headers = "authorization,x-stainless-os"}};
  const auto allows = Contains(testing::Pair("Access-Control-Allow-Headers", "authorization,x-stainless-os"));
  HttpResponse response = Call(api, request);
  EXPECT_EQ(response.status, 204);
  EXPECT_THAT(response.headers, allows);
  request.target = "/nope";
  EXPECT_EQ(Call(api, request).status, 204);
  request.origin = "http://localhost:5174";
  EXPECT_EQ(Call(api, request).status, 403);
  request.origin = "http://localhost:5173";
  request.preflight = {};
  EXPECT_EQ(Call(api, request).status, 401);  // no preflight
  request.target = "*";
  EXPECT_EQ(Call(api, request).status, 204);
}

}  // namespace
}  // namespace spanwise::server

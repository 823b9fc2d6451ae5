// What each endpoint does, above HTTP's wire format and below it nothing but Backend.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/api_keys.h"
#include "server/backend.h"
#include "server/cors.h"
#include "server/error.h"
#include "server/openai.h"
#include "server/request_log.h"
#include "server/workers.h"

namespace spanwise::server {

struct HttpRequest {
  std::string method;                       // "GET"
  std::string target;                       // path and query as sent
  std::string host, origin, authorization;  // headers; empty when absent
  std::string body;
  std::string peer = {};                     // the caller's address without its port
  std::string request_id = {}, strict = {};  // headers X-Request-Id and X-Spanwise-Strict; empty when absent
  Preflight preflight = {};
  std::chrono::steady_clock::time_point received = std::chrono::steady_clock::now();
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  HeaderList headers;
};

HttpResponse ErrorResponse(const ApiError& error);

// One request's way back to its client. Thread-safe; what is called from one thread takes effect in its order.
class Exchange {
 public:
  virtual ~Exchange() = default;

  // Set when the client has left or the server must end.
  virtual std::shared_ptr<CancelFlag> cancel() const = 0;
  // Whether the client has left: nobody gets the answer.
  virtual bool abandoned() const = 0;

  // Either the whole answer ...
  virtual void Send(HttpResponse response) = 0;
  // ... or its head, pieces, and end. After the client has left these do nothing.
  virtual void StartStream(HttpResponse head) = 0;
  virtual void Write(std::string bytes) = 0;
  virtual void EndStream() = 0;
};

struct ApiOptions {
  ApiKeys keys;
  CorsPolicy cors;                         // foreign pages that may call
  bool check_host = true;                  // refuse host names that are not loopback's or in allowed_hosts
  std::vector<std::string> allowed_hosts;  // without port
  ParseLimits limits;
  std::string page;  // what GET / answers
  Workers::Options workers;
  LogFunction log;  // told of every request, at its end
};

// Thread-safe; `backend` must outlive it and every exchange. Reading bodies and writing answers runs on threads of its
// own.
class Api {
 public:
  Api(ApiOptions options, Backend& backend);
  // Waits for what was begun; nothing may be handled any more.
  ~Api();

  // Everything that can be judged before the body has come: host, origin, key, path, method. nullopt: go on.
  std::optional<HttpResponse> Check(const HttpRequest& head);

  // Headers of every answer to this request, refusals included.
  HeaderList AnswerHeaders(const HttpRequest& head) const { return options_.cors.AnswerHeaders(head.origin); }

  // Answers, now or later. Call after Check. Returns quickly.
  void Handle(HttpRequest request, const std::shared_ptr<Exchange>& exchange);

  // The answer to what is wrong below this layer: a malformed request, one too large, a full house. `head`: as much of
  // the request as is known.
  HttpResponse Refuse(const HttpRequest& head, ApiError error);

 private:
  // A request that is being answered.
  struct Turn {
    std::shared_ptr<Exchange> exchange;
    std::string route;  // for the count of answers
    RequestRecord record;
    std::vector<std::string> ignored;  // fields
    HeaderList Headers() const;
  };
  class Run;
  using Handler = void (Api::*)(HttpRequest&, Turn);
  struct Route {
    std::string_view method, path;
    Handler handler;
    bool open;       // needs no key
    bool is_prefix;  // path is followed by a name
    bool routine;    // RequestRecord::routine
  };
  static const std::vector<Route>& Routes();
  const Route* Find(std::string_view method, std::string_view path, std::string* allowed) const;
  std::optional<ApiError> CheckCaller(const HttpRequest& head) const;
  std::optional<ApiError> CheckModel(const std::string& model) const;
  ParseLimits LimitsFor(const HttpRequest& request) const;

  void Chat(HttpRequest& request, Turn turn);
  void Complete(HttpRequest& request, Turn turn);
  void Tokenize(HttpRequest& request, Turn turn);
  void Detokenize(HttpRequest& request, Turn turn);
  void DescribeTokenizer(HttpRequest& request, Turn turn);
  void ListModels(HttpRequest& request, Turn turn);
  void GetModel(HttpRequest& request, Turn turn);
  void Health(HttpRequest& request, Turn turn);
  void Metrics(HttpRequest& request, Turn turn);
  void Page(HttpRequest& request, Turn turn);

  HttpResponse AnswerPreflight(const HttpRequest& head) const;
  Turn NewTurn(const HttpRequest& head, const Route* route, std::shared_ptr<Exchange> exchange) const;
  // The answer to a request that ends here, counted and logged.
  HttpResponse Concluded(Turn& turn, HttpResponse response);
  HttpResponse Concluded(Turn& turn, ApiError error);
  template <typename Answer>  // HttpResponse or ApiError
  void Reply(Turn& turn, Answer answer) {
    turn.exchange->Send(Concluded(turn, std::move(answer)));
  }
  // Of an answer whose head has been sent before.
  void Conclude(Turn& turn, int http_status);

  const ApiOptions options_;
  Backend& backend_;
  const int64_t started_;
  const std::shared_ptr<Workers> workers_;
  const std::shared_ptr<std::atomic<int>> in_flight_ = std::make_shared<std::atomic<int>>(0);
  std::mutex mutex_;
  std::map<std::pair<std::string, int>, uint64_t> answered_;  // guarded by mutex_; by path and HTTP status
};

}  // namespace spanwise::server

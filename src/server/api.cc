#include "server/api.h"

#include <strings.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/hash.h"
#include "base/str.h"
#include "rag/report.h"
#include "server/response.h"

namespace spanwise::server {

namespace {

HttpResponse JsonResponse(const json::value& value) { return {200, "application/json", json::serialize(value), {}}; }

std::string_view PathOf(std::string_view target) { return target.substr(0, target.find_first_of("?#")); }

// "%2F" and the like become bytes; anything else stays.
std::string PercentDecoded(std::string_view text) {
  const auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
  };
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && digit(text[i + 1]) >= 0 && digit(text[i + 2]) >= 0) {
      out += static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2]));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

// The host name of a Host header, without its port.
std::string_view HostName(std::string_view host) {
  if (host.starts_with('[')) return host.substr(0, std::min(host.size(), host.find(']') + 1));
  return host.substr(0, host.find(':'));
}

bool EqualsIgnoringCase(std::string_view a, std::string_view b) {
  return a.size() == b.size() && strncasecmp(a.data(), b.data(), a.size()) == 0;
}

bool IsLoopbackName(std::string_view name) {
  if (EqualsIgnoringCase(name, "localhost") || name == "[::1]") return true;
  if (name.size() > 10 && EqualsIgnoringCase(name.substr(name.size() - 10), ".localhost")) return true;
  return name.starts_with("127.") && name.find_first_not_of("0123456789.") == std::string_view::npos;
}

// Whom a request counts for: its API key or, where none is needed, its address, and under that the user it names.
// Hashed, so that it is short whatever was sent and shows no key.
std::string ClientOf(const HttpRequest& request, std::string_view user, bool keys) {
  Hasher hasher;
  const std::string_view key = std::string_view(request.authorization).substr(request.authorization.rfind(' ') + 1);
  hasher.Field(keys ? key : user.empty() ? request.peer : "").Field(user);
  return hasher.Finish().Hex().substr(0, 32);
}

// Names of fields for a header: what does not belong in one is escaped, and a long list is cut.
std::string NamesHeader(const std::vector<std::string>& names) {
  constexpr size_t kMostBytes = 1024;
  std::string out;
  for (const std::string& name : names) {
    if (out.size() >= kMostBytes) return out + ", ...";
    if (!out.empty()) out += ", ";
    for (const char c : name)
      out += c > 0x20 && c < 0x7f && c != ',' && c != '%' ? std::string(1, c)
                                                          : StrFormat("%{:02X}", static_cast<unsigned char>(c));
  }
  return out;
}

json::array TokenStrings(const Backend& backend, const std::vector<int32_t>& tokens) {
  json::array out;
  for (const int32_t id : tokens) out.push_back(json::string(rag::TokenJsonText(backend.TokenText(id))));
  return out;
}

// As llama.cpp has them: bytes where a token is no text of its own.
json::array TokenPieces(const Backend& backend, const std::vector<int32_t>& tokens) {
  json::array out;
  for (const int32_t id : tokens) {
    const std::string text = backend.TokenText(id);
    json::value piece(text);
    if (!IsValidUtf8(text)) piece = TokenBytes(text);
    out.push_back(json::object{{"id", id}, {"piece", std::move(piece)}});
  }
  return out;
}

// Why a request was cancelled: by a client that left or by the server's end.
ApiError EndedBy(const Exchange& exchange) {
  if (exchange.abandoned()) return {499, "the client has left", {}, "client_left"};
  return {503, "the server is shutting down", {}, "shutting_down"};
}

// Half of those that wait now will have had their turn: room for as many to come back.
int RetryAfter(double drain_s) { return static_cast<int>(std::clamp(std::ceil(drain_s / 2), 1.0, 300.0)); }

}  // namespace

HttpResponse ErrorResponse(const ApiError& error) {
  HttpResponse response{error.http_status, "application/json", json::serialize(ErrorJson(error)), {}};
  if (error.http_status == 429 || error.http_status == 503)
    response.headers.emplace_back("Retry-After", std::to_string(error.retry_after_s));
  if (error.http_status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

// A request on its way through the backend. Runs on the workers, one thing at a time; only the two callbacks given to
// Submit run elsewhere, and all they do is post.
class Api::Run : public std::enable_shared_from_this<Run> {
 public:
  struct Setup {
    bool chat = false, stream = false, include_usage = false;
    std::vector<Job> jobs;                       // one choice each
    Workers::Lane lane = Workers::Lane::kSmall;  // where its prompts are rendered and tokenised
  };

  Run(Api& api, Turn turn, Setup setup)
      : api_(api),
        in_flight_(api.in_flight_),
        turn_(std::move(turn)),
        exchange_(turn_.exchange),
        serial_(std::make_shared<Serial>(api.workers_)),
        cancel_(exchange_->cancel()),
        setup_(std::move(setup)),
        envelope_(NewEnvelope(setup_.chat ? "chatcmpl" : "cmpl", api.backend_.model())),
        logprobs_(setup_.jobs[0].request.sampling.logprobs.has_value()),
        cite_(setup_.jobs[0].cite),
        choices_(setup_.jobs.size()) {
    turn_.record.stream = setup_.stream;
    ++*in_flight_;
  }
  ~Run() { --*in_flight_; }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  // Submits as many jobs as are taken, one in any case: the engine answers them together. The rest follow when one
  // ends.
  void Submit() {
    if (submitting_ || n_submitted_ == choices_.size()) return;
    submitting_ = true;
    Post(setup_.lane, [self = shared_from_this()] { self->SubmitOne(); });
  }

 private:
  void Post(Workers::Lane lane, std::function<void()> task) {
    serial_->Post(lane, [self = shared_from_this(), task = std::move(task)] {
      try {
        if (!self->failed_) task();
      } catch (const std::exception& e) {  // memory, most likely
        self->Fail({503, StrFormat("the request could not be carried out: {}", e.what()), {}, "unavailable"});
      }
    });
  }

  void SubmitOne() {
    submitting_ = false;
    if (cancel_->cancelled()) return Fail(EndedBy(*exchange_));
    const size_t index = n_submitted_;
    if (index == 0) submitted_ = std::chrono::steady_clock::now();
    const auto self = shared_from_this();
    RequestObserver observer;
    if (setup_.stream) {
      observer.on_text = [self, index](const std::string& text, const std::vector<TokenReport>& tokens) {
        self->Post(Workers::Lane::kSmall, [self, index, text, tokens] { self->OnText(index, text, tokens); });
      };
    }
    // One of several may have to be submitted again.
    Job job = choices_.size() == 1 ? std::move(setup_.jobs[0]) : setup_.jobs[index];
    const Status status =
        api_.backend_.Submit(std::move(job), std::move(observer), cancel_, [self, index](Result<JobAnswer> result) {
          // std::function wants its contents copyable; the answer is not copied.
          auto shared = std::make_shared<Result<JobAnswer>>(std::move(result));
          self->Post(Workers::Lane::kSmall, [self, index, shared] { self->OnDone(index, std::move(*shared)); });
        });
    if (!status.ok()) {
      if (status.code() == StatusCode::kResourceExhausted && n_submitted_ > n_done_) return;
      ApiError error = ErrorOf(status);
      if (error.http_status == 400) error.param = Param(status);
      error.retry_after_s = RetryAfter(api_.backend_.stats().drain_s);
      return Fail(error);
    }
    ++n_submitted_;
    Submit();
  }

  // One job's answer on its way out.
  struct Choice {
    std::string pending;     // streamed bytes that end within a character
    size_t n_reported = 0;   // token reports streamed
    size_t text_offset = 0;  // characters that logprobs have covered
    rag::GroundedAnswer answer;
  };

  void WriteChunk(Delta delta, const json::object& extra = {}) {
    if (!started_) {
      started_ = true;
      HttpResponse head{200, "text/event-stream; charset=utf-8", {}, turn_.Headers()};
      head.headers.emplace_back("Cache-Control", "no-cache");
      exchange_->StartStream(std::move(head));
      if (setup_.chat)
        WriteChunk({.index = delta.index, .role = true, .text = "", .logprobs = {}, .finish_reason = {}});
    }
    json::object chunk =
        setup_.chat ? ChatChunk(envelope_, std::move(delta)) : CompletionChunk(envelope_, std::move(delta));
    for (const auto& member : extra) chunk[member.key()] = member.value();
    if (setup_.include_usage) chunk["usage"] = nullptr;
    exchange_->Write(Event(chunk));
  }

  std::optional<json::object> Logprobs(Choice& choice, std::span<const TokenReport> tokens) {
    choice.n_reported += tokens.size();
    if (!logprobs_) return {};
    return setup_.chat ? ChatLogprobs(tokens) : rag::CompletionLogprobs(tokens, &choice.text_offset);
  }

  void OnText(size_t index, const std::string& text, const std::vector<TokenReport>& tokens) {
    NoteFirstToken(std::chrono::steady_clock::now());
    Choice& choice = choices_[index];
    choice.pending += text;
    const size_t complete = CompleteUtf8Prefix(choice.pending);
    std::string released = rag::ReplaceInvalidUtf8(std::string_view(choice.pending).substr(0, complete));
    choice.pending.erase(0, complete);
    if (released.empty() && tokens.empty()) return;
    WriteChunk({.index = static_cast<int>(index),
                .role = false,
                .text = std::move(released),
                .logprobs = Logprobs(choice, tokens),
                .finish_reason = {}});
  }

  void OnDone(size_t index, Result<JobAnswer> result) {
    if (!result.ok()) {
      if (result.status().code() == StatusCode::kCancelled) return Fail(EndedBy(*exchange_));
      ApiError error = ErrorOf(result.status());
      if (error.http_status == 400) error.param = Param(result.status());
      return Fail(std::move(error));
    }
    NoteFirstToken(submitted_ + std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                                    std::chrono::duration<double, std::milli>(result->answer.timings.ttft_ms)));
    Answer& answer = result->answer;
    rag::GroundedAnswer grounded;
    if (answer.document_labels.size() == result->sources.size()) {
      grounded = rag::Ground(std::move(answer), std::move(result->sources));
    } else {
      grounded.answer = std::move(answer);
    }
    if (!cite_) {
      grounded.citations.clear();
      grounded.unsupported.clear();
    }
    if (setup_.stream) WriteEnd(index, grounded);
    const Usage& usage = grounded.answer.usage;
    usage_.prompt_tokens += usage.prompt_tokens;
    usage_.cached_tokens += usage.cached_tokens;
    usage_.completion_tokens += usage.completion_tokens;
    choices_[index].answer = std::move(grounded);
    if (++n_done_ == choices_.size()) return Finish();
    Submit();
  }

  void WriteEnd(size_t index, const rag::GroundedAnswer& grounded) {
    // What the observer was not told: tokens whose text was held back, and the end of a halved character.
    Choice& choice = choices_[index];
    const std::vector<TokenReport>& all = grounded.answer.tokens;
    const std::span<const TokenReport> rest = std::span(all).subspan(std::min(choice.n_reported, all.size()));
    if (!choice.pending.empty() || !rest.empty()) {
      WriteChunk({.index = static_cast<int>(index),
                  .role = false,
                  .text = rag::ReplaceInvalidUtf8(std::exchange(choice.pending, {})),
                  .logprobs = Logprobs(choice, rest),
                  .finish_reason = {}});
    }
    json::object extra;
    if (setup_.chat) rag::AddCitationsJson(grounded, &extra);
    if (setup_.jobs.size() == 1) extra["spanwise"] = SpanwiseJson(grounded.answer);
    WriteChunk({.index = static_cast<int>(index),
                .role = false,
                .text = {},
                .logprobs = {},
                .finish_reason = grounded.answer.finish_reason},
               extra);
  }

  // Of the first choice that has one.
  void NoteFirstToken(std::chrono::steady_clock::time_point at) {
    std::optional<double>& ms = turn_.record.first_token_ms;
    if (!ms) ms = std::chrono::duration<double, std::milli>(at - turn_.record.received).count();
  }

  // The field at fault, as far as the engine's message tells.
  std::string Param(const Status& status) const {
    if (status.code() == StatusCode::kContextExceeded) return setup_.chat ? "messages" : "prompt";
    const std::string param = ParamOf(status.message(), setup_.chat);
    return param == "model" ? std::string() : param;  // what its message speaks of then is not the field
  }

  void Finish() {
    turn_.record.usage = usage_;
    if (setup_.stream) {
      if (setup_.include_usage) exchange_->Write(Event(UsageChunk(envelope_, setup_.chat, usage_)));
      exchange_->Write("data: [DONE]\n\n");
      api_.Conclude(turn_, 200);
      exchange_->EndStream();
    } else if (setup_.chat) {
      api_.Reply(turn_, JsonResponse(ChatResponse(envelope_, choices_[0].answer, logprobs_)));
    } else {
      std::vector<Answer> answers;
      for (Choice& choice : choices_) answers.push_back(std::move(choice.answer.answer));
      api_.Reply(turn_, JsonResponse(CompletionResponse(envelope_, answers, logprobs_)));
    }
  }

  // One choice that fails ends all.
  void Fail(ApiError error) {
    failed_ = true;
    cancel_->Cancel();
    if (!started_) return api_.Reply(turn_, std::move(error));
    const HttpResponse told = api_.Concluded(turn_, std::move(error));
    exchange_->Write("data: " + told.body + "\n\n");
    exchange_->Write("data: [DONE]\n\n");
    exchange_->EndStream();
  }

  Api& api_;  // may be gone once the workers run nothing any more, while the engine still holds this
  const std::shared_ptr<std::atomic<int>> in_flight_;
  Turn turn_;
  const std::shared_ptr<Exchange> exchange_;
  const std::shared_ptr<Serial> serial_;
  const std::shared_ptr<CancelFlag> cancel_;
  std::chrono::steady_clock::time_point submitted_ = {};  // to the engine, the first of them
  Setup setup_;
  const Envelope envelope_;
  const bool logprobs_, cite_;
  std::vector<Choice> choices_;  // of the jobs
  size_t n_submitted_ = 0, n_done_ = 0;
  bool submitting_ = false, started_ = false, failed_ = false;
  Usage usage_;
};

Api::Api(ApiOptions options, Backend& backend)
    : options_(std::move(options)),
      backend_(backend),
      started_(std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
                   .count()),
      workers_(std::make_shared<Workers>(options_.workers)) {}

Api::~Api() { workers_->Stop(); }

const std::vector<Api::Route>& Api::Routes() {
  static const std::vector<Route> routes = {
      {"GET", "/", &Api::Page, true, false, false},
      {"GET", "/health", &Api::Health, true, false, true},
      {"GET", "/metrics", &Api::Metrics, false, false, true},
      {"GET", "/v1/models", &Api::ListModels, false, false, false},
      {"GET", "/v1/models/", &Api::GetModel, false, true, false},
      {"POST", "/v1/chat/completions", &Api::Chat, false, false, false},
      {"POST", "/v1/completions", &Api::Complete, false, false, false},
      {"POST", "/tokenize", &Api::Tokenize, false, false, false},
      {"POST", "/detokenize", &Api::Detokenize, false, false, false},
      {"GET", "/tokenizer_info", &Api::DescribeTokenizer, false, false, false},
  };
  return routes;
}

const Api::Route* Api::Find(std::string_view method, std::string_view path, std::string* allowed) const {
  const Route* found = nullptr;
  for (const Route& route : Routes()) {
    if (route.is_prefix ? !(path.starts_with(route.path) && path.size() > route.path.size()) : path != route.path)
      continue;
    if (!allowed->empty()) *allowed += ", ";
    *allowed += route.method == "GET" ? "GET, HEAD" : route.method;
    if (method == route.method || (method == "HEAD" && route.method == "GET")) found = &route;
  }
  return found;
}

std::optional<ApiError> Api::CheckCaller(const HttpRequest& head) const {
  // A page on another site can make a browser call this server. Its origin gives it away, and so does the host name
  // when that site's own name has been pointed here.
  const std::string_view host = HostName(head.host);
  if (options_.check_host && !host.empty() && !IsLoopbackName(host) &&
      std::ranges::find_if(options_.allowed_hosts, [&](const std::string& name) {
        return EqualsIgnoringCase(name, host);
      }) == options_.allowed_hosts.end())
    return ApiError{403,
                    StrFormat("host {} is not this server's name; start it with --allowed-host to answer under that "
                              "name, or with --api-key-file",
                              Quoted(host)),
                    {},
                    "host_refused"};
  if (!head.origin.empty() && !options_.cors.Allows(head.origin)) {
    const size_t scheme = head.origin.find("://");
    const std::string_view authority =
        std::string_view(head.origin).substr(scheme == std::string::npos ? 0 : scheme + 3);
    if (!EqualsIgnoringCase(authority, head.host))
      return ApiError{403,
                      StrFormat("calls from pages of {} to {} are not allowed; start the server with --cors-origin and "
                                "that origin to allow them, also where a proxy changes the Host header",
                                Quoted(head.origin), Quoted(head.host)),
                      {},
                      "origin_refused"};
  }
  return std::nullopt;
}

// Allows a page's request before the page sends it. It carries no key, so that it tells nothing but that: paths that do
// not exist are allowed as well, and the request itself is told so.
HttpResponse Api::AnswerPreflight(const HttpRequest& head) const {
  return {204, {}, {}, options_.cors.PreflightHeaders(head.preflight)};
}

std::optional<HttpResponse> Api::Check(const HttpRequest& head) {
  const std::string path(PathOf(head.target));
  std::string allowed;
  const Route* route = Find(head.method, path, &allowed);
  std::optional<ApiError> error = CheckCaller(head);
  if (!error && head.method == "OPTIONS") {
    if (!head.preflight.method.empty() && options_.cors.Allows(head.origin)) return AnswerPreflight(head);
    if (path == "*") return HttpResponse{204, {}, {}, {{"Allow", "GET, HEAD, OPTIONS, POST"}}};
  }
  if (!error && !(route && route->open) && !options_.keys.empty() && !options_.keys.Accepts(head.authorization))
    error = ApiError{401,
                     "an API key is needed: send 'Authorization: Bearer KEY' with one of the server's keys",
                     {},
                     "invalid_api_key"};
  if (!error && allowed.empty())
    error = ApiError{404, StrFormat("there is no endpoint {}", Quoted(path)), {}, "unknown_url"};
  if (!error && !route)
    error = ApiError{405,
                     StrFormat("{} does not do {}; it does {}", path, Quoted(head.method, 20), allowed),
                     {},
                     "method_not_allowed"};
  if (!error) return std::nullopt;
  Turn turn = NewTurn(head, route, nullptr);
  HttpResponse response = Concluded(turn, std::move(*error));
  if (response.status == 405) response.headers.emplace_back("Allow", allowed);
  return response;
}

void Api::Handle(HttpRequest request, const std::shared_ptr<Exchange>& exchange) {
  std::string allowed;
  const Route* route = Find(request.method, PathOf(request.target), &allowed);
  Turn turn = NewTurn(request, route, exchange);
  if (!route) return Reply(turn, ApiError{404, "there is no such endpoint", {}, "unknown_url"});
  if (route->method == "GET")  // small, and not to wait for others
    return (this->*route->handler)(request, std::move(turn));
  const auto shared = std::make_shared<HttpRequest>(std::move(request));
  const bool taken = workers_->TryPost(shared->body.size(), [this, route, shared, exchange, turn] {
    Turn own = turn;
    if (exchange->cancel()->cancelled()) return Reply(own, EndedBy(*exchange));
    try {
      (this->*route->handler)(*shared, own);
    } catch (const std::exception& e) {  // memory, most likely
      Reply(own, ApiError{503, StrFormat("the request could not be carried out: {}", e.what()), {}, "unavailable"});
    }
  });
  if (!taken)
    Reply(turn, ApiError{429, "as many requests as may be are waiting to be read; try again later", {}, "too_busy"});
}

HttpResponse Api::Refuse(const HttpRequest& head, ApiError error) {
  Turn turn = NewTurn(head, nullptr, nullptr);
  if (head.method.empty()) turn.record.received = std::chrono::steady_clock::now();  // it never was, as a request
  return Concluded(turn, std::move(error));
}

HeaderList Api::Turn::Headers() const {
  HeaderList headers = {{"X-Request-Id", record.id}};
  if (!ignored.empty()) headers.emplace_back("X-Spanwise-Ignored", NamesHeader(ignored));
  return headers;
}

Api::Turn Api::NewTurn(const HttpRequest& head, const Route* route, std::shared_ptr<Exchange> exchange) const {
  Turn turn{.exchange = std::move(exchange),
            .route = route ? std::string(route->path) : "other",
            .record = {.id = RequestId(head.request_id),
                       .method = head.method,
                       .path = std::string(PathOf(head.target)),
                       .peer = head.peer,
                       .received = head.received},
            .ignored = {}};
  turn.record.routine = route && route->routine;
  return turn;
}

void Api::Conclude(Turn& turn, int http_status) {
  turn.record.status = http_status;
  {
    const std::lock_guard lock(mutex_);
    ++answered_[{turn.route, http_status}];
  }
  if (!options_.log) return;
  const LogLevel level = http_status == 500    ? LogLevel::kWarning
                         : turn.record.routine ? LogLevel::kDebug
                                               : LogLevel::kInfo;
  options_.log(level, LogLine(turn.record, std::chrono::steady_clock::now()));
}

HttpResponse Api::Concluded(Turn& turn, HttpResponse response) {
  for (auto& header : turn.Headers()) response.headers.push_back(std::move(header));
  Conclude(turn, response.status);
  return response;
}

HttpResponse Api::Concluded(Turn& turn, ApiError error) {
  error.request_id = turn.record.id;
  turn.record.code = error.code;
  if (error.code != "unknown_parameter") turn.record.param = error.param;  // else it is the caller's own text
  return Concluded(turn, ErrorResponse(error));
}

ParseLimits Api::LimitsFor(const HttpRequest& request) const {
  ParseLimits limits = options_.limits;
  limits.strict = request.strict == "1";
  return limits;
}

std::optional<ApiError> Api::CheckModel(const std::string& model) const {
  if (model.empty() || model == backend_.model().id) return std::nullopt;
  return ApiError{404,
                  StrFormat("there is no model {}; this server has {}", Quoted(model), Quoted(backend_.model().id)),
                  "model", "model_not_found"};
}

void Api::Chat(HttpRequest& request, Turn turn) {
  ChatCall call;
  const Workers::Lane lane = Workers::LaneOf(request.body.size());
  std::optional<ApiError> error = ParseChat(request.body, LimitsFor(request), &call);
  request.body = {};
  turn.ignored = std::move(call.ignored);
  if (!error) error = CheckModel(call.model);
  if (error) return Reply(turn, std::move(*error));
  std::string& client = call.job.request.client;
  client = ClientOf(request, client, !options_.keys.empty());
  std::vector<Job> jobs;
  jobs.push_back(std::move(call.job));
  std::make_shared<Run>(*this, std::move(turn),
                        Run::Setup{true, call.stream, call.include_usage, std::move(jobs), lane})
      ->Submit();
}

void Api::Complete(HttpRequest& request, Turn turn) {
  CompletionCall call;
  const Workers::Lane lane = Workers::LaneOf(request.body.size());
  std::optional<ApiError> error = ParseCompletion(request.body, LimitsFor(request), &call);
  request.body = {};
  turn.ignored = std::move(call.ignored);
  if (!error) error = CheckModel(call.model);
  if (error) return Reply(turn, std::move(*error));
  for (Job& job : call.jobs) job.request.client = ClientOf(request, job.request.client, !options_.keys.empty());
  std::make_shared<Run>(*this, std::move(turn),
                        Run::Setup{false, call.stream, call.include_usage, std::move(call.jobs), lane})
      ->Submit();
}

void Api::Tokenize(HttpRequest& request, Turn turn) {
  TokenizeCall call;
  std::optional<ApiError> error = ParseTokenize(request.body, LimitsFor(request), &call);
  request.body = {};
  turn.ignored = std::move(call.ignored);
  if (!error) error = CheckModel(call.model);
  if (error) return Reply(turn, std::move(*error));
  const auto tokens =
      call.request ? backend_.PromptTokens(*call.request) : backend_.Tokenize(call.text, call.parse_special);
  if (!tokens.ok()) return Reply(turn, ErrorOf(tokens.status(), call.field));
  json::object out;
  if (call.as_pieces) {
    out["tokens"] = TokenPieces(backend_, *tokens);
  } else {
    out["tokens"] = json::array(tokens->begin(), tokens->end());
  }
  out["count"] = tokens->size();
  out["context_tokens"] = backend_.model().context_tokens;
  out["max_model_len"] = backend_.model().context_tokens;
  if (call.strings) out["token_strs"] = TokenStrings(backend_, *tokens);
  Reply(turn, JsonResponse(out));
}

void Api::Detokenize(HttpRequest& request, Turn turn) {
  DetokenizeCall call;
  std::optional<ApiError> error = ParseDetokenize(request.body, LimitsFor(request), &call);
  request.body = {};
  turn.ignored = std::move(call.ignored);
  if (!error) error = CheckModel(call.model);
  if (error) return Reply(turn, std::move(*error));
  const auto text = backend_.Detokenize(call.tokens, call.keep_special);
  if (!text.ok()) return Reply(turn, ErrorOf(text.status(), "tokens"));
  const std::string valid = rag::ReplaceInvalidUtf8(*text);
  Reply(turn, JsonResponse(json::object{{"text", valid}, {"prompt", valid}, {"content", valid}}));
}

void Api::DescribeTokenizer(HttpRequest&, Turn turn) { Reply(turn, JsonResponse(TokenizerJson(backend_.model()))); }

void Api::ListModels(HttpRequest&, Turn turn) {
  Reply(turn,
        JsonResponse(json::object{{"object", "list"}, {"data", json::array{ModelJson(backend_.model(), started_)}}}));
}

void Api::GetModel(HttpRequest& request, Turn turn) {
  constexpr std::string_view kPrefix = "/v1/models/";
  if (auto error = CheckModel(PercentDecoded(PathOf(request.target).substr(kPrefix.size()))))
    return Reply(turn, std::move(*error));
  Reply(turn, JsonResponse(ModelJson(backend_.model(), started_)));
}

void Api::Health(HttpRequest&, Turn turn) {
  const EngineStats stats = backend_.stats();
  Reply(turn,
        JsonResponse(json::object{
            {"status", "ok"}, {"model", backend_.model().id}, {"queued", stats.queued}, {"running", stats.running}}));
}

void Api::Metrics(HttpRequest&, Turn turn) {
  const EngineStats stats = backend_.stats();
  std::string text =
      "# HELP spanwise_http_requests_total HTTP requests answered.\n# TYPE spanwise_http_requests_total counter\n";
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [key, n] : answered_)
      text += StrFormat("spanwise_http_requests_total{{path=\"{}\",status=\"{}\"}} {}\n", key.first, key.second, n);
  }
  const auto metric = [&](std::string_view name, std::string_view type, std::string_view help, auto value) {
    text += StrFormat("# HELP spanwise_{0} {2}\n# TYPE spanwise_{0} {1}\nspanwise_{0} {3}\n", name, type, help, value);
  };
  metric("requests_total", "counter", "Requests given to the engine.", stats.requests);
  metric("requests_failed_total", "counter", "Requests that the engine refused or failed.", stats.failed);
  metric("requests_cancelled_total", "counter", "Requests whose client left.", stats.cancelled);
  metric("prompt_tokens_total", "counter", "Prompt tokens of answered requests.", stats.prompt_tokens);
  metric("cached_tokens_total", "counter", "Prompt tokens whose KV was reused.", stats.cached_tokens);
  metric("completion_tokens_total", "counter", "Generated tokens.", stats.completion_tokens);
  metric("requests_in_flight", "gauge", "Generation requests not answered yet.", in_flight_->load());
  metric("requests_queued", "gauge", "Requests waiting for the engine.", stats.queued);
  metric("requests_running", "gauge", "Requests the engine works on.", stats.running);
  metric("requests_suspended", "gauge", "Requests that made room for higher priorities.", stats.suspended);
  metric("suspensions_total", "counter", "Times that a request made room.", stats.suspensions);
  metric("kv_blocks", "gauge", "KV blocks in use.", stats.kv_blocks);
  metric("kv_blocks_budget", "gauge", "KV blocks that memory was set aside for.", stats.kv_blocks_budget);
  metric("kv_blocks_reserved", "gauge", "KV blocks that running requests may come to need.", stats.kv_blocks_reserved);
  metric("kv_spans", "gauge", "Spans kept for reuse.", stats.kv_spans);
  metric("kv_disk_spans", "gauge", "Spans kept on disk.", stats.kv_disk_spans);
  metric("kv_disk_bytes", "gauge", "Bytes of spans on disk.", stats.kv_disk_bytes);
  metric("kv_disk_budget_bytes", "gauge", "Bytes that spans on disk may take.", stats.kv_disk_budget_bytes);
  metric("kv_disk_tokens_total", "counter", "Prompt tokens whose KV came from disk.", stats.kv_disk_tokens);
  metric("kv_disk_mapped_tokens_total", "counter", "Of these, tokens whose KV was read in place, without a copy.",
         stats.kv_disk_mapped_tokens);
  metric("kv_disk_written_spans_total", "counter", "Spans written to disk.", stats.kv_disk_written_spans);
  metric("kv_disk_evicted_spans_total", "counter", "Spans dropped from disk for the budget.",
         stats.kv_disk_evicted_spans);
  metric("kv_disk_damaged_spans_total", "counter", "Damaged spans met on disk and not used.",
         stats.kv_disk_damaged_spans);
  metric("kv_disk_lost_spans_total", "counter", "Spans that the disk was too slow, too full or unable to take.",
         stats.kv_disk_lost_spans);
  metric("kv_remote_tokens_total", "counter", "Prompt tokens whose KV came from the cache server.",
         stats.kv_remote_tokens);
  metric("kv_remote_found_spans_total", "counter", "Spans that the cache server had.", stats.kv_remote_found_spans);
  metric("kv_remote_missing_spans_total", "counter", "Spans that the cache server was asked for and did not have.",
         stats.kv_remote_missing_spans);
  metric("kv_remote_written_spans_total", "counter", "Spans sent to the cache server.", stats.kv_remote_written_spans);
  metric("kv_remote_written_bytes_total", "counter", "Bytes of them.", stats.kv_remote_written_bytes);
  metric("kv_remote_damaged_spans_total", "counter", "Damaged spans met on the cache server and not used.",
         stats.kv_remote_damaged_spans);
  metric("kv_remote_lost_spans_total", "counter",
         "Spans that the cache server was too slow, too full or unable to take.", stats.kv_remote_lost_spans);
  Reply(turn, HttpResponse{200, "text/plain; version=0.0.4; charset=utf-8", std::move(text), {}});
}

void Api::Page(HttpRequest&, Turn turn) {
  Reply(turn, HttpResponse{200,
                           "text/html; charset=utf-8",
                           options_.page,
                           {{"Content-Security-Policy",
                             "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src "
                             "'self'; img-src data:"}}});
}

}  // namespace spanwise::server

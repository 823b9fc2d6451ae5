#include "server/http.h"

#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <condition_variable>
#include <ctime>
#include <mutex>
#include <optional>
#include <set>
#include <thread>

#include "base/str.h"

namespace spanwise::server {

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using tcp = asio::ip::tcp;
using Clock = std::chrono::steady_clock;

std::string HttpDate() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[64];
  const size_t n = std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &parts);
  return {text, n};
}

std::string ToString(beast::string_view text) { return {text.data(), text.size()}; }

class Session;

// What the sessions share with the server. Outlives both: sessions hold it, and with it the context their strands run
// on, because an engine's last callback may come when the server is gone.
struct Shared {
  Shared(const HttpOptions& o, Api& a) : options(o), api(a) {}
  const HttpOptions options;
  Api& api;
  asio::io_context io;

  std::mutex mutex;
  std::condition_variable changed;
  std::set<Session*> sessions;  // guarded by mutex; those that still exist, closed or not
};

// One connection. Everything runs on its strand but the constructor, Post and cancel.
class Session final : public Exchange, public std::enable_shared_from_this<Session> {
 public:
  Session(std::shared_ptr<Shared> shared, tcp::socket socket)
      : shared_(std::move(shared)), stream_(std::move(socket)), cancel_(std::make_shared<CancelFlag>()) {
    const std::lock_guard lock(shared_->mutex);
    shared_->sessions.insert(this);
  }
  // A session exists until its connection is closed and the engine has called back: the server waits for both.
  ~Session() override {
    const std::lock_guard lock(shared_->mutex);
    shared_->sessions.erase(this);
    shared_->changed.notify_all();
  }

  void Start(bool refuse) {
    Post([this, refuse] {
      error_code ignored;
      stream_.socket().set_option(tcp::no_delay(true), ignored);
      if (refuse)
        return Refuse(
            {503, "the server has as many connections as it takes; try again later", {}, "too_many_connections"});
      ReadHeader();
    });
  }

  // The server is ending: close now if nothing is in flight, else after the answer.
  void EndSoon() {
    Post([this] {
      keep_alive_ = false;
      stopping_ = true;
      if (!answering_) Close();
    });
  }
  void CancelNow() {
    Post([this] {
      std::shared_ptr<CancelFlag> flag = cancel();
      flag->Cancel();
    });
  }
  void CloseNow() {
    Post([this] { Close(); });
  }

  // Exchange.
  void Post(std::function<void()> task) override {
    asio::post(stream_.get_executor(), [self = shared_from_this(), task = std::move(task)] { task(); });
  }
  std::shared_ptr<CancelFlag> cancel() const override {
    const std::lock_guard lock(cancel_mutex_);
    return cancel_;
  }
  void Send(HttpResponse response) override {
    if (closed_ || !answering_) return;
    const bool no_content = response.status == 204;
    out_ += Head(response, no_content ? "" : StrFormat("Content-Length: {}\r\n", response.body.size()));
    if (!head_only_) out_ += response.body;
    ended_ = true;
    Pump();
  }
  void StartStream(HttpResponse head) override {
    if (closed_ || !answering_) return;
    chunked_ = http_1_1_;
    if (!chunked_) keep_alive_ = false;
    out_ += Head(head, chunked_ ? "Transfer-Encoding: chunked\r\n" : "");
    Pump();
  }
  void Write(std::string bytes) override {
    if (closed_ || !answering_ || bytes.empty()) return;
    if (out_.size() + bytes.size() > shared_->options.max_unsent_bytes) return Close();
    if (chunked_) {
      out_ += StrFormat("{:x}\r\n", bytes.size());
      out_ += bytes;
      out_ += "\r\n";
    } else {
      out_ += bytes;
    }
    Pump();
  }
  void EndStream() override {
    if (closed_ || !answering_) return;
    if (chunked_) out_ += "0\r\n\r\n";
    ended_ = true;
    Pump();
  }

 private:
  template <typename Member>
  auto Bind(Member member) {
    return [self = shared_from_this(), member](error_code error, auto...) {
      if (!self->closed_) (self.get()->*member)(error);
    };
  }

  std::string Head(const HttpResponse& response, std::string_view framing) const {
    std::string head = StrFormat("HTTP/1.1 {} {}\r\nDate: {}\r\nServer: spanwise\r\n{}", response.status,
                                 HttpReason(response.status), HttpDate(), framing);
    if (!response.content_type.empty())
      head += StrFormat("Content-Type: {}\r\nX-Content-Type-Options: nosniff\r\n", response.content_type);
    for (const auto& [name, value] : response.headers) head += StrFormat("{}: {}\r\n", name, value);
    for (const auto& [name, value] : shared_->options.headers) head += StrFormat("{}: {}\r\n", name, value);
    head += keep_alive_ ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n";
    return head;
  }

  void ReadHeader() {
    answering_ = false;
    parser_.emplace();
    parser_->header_limit(static_cast<uint32_t>(shared_->options.max_header_bytes));
    parser_->body_limit(shared_->options.max_body_bytes);
    stream_.expires_after(shared_->options.idle_timeout);
    http::async_read_header(stream_, buffer_, *parser_, Bind(&Session::OnHeader));
  }

  void OnHeader(error_code error) {
    if (error) return OnBadRequest(error);
    const auto& message = parser_->get();
    request_ = {.method = ToString(message.method_string()),
                .target = ToString(message.target()),
                .host = ToString(message[http::field::host]),
                .origin = ToString(message[http::field::origin]),
                .authorization = ToString(message[http::field::authorization]),
                .body = {},
                .peer = PeerAddress()};
    http_1_1_ = message.version() >= 11;
    keep_alive_ = message.keep_alive() && !stopping_;
    head_only_ = request_.method == "HEAD";
    const bool has_body = !parser_->is_done();
    if (auto refusal = shared_->api.Check(request_)) {
      if (has_body) keep_alive_ = false;  // the body is not read, so nothing after it can be
      return Answer(std::move(*refusal));
    }
    if (const std::string expect = ToString(message[http::field::expect]); has_body && !expect.empty()) {
      if (!beast::iequals(expect, "100-continue"))
        return Refuse({417, StrFormat("cannot meet the expectation {}", Quoted(expect)), {}, "expectation_failed"});
      interim_ = "HTTP/1.1 100 Continue\r\n\r\n";
      stream_.expires_after(shared_->options.io_timeout);
      asio::async_write(stream_, asio::buffer(interim_), Bind(&Session::OnContinueSent));
      return;
    }
    OnContinueSent({});
  }

  std::string PeerAddress() {
    error_code error;
    const auto endpoint = stream_.socket().remote_endpoint(error);
    return error ? std::string() : endpoint.address().to_string();
  }

  void OnContinueSent(error_code error) {
    if (error) return Close();
    parser_->eager(true);
    body_deadline_ = Clock::now() + shared_->options.body_timeout;
    ReadBody();
  }

  void ReadBody() {
    if (parser_->is_done()) return Dispatch();
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(body_deadline_ - Clock::now());
    if (left.count() <= 0) return Close();
    stream_.expires_after(std::min(left, shared_->options.io_timeout));
    http::async_read_some(stream_, buffer_, *parser_, Bind(&Session::OnBodyRead));
  }

  void OnBodyRead(error_code error) {
    if (error) return OnBadRequest(error);
    ReadBody();
  }

  void OnBadRequest(error_code error) {
    const bool is_http = error.category() == make_error_code(http::error::end_of_stream).category();
    if (!is_http || error == http::error::end_of_stream || error == http::error::partial_message) return Close();
    if (error == http::error::body_limit)
      return Refuse(
          {413, StrFormat("the body is larger than {} bytes", shared_->options.max_body_bytes), {}, "body_too_large"});
    if (error == http::error::header_limit)
      return Refuse({431,
                     StrFormat("the header is larger than {} bytes", shared_->options.max_header_bytes),
                     {},
                     "header_too_large"});
    Refuse({400, "not a valid HTTP request: " + error.message(), {}, "malformed_http"});
  }

  // Answers below the API and ends the connection.
  void Refuse(const ApiError& error) {
    shared_->api.CountRefusal(error.http_status);
    keep_alive_ = false;
    Answer(ErrorResponse(error));
  }

  void Answer(HttpResponse response) {
    answering_ = true;
    Send(std::move(response));
  }

  void Dispatch() {
    request_.body = std::move(parser_->get().body());
    parser_.reset();
    stream_.expires_never();
    answering_ = true;
    {
      const std::lock_guard lock(cancel_mutex_);
      cancel_ = std::make_shared<CancelFlag>();
    }
    WatchForLeaving();
    shared_->api.Handle(std::move(request_), shared_from_this());
  }

  // A client that leaves shows as readable with nothing to read.
  void WatchForLeaving() {
    watching_ = true;
    stream_.socket().async_wait(tcp::socket::wait_read, [self = shared_from_this(), round = round_](error_code error) {
      if (self->closed_ || round != self->round_) return;
      self->watching_ = false;
      if (error) return;
      char byte;
      const ssize_t n = ::recv(self->stream_.socket().native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
      if (n > 0) return;  // the next request, early: leaving will show when writing fails
      if (n < 0 && (errno == EAGAIN || errno == EINTR)) return self->WatchForLeaving();
      self->Close();
    });
  }

  void Pump() {
    if (writing_ || closed_) return;
    if (out_.empty()) {
      if (ended_) FinishAnswer();
      return;
    }
    writing_ = true;
    in_flight_.clear();
    in_flight_.swap(out_);
    stream_.expires_after(shared_->options.io_timeout);
    asio::async_write(stream_, asio::buffer(in_flight_), Bind(&Session::OnWritten));
  }

  void OnWritten(error_code error) {
    writing_ = false;
    if (error) return Close();
    stream_.expires_never();
    Pump();
  }

  void FinishAnswer() {
    ended_ = false;
    chunked_ = false;
    ++round_;
    if (watching_) {
      watching_ = false;
      error_code ignored;
      stream_.socket().cancel(ignored);  // only the watch is pending here
    }
    if (keep_alive_ && !stopping_) return ReadHeader();
    Linger();
  }

  // Closing with unread bytes would reset the connection and could take the answer with it.
  void Linger() {
    answering_ = false;
    error_code ignored;
    stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
    stream_.expires_after(stopping_ ? std::min(shared_->options.linger_timeout, std::chrono::milliseconds(100))
                                    : shared_->options.linger_timeout);
    Drain();
  }
  void Drain() { stream_.async_read_some(asio::buffer(scratch_), Bind(&Session::OnDrained)); }
  void OnDrained(error_code error) {
    if (error) return Close();
    Drain();
  }

  void Close() {
    if (closed_) return;
    closed_ = true;
    cancel()->Cancel();
    stream_.close();
  }

  const std::shared_ptr<Shared> shared_;
  beast::tcp_stream stream_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  HttpRequest request_;
  std::string interim_, out_, in_flight_;  // to write; being written
  char scratch_[4096];
  Clock::time_point body_deadline_;
  bool http_1_1_ = true, keep_alive_ = false, head_only_ = false;
  bool answering_ = false;  // from a request's arrival to its answer's last byte
  bool chunked_ = false, ended_ = false, writing_ = false, watching_ = false;
  bool stopping_ = false, closed_ = false;
  uint64_t round_ = 0;  // of requests on this connection: tells a stale watch

  mutable std::mutex cancel_mutex_;
  std::shared_ptr<CancelFlag> cancel_;  // guarded by cancel_mutex_
};

class HttpServerImpl final : public HttpServer {
 public:
  HttpServerImpl(const HttpOptions& options, Api& api)
      : shared_(std::make_shared<Shared>(options, api)),
        acceptor_(asio::make_strand(shared_->io)),
        retry_(acceptor_.get_executor()) {}

  ~HttpServerImpl() override { Stop(std::chrono::milliseconds(0)); }

  Status Open() {
    error_code error;
    const HttpOptions& o = shared_->options;
    tcp::resolver resolver(shared_->io);
    const auto found = resolver.resolve(o.host, std::to_string(o.port), tcp::resolver::passive, error);
    if (error || found.empty())
      return InvalidArgument(
          StrFormat("host {} is not an address of this machine: {}", Quoted(o.host), error.message()));
    tcp::endpoint endpoint = found.begin()->endpoint();
    for (const auto& entry : found)  // "localhost" is both; clients try the older one more often
      if (entry.endpoint().address().is_v4()) endpoint = entry.endpoint();
    if (o.loopback_only && !endpoint.address().is_loopback())
      return InvalidArgument(
          StrFormat("host {} can be reached from other machines: that needs an API key (--api-key-file FILE)", o.host));
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
    if (error == asio::error::address_in_use)
      return Unavailable(StrFormat("port {} of {} is in use; choose another with --port", o.port, o.host));
    if (error) return InvalidArgument(StrFormat("cannot listen on {} port {}: {}", o.host, o.port, error.message()));
    endpoint_ = acceptor_.local_endpoint(error);
    return Status::Ok();
  }

  uint16_t port() const override { return endpoint_.port(); }
  std::string url() const override {
    const std::string address = endpoint_.address().to_string();
    return StrFormat("http://{}:{}", endpoint_.address().is_v6() ? "[" + address + "]" : address, port());
  }

  void Start() override {
    Accept();
    for (int i = 0; i < std::max(shared_->options.threads, 1); ++i)
      threads_.emplace_back([shared = shared_] { Work(shared->io); });
  }

  void Stop(std::chrono::milliseconds grace) override {
    const std::lock_guard only_one(stop_mutex_);
    if (stopped_) return;
    stopped_ = true;
    asio::post(acceptor_.get_executor(), [this] {
      error_code ignored;
      acceptor_.close(ignored);
      retry_.cancel();
    });
    if (threads_.empty()) return;
    ForEach(&Session::EndSoon);
    if (!AllClosedWithin(grace)) {
      ForEach(&Session::CancelNow);
      // A cancelled request ends at its next step; a client that does not take the news is cut off.
      if (!AllClosedWithin(std::chrono::seconds(5))) {
        ForEach(&Session::CloseNow);
        AllClosedWithin(std::chrono::seconds(1));
      }
    }
    shared_->io.stop();
    for (std::thread& thread : threads_) thread.join();
  }

  int n_connections() const override {
    const std::lock_guard lock(shared_->mutex);
    return static_cast<int>(shared_->sessions.size());
  }

 private:
  // What a handler throws (memory, most likely) ends its connection, because nothing refers to that any more.
  static void Work(asio::io_context& io) {
    for (;;) {
      try {
        io.run();
        return;
      } catch (const std::exception&) {
      }
    }
  }

  void ForEach(void (Session::*method)()) {
    std::vector<std::shared_ptr<Session>> alive;  // released after the lock, which ~Session takes
    {
      const std::lock_guard lock(shared_->mutex);
      for (Session* session : shared_->sessions)
        if (auto held = session->weak_from_this().lock()) alive.push_back(std::move(held));
    }
    for (const auto& session : alive) (session.get()->*method)();
  }

  bool AllClosedWithin(std::chrono::milliseconds time) {
    std::unique_lock lock(shared_->mutex);
    return shared_->changed.wait_for(lock, time, [&] { return shared_->sessions.empty(); });
  }

  void Accept() {
    acceptor_.async_accept(asio::make_strand(shared_->io), [this](error_code error, tcp::socket socket) {
      if (error == asio::error::operation_aborted || !acceptor_.is_open()) return;
      if (error) {  // out of descriptors, most likely: wait for some to come back
        retry_.expires_after(std::chrono::milliseconds(100));
        retry_.async_wait([this](error_code cancelled) {
          if (!cancelled) Accept();
        });
        return;
      }
      Admit(std::move(socket));
      Accept();
    });
  }

  void Admit(tcp::socket socket) {
    constexpr int kRefusable = 64;  // connections past the limit that are still told why
    const int n = n_connections();
    if (n >= shared_->options.max_connections + kRefusable) return;
    std::make_shared<Session>(shared_, std::move(socket))->Start(n >= shared_->options.max_connections);
  }

  const std::shared_ptr<Shared> shared_;
  tcp::acceptor acceptor_;
  asio::steady_timer retry_;
  tcp::endpoint endpoint_;
  std::vector<std::thread> threads_;
  std::mutex stop_mutex_;
  bool stopped_ = false;  // guarded by stop_mutex_
};

}  // namespace

Result<std::unique_ptr<HttpServer>> HttpServer::Listen(const HttpOptions& options, Api& api) {
  try {
    auto server = std::make_unique<HttpServerImpl>(options, api);
    SW_RETURN_IF_ERROR(server->Open());
    return std::unique_ptr<HttpServer>(std::move(server));
  } catch (const std::exception& e) {
    return Unavailable(StrFormat("cannot start the HTTP server: {}", e.what()));
  }
}

}  // namespace spanwise::server

#include "server/http.h"

#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
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
#include <deque>
#include <list>
#include <mutex>
#include <optional>
#include <set>
#include <thread>

#include "base/str.h"
#include "server/cors.h"
#include "server/request_head.h"

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

std::string_view View(beast::string_view text) { return {text.data(), text.size()}; }

class Session;

// What the sessions share with the server. Outlives both: sessions hold it, and with it the context their strands run
// on, because an engine's last callback may come when the server is gone.
struct Shared {
  Shared(const HttpOptions& o, Api& a) : options(o), api(a) {}
  const HttpOptions options;
  Api& api;
  asio::io_context io;
  std::atomic<size_t> body_bytes = 0;  // of requests that have no answer yet

  std::mutex mutex;
  std::condition_variable changed;
  std::set<Session*> sessions;  // guarded by mutex; those that still exist, closed or not
  std::list<Session*> idle;  // guarded by mutex; of them, those without a request, in the order in which they ended one
  int n_counted = 0;         // guarded by mutex; sessions but for those that make room
};

// One connection. Everything runs on its strand but the constructor, Post and what is thread-safe by its declaration.
class Session final : public Exchange, public std::enable_shared_from_this<Session> {
 public:
  Session(std::shared_ptr<Shared> shared, tcp::socket socket)
      : shared_(std::move(shared)),
        stream_(std::move(socket)),
        watch_(stream_.get_executor()),
        buffer_(shared_->options.max_header_bytes + kReadBytes),
        cancel_(std::make_shared<CancelFlag>()) {
    const std::lock_guard lock(shared_->mutex);
    shared_->sessions.insert(this);
    ++shared_->n_counted;
  }
  // A session exists until its connection is closed and the engine has called back: the server waits for both.
  ~Session() override {
    ChargeBody(0);
    const std::lock_guard lock(shared_->mutex);
    if (idle_place_) shared_->idle.erase(*idle_place_);
    if (!making_room_) --shared_->n_counted;
    shared_->sessions.erase(this);
    shared_->changed.notify_all();
  }

  // The session that has waited longest for a request ends, and counts no more. False: none waits.
  static bool MakeRoom(Shared& shared) {
    std::shared_ptr<Session> session;  // released after the lock, which ~Session takes
    const std::lock_guard lock(shared.mutex);
    while (!session) {
      if (shared.idle.empty()) return false;
      Session& oldest = *shared.idle.front();
      shared.idle.pop_front();
      oldest.idle_place_.reset();
      session = oldest.weak_from_this().lock();
    }
    session->making_room_ = true;
    --shared.n_counted;
    session->Post([s = session.get()] {
      s->keep_alive_ = false;
      if (s->reading_head_) s->Close();  // else its request has come meanwhile
    });
    return true;
  }

  void Start(bool refuse) {
    Post([this, refuse] {
      error_code ignored;
      tcp::socket& socket = stream_.socket();
      socket.set_option(tcp::no_delay(true), ignored);
      // A peer whose machine is gone, or that closed everything after a half-close, is found out while nothing is sent.
      socket.set_option(tcp::socket::keep_alive(true), ignored);
      const int seconds = 15;
      ::setsockopt(socket.native_handle(), IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof seconds);
      ::setsockopt(socket.native_handle(), IPPROTO_TCP, TCP_KEEPINTVL, &seconds, sizeof seconds);
      if (refuse)
        return Refuse(
            {429,
             StrFormat("all {} connections have requests under way; try again later", shared_->options.max_connections),
             {},
             "too_many_connections"});
      ReadHead();
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
  std::shared_ptr<CancelFlag> cancel() const override {
    const std::lock_guard lock(cancel_mutex_);
    return cancel_;
  }
  bool abandoned() const override { return closed_; }
  void Send(HttpResponse response) override {
    Post([this, response = std::move(response)]() mutable { SendNow(std::move(response)); });
  }
  void StartStream(HttpResponse head) override {
    Post([this, head = std::move(head)] {
      if (closed_ || !answering_) return;
      chunked_ = http_1_1_;
      if (!chunked_) keep_alive_ = false;
      begun_ = true;
      Append(Head(head, chunked_ ? "Transfer-Encoding: chunked\r\n" : ""));
      Pump();
    });
  }
  void Write(std::string bytes) override {
    Post([this, bytes = std::move(bytes)] {
      if (closed_ || !answering_ || bytes.empty()) return;
      if (n_unsent_ + bytes.size() > shared_->options.max_unsent_bytes) return Close();
      Append(chunked_ ? StrFormat("{:x}\r\n{}\r\n", bytes.size(), bytes) : bytes);
      Pump();
    });
  }
  void EndStream() override {
    Post([this] {
      if (closed_ || !answering_) return;
      if (chunked_) Append("0\r\n\r\n");
      ended_ = true;
      Pump();
    });
  }

 private:
  static constexpr size_t kReadBytes = size_t{64} << 10;  // of a body, at a time

  template <typename Task>
  void Post(Task task) {
    asio::post(stream_.get_executor(), [self = shared_from_this(), task = std::move(task)]() mutable { task(); });
  }

  template <typename Member>
  auto Bind(Member member) {
    return [self = shared_from_this(), member](error_code error, size_t n = 0) {
      if (!self->closed_) (self.get()->*member)(error, n);
    };
  }

  std::string Head(const HttpResponse& response, std::string_view framing) const {
    std::string head = StrFormat("HTTP/1.1 {} {}\r\nDate: {}\r\nServer: spanwise\r\n{}", response.status,
                                 HttpReason(response.status), HttpDate(), framing);
    if (!response.content_type.empty())
      head += StrFormat("Content-Type: {}\r\nX-Content-Type-Options: nosniff\r\n", response.content_type);
    for (const auto& [name, value] : response.headers) head += StrFormat("{}: {}\r\n", name, value);
    for (const auto& [name, value] : answer_headers_) head += StrFormat("{}: {}\r\n", name, value);
    head += keep_alive_ ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n";
    return head;
  }

  void ReadHead() {
    answering_ = false;
    parser_.reset();
    request_ = {};
    answer_headers_.clear();
    scanned_ = 0;
    if (buffer_.size() == 0) buffer_.shrink_to_fit();  // an idle connection holds little
    {
      const std::lock_guard lock(shared_->mutex);
      if (!making_room_) idle_place_ = shared_->idle.insert(shared_->idle.end(), this);
    }
    reading_head_ = true;
    stream_.expires_after(shared_->options.idle_timeout);
    ScanMore();
  }

  void ScanMore() {
    const size_t limit = shared_->options.max_header_bytes;
    const std::string_view bytes(static_cast<const char*>(buffer_.data().data()), buffer_.size());
    const HeadScan scan = ScanHead(bytes, scanned_);
    scanned_ = bytes.size();
    if (scan.state == HeadScan::State::kInvalid) return Refuse(NotHttp(scan.reason));
    if (scan.state == HeadScan::State::kEnd ? scan.size > limit : bytes.size() >= limit)
      return Refuse({431, StrFormat("the header is larger than {} bytes", limit), {}, "header_too_large"});
    if (scan.state == HeadScan::State::kEnd) return OnHead(scan.size);
    stream_.async_read_some(buffer_.prepare(bytes.empty() ? 512 : 4096), Bind(&Session::OnHeadRead));
  }

  void OnHeadRead(error_code error, size_t n) {
    if (error) return Close();
    buffer_.commit(n);
    ScanMore();
  }

  static ApiError NotHttp(std::string_view why) {
    return {400, StrFormat("not a valid HTTP request: {}", why), {}, "malformed_http"};
  }

  void OnHead(size_t size) {
    std::string_view bytes(static_cast<const char*>(buffer_.data().data()), size);
    while (bytes.starts_with("\r\n")) bytes.remove_prefix(2);
    parser_.emplace();
    parser_->header_limit(static_cast<uint32_t>(shared_->options.max_header_bytes));
    parser_->body_limit(shared_->options.max_body_bytes);
    error_code error;
    parser_->put(asio::buffer(bytes.data(), bytes.size()), error);
    if (error && error != http::error::need_more) return OnBadRequest(error);
    if (!parser_->is_header_done()) return Refuse(NotHttp("its header is incomplete"));
    const auto& message = parser_->get();
    http_1_1_ = message.version() >= 11;
    RawHead raw{.method = View(message.method_string()),
                .target = View(message.target()),
                .version = static_cast<int>(message.version()),
                .fields = {}};
    for (const auto& field : message) raw.fields.emplace_back(View(field.name_string()), View(field.value()));
    CheckedHead head;
    if (const auto refusal = CheckHead(raw, &head)) return Refuse(*refusal);
    request_ = {.method = std::string(raw.method),
                .target = std::move(head.target),
                .host = std::move(head.host),
                .origin = std::string(View(message[http::field::origin])),
                .authorization = std::string(View(message[http::field::authorization])),
                .body = {},
                .peer = PeerAddress(),
                .request_id = std::string(View(message["X-Request-Id"])),
                .strict = std::string(View(message["X-Spanwise-Strict"])),
                .preflight = {.method = std::string(View(message[http::field::access_control_request_method])),
                              .headers = std::string(View(message[http::field::access_control_request_headers])),
                              .private_network = message["Access-Control-Request-Private-Network"] == "true"}};
    answer_headers_ = shared_->api.AnswerHeaders(request_);
    keep_alive_ = parser_->keep_alive() && !stopping_;  // by all its Connection fields; the message knows the first
    n_head_fields_ = raw.fields.size();
    head_only_ = request_.method == "HEAD";
    buffer_.consume(size);
    if (auto refusal = shared_->api.Check(request_)) {
      if (head.has_body) keep_alive_ = false;  // the body is not read, so nothing after it can be
      return Answer(std::move(*refusal));
    }
    EndIdle();
    if (!head.expects_continue) return StartBody({}, 0);
    interim_ = kContinue;
    stream_.expires_after(shared_->options.io_timeout);
    asio::async_write(stream_, asio::buffer(interim_), Bind(&Session::StartBody));
  }

  // There is a request: the connection does not make room for others.
  void EndIdle() {
    reading_head_ = false;
    const std::lock_guard lock(shared_->mutex);
    if (idle_place_) shared_->idle.erase(*std::exchange(idle_place_, {}));
  }

  std::string PeerAddress() {
    error_code error;
    const auto endpoint = stream_.socket().remote_endpoint(error);
    return error ? std::string() : endpoint.address().to_string();
  }

  void StartBody(error_code error, size_t) {
    if (error) return Close();
    parser_->eager(true);
    body_deadline_ = Clock::now() + shared_->options.body_timeout;
    ReadBody();
  }

  void ReadBody() {
    if (!ChargeBody(parser_->get().body().size()))
      return Refuse(
          {429, "the server holds as many requests' bodies as it may; try again later", {}, "too_many_bodies"});
    if (parser_->is_done()) return Dispatch();
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(body_deadline_ - Clock::now());
    if (left.count() <= 0) return Close();
    stream_.expires_after(std::min(left, shared_->options.io_timeout));
    http::async_read_some(stream_, buffer_, *parser_, Bind(&Session::OnBodyRead));
  }

  void OnBodyRead(error_code error, size_t) {
    if (error) return OnBadRequest(error);
    ReadBody();
  }

  // Counts the body as so large. False: all bodies together would be too large.
  bool ChargeBody(size_t bytes) {
    const size_t all = shared_->body_bytes += bytes - charged_;
    const bool more = bytes > charged_;
    charged_ = bytes;
    return !more || all <= shared_->options.max_total_body_bytes;
  }

  void OnBadRequest(error_code error) {
    const bool is_http = error.category() == make_error_code(http::error::end_of_stream).category();
    if (!is_http || error == http::error::end_of_stream || error == http::error::partial_message) return Close();
    if (error == http::error::body_limit)
      return Refuse({413,
                     StrFormat("the body is larger than {} bytes, the most that this server takes (serve --max-body)",
                               shared_->options.max_body_bytes),
                     {},
                     "body_too_large"});
    Refuse(NotHttp(error.message()));
  }

  // Answers below the API and ends the connection.
  void Refuse(const ApiError& error) {
    parser_.reset();
    ChargeBody(0);
    keep_alive_ = false;
    Answer(shared_->api.Refuse(request_, error));
  }

  void Answer(HttpResponse response) {
    EndIdle();
    answering_ = true;
    SendNow(std::move(response));
  }

  void Dispatch() {
    request_.body = std::move(parser_->get().body());
    // Fields behind a chunked body: they mean nothing here, and lines of theirs may be folded, which other readers part
    // otherwise. Nothing behind them is read.
    const auto& fields = parser_->get().base();
    if (static_cast<size_t>(std::distance(fields.begin(), fields.end())) != n_head_fields_) keep_alive_ = false;
    parser_.reset();
    stream_.expires_never();
    answering_ = true;
    begun_ = probed_ = false;
    {
      const std::lock_guard lock(cancel_mutex_);
      cancel_ = std::make_shared<CancelFlag>();
    }
    Watch();
    shared_->api.Handle(std::move(request_), shared_from_this());
  }

  void Watch() {
    watch_.expires_after(shared_->options.watch_interval);
    watch_.async_wait([self = shared_from_this()](error_code error) {
      if (!error && !self->closed_ && self->answering_) self->LookForClient();
    });
  }

  // A client that closes its connection and one that only ends its side look the same: both send FIN. The first answers
  // whatever reaches it with RST, so it is sent something that the second passes over (docs/decisions/0016). What else
  // has arrived does not matter.
  void LookForClient() {
    pollfd events{.fd = stream_.socket().native_handle(), .events = POLLRDHUP, .revents = 0};
    if (::poll(&events, 1, 0) < 0) return Watch();
    if (events.revents & (POLLERR | POLLHUP | POLLNVAL)) return Close();
    if (events.revents & POLLRDHUP && !probed_ && http_1_1_ && !begun_) {
      probed_ = true;
      Append(std::string(kContinue));
      Pump();
    }
    Watch();
  }

  void SendNow(HttpResponse response) {
    if (closed_ || !answering_) return;
    const bool no_content = response.status == 204;
    begun_ = true;
    Append(Head(response, no_content ? "" : StrFormat("Content-Length: {}\r\n", response.body.size())));
    if (!head_only_) Append(std::move(response.body));
    ended_ = true;
    Pump();
  }

  // Large pieces are sent from where they lie.
  void Append(std::string bytes) {
    constexpr size_t kLarge = 16 << 10;
    n_unsent_ += bytes.size();
    if (out_.size() > (writing_ ? 1 : 0) && out_.back().size() + bytes.size() <= kLarge) {
      out_.back() += bytes;
    } else if (!bytes.empty()) {
      out_.push_back(std::move(bytes));
    }
  }

  void Pump() {
    if (writing_ || closed_) return;
    if (out_.empty()) {
      if (ended_) FinishAnswer();
      return;
    }
    writing_ = true;
    stream_.expires_after(shared_->options.io_timeout);
    stream_.async_write_some(asio::buffer(out_.front()) + n_written_, Bind(&Session::OnWritten));
  }

  void OnWritten(error_code error, size_t n) {
    writing_ = false;
    if (error) return Close();
    stream_.expires_never();
    n_written_ += n;
    n_unsent_ -= n;
    if (n_written_ == out_.front().size()) {
      out_.pop_front();
      n_written_ = 0;
    }
    Pump();
  }

  void FinishAnswer() {
    ended_ = false;
    chunked_ = false;
    watch_.cancel();
    ChargeBody(0);
    if (keep_alive_ && !stopping_) return ReadHead();
    Linger();
  }

  // Closing with unread bytes would reset the connection and could take the answer with it.
  void Linger() {
    answering_ = false;
    error_code ignored;
    stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
    stream_.expires_after(stopping_ ? std::min(shared_->options.linger_timeout, std::chrono::milliseconds(100))
                                    : shared_->options.linger_timeout);
    buffer_.clear();
    Drain();
  }
  void Drain() { stream_.async_read_some(buffer_.prepare(4096), Bind(&Session::OnDrained)); }
  void OnDrained(error_code error, size_t) {
    if (error) return Close();
    Drain();
  }

  void Close() {
    if (closed_) return;
    closed_ = true;
    cancel()->Cancel();
    watch_.cancel();
    stream_.close();
  }

  static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

  const std::shared_ptr<Shared> shared_;
  beast::tcp_stream stream_;
  asio::steady_timer watch_;
  beast::flat_buffer buffer_;
  size_t n_head_fields_ = 0;
  size_t scanned_ = 0;  // bytes of buffer_ that ScanHead has seen
  std::optional<http::request_parser<http::string_body>> parser_;
  HttpRequest request_;
  HeaderList answer_headers_;  // of every answer to it
  std::string_view interim_;
  std::deque<std::string> out_;  // to write; the first is being written
  size_t n_written_ = 0;         // of the first
  size_t n_unsent_ = 0;          // of all
  size_t charged_ = 0;           // in Shared::body_bytes
  Clock::time_point body_deadline_;
  bool http_1_1_ = true, keep_alive_ = false, head_only_ = false;
  bool reading_head_ = false;
  bool answering_ = false;  // from a request's arrival to its answer's last byte
  bool begun_ = false;      // the answer's head is written
  bool probed_ = false;     // whether the client is there was asked for this request
  bool chunked_ = false, ended_ = false, writing_ = false;
  bool stopping_ = false;
  std::atomic<bool> closed_ = false;  // set on the strand

  std::optional<std::list<Session*>::iterator> idle_place_;  // guarded by Shared::mutex; in Shared::idle
  bool making_room_ = false;                                 // guarded by Shared::mutex; counts no more

  mutable std::mutex cancel_mutex_;
  std::shared_ptr<CancelFlag> cancel_;  // guarded by cancel_mutex_
};

class HttpServerImpl final : public HttpServer {
 public:
  HttpServerImpl(const HttpOptions& options, Api& api)
      : shared_(std::make_shared<Shared>(options, api)),
        work_(asio::make_work_guard(shared_->io)),
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
    if (full_ && !HasRoom()) return AcceptLater();
    acceptor_.async_accept(asio::make_strand(shared_->io), [this](error_code error, tcp::socket socket) {
      if (error == asio::error::operation_aborted || !acceptor_.is_open()) return;
      if (error) {  // out of descriptors, most likely
        for (int i = 0; i < 16 && Session::MakeRoom(*shared_); ++i) continue;
        return AcceptLater();
      }
      Admit(std::move(socket));
      Accept();
    });
  }

  void AcceptLater() {
    retry_.expires_after(std::chrono::milliseconds(50));
    retry_.async_wait([this](error_code cancelled) {
      if (!cancelled) Accept();
    });
  }

  int n_counted() const {
    const std::lock_guard lock(shared_->mutex);
    return shared_->n_counted;
  }
  // Connections past the limit that are still told why.
  static constexpr int kRefusable = 64;
  bool HasRoom() const { return n_counted() < shared_->options.max_connections + kRefusable; }

  void Admit(tcp::socket socket) {
    const bool at_limit = n_counted() >= shared_->options.max_connections;
    const bool refuse = at_limit && !Session::MakeRoom(*shared_);
    full_ = refuse;
    std::make_shared<Session>(shared_, std::move(socket))->Start(refuse);
  }

  const std::shared_ptr<Shared> shared_;
  // The threads run until they are stopped, though for a moment nothing may be waited for: posts must not be lost.
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  tcp::acceptor acceptor_;
  asio::steady_timer retry_;
  tcp::endpoint endpoint_;
  std::vector<std::thread> threads_;
  std::mutex stop_mutex_;
  bool stopped_ = false;  // guarded by stop_mutex_
  bool full_ = false;     // of acceptor_'s strand: the last connection was refused
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

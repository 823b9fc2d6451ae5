#include "kv/tiers/resp.h"

#include <hiredis/hiredis.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <vector>

#include "base/str.h"

namespace spanwise {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kChunkBytes = size_t{256} << 10;
constexpr std::chrono::milliseconds kGlance(50);  // between looks at the flag that stops us

std::string TlsError() {
  char text[256] = "unknown error";
  if (const unsigned long code = ERR_get_error()) ERR_error_string_n(code, text, sizeof text);
  ERR_clear_error();
  return text;
}

class Connection final : public RespConnection {
 public:
  Connection(const RespOptions& options, const std::atomic<bool>& stop)
      : options_(options), stop_(stop), chunk_(kChunkBytes), reader_(redisReaderCreate(), redisReaderFree) {}
  ~Connection() override {
    if (ssl_) SSL_free(ssl_);
    if (fd_ >= 0) close(fd_);
  }

  Status Connect(const std::string& host, const std::string& port);
  Status StartTls(SSL_CTX* context, const std::string& host);
  Status Greet();

  void Append(std::initializer_list<std::string_view> command) override {
    std::vector<const char*> words;
    std::vector<size_t> lengths;
    for (const std::string_view word : command) {
      words.push_back(word.data());
      lengths.push_back(word.size());
    }
    char* bytes = nullptr;
    const int n = redisFormatCommandArgv(&bytes, static_cast<int>(words.size()), words.data(), lengths.data());
    if (n > 0) unsent_.append(bytes, static_cast<size_t>(n));
    no_memory_ |= n <= 0;
    redisFreeCommand(bytes);
  }

  Status Send() override;
  Result<RespReply> Receive() override;

 private:
  Status Failed(std::string_view what) const { return Unavailable(StrFormat("{}: {}", options_.address, what)); }
  // Until the socket is ready for it; never past the deadline.
  Status Wait(short events, Clock::time_point deadline);
  // Of a TLS call that returned `result`: waits for what it waits for.
  Status WaitForTls(int result, Clock::time_point deadline);
  Clock::time_point Deadline() const { return Clock::now() + options_.patience; }

  const RespOptions& options_;
  const std::atomic<bool>& stop_;
  int fd_ = -1;
  SSL* ssl_ = nullptr;
  std::string unsent_;
  bool no_memory_ = false;
  std::vector<char> chunk_;
  std::unique_ptr<redisReader, decltype(&redisReaderFree)> reader_;
};

Status Connection::Wait(short events, Clock::time_point deadline) {
  while (true) {
    if (stop_) return Cancelled(options_.address + ": shutting down");
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0)
      return DeadlineExceeded(StrFormat("{}: no answer within {:.3g} s", options_.address,
                                        std::chrono::duration<double>(options_.patience).count()));
    pollfd at{.fd = fd_, .events = events, .revents = 0};
    const int n = poll(&at, 1, static_cast<int>(std::min<std::chrono::milliseconds>(left, kGlance).count()));
    if (n > 0) return Status::Ok();
    if (n < 0 && errno != EINTR) return Failed(std::strerror(errno));
  }
}

Status Connection::WaitForTls(int result, Clock::time_point deadline) {
  const int error = SSL_get_error(ssl_, result);
  if (error == SSL_ERROR_WANT_READ) return Wait(POLLIN, deadline);
  if (error == SSL_ERROR_WANT_WRITE) return Wait(POLLOUT, deadline);
  if (error == SSL_ERROR_ZERO_RETURN || (error == SSL_ERROR_SYSCALL && ERR_peek_error() == 0))
    return Failed("the connection was closed");
  if (const long verified = SSL_get_verify_result(ssl_); verified != X509_V_OK)
    return Failed(StrFormat("TLS: the certificate is not accepted: {}", X509_verify_cert_error_string(verified)));
  return Failed("TLS: " + TlsError());
}

Status Connection::Connect(const std::string& host, const std::string& port) {
  const addrinfo hints{.ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV,
                       .ai_family = AF_UNSPEC,
                       .ai_socktype = SOCK_STREAM,
                       .ai_protocol = 0,
                       .ai_addrlen = 0,
                       .ai_addr = nullptr,
                       .ai_canonname = nullptr,
                       .ai_next = nullptr};
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(host.c_str(), port.c_str(), &hints, &found)) return Failed(gai_strerror(error));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owned(found, freeaddrinfo);
  Status status = Failed("has no address");
  for (const addrinfo* a = found; a; a = a->ai_next) {
    if (fd_ >= 0) close(fd_);
    fd_ = socket(a->ai_family, a->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, a->ai_protocol);
    if (fd_ < 0) return Failed(std::strerror(errno));
    int error = connect(fd_, a->ai_addr, a->ai_addrlen) == 0 ? 0 : errno;
    status = Status::Ok();
    if (error == EINPROGRESS) {
      status = Wait(POLLOUT, Deadline());
      socklen_t size = sizeof error;
      if (status.ok() && getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
    }
    if (status.ok() && error != 0) status = Failed(std::strerror(error));
    if (status.code() == StatusCode::kCancelled) return status;
    if (!status.ok()) continue;
    const int on = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return Status::Ok();
  }
  return status;
}

Status Connection::StartTls(SSL_CTX* context, const std::string& host) {
  ssl_ = SSL_new(context);
  if (!ssl_ || SSL_set_fd(ssl_, fd_) != 1) return Failed("TLS: " + TlsError());
  // A certificate names hosts or addresses.
  if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl_), host.c_str()) != 1) {
    ERR_clear_error();
    if (SSL_set1_host(ssl_, host.c_str()) != 1 || SSL_set_tlsext_host_name(ssl_, host.c_str()) != 1)
      return Failed("TLS: " + TlsError());
  }
  const auto deadline = Deadline();
  while (true) {
    ERR_clear_error();
    const int result = SSL_connect(ssl_);
    if (result == 1) return Status::Ok();
    SW_RETURN_IF_ERROR(WaitForTls(result, deadline));
  }
}

Status Connection::Greet() {
  if (!options_.password.empty()) {
    if (options_.user.empty()) {
      Append({"AUTH", options_.password});
    } else {
      Append({"AUTH", options_.user, options_.password});
    }
  }
  Append({"PING"});
  SW_RETURN_IF_ERROR(Send());
  for (int n = options_.password.empty() ? 1 : 2; n > 0; --n) {
    SW_ASSIGN_OR_RETURN(const RespReply reply, Receive());
    if (reply.kind == RespReply::Kind::kError) return Failed(Quoted(reply.text()));
    if (reply.kind != RespReply::Kind::kText) return Corruption(options_.address + ": is no Valkey or Redis server");
  }
  return Status::Ok();
}

Status Connection::Send() {
  if (no_memory_) return ResourceExhausted(options_.address + ": no memory for a command");
  size_t sent = 0;
  auto deadline = Deadline();
  while (sent < unsent_.size()) {
    const char* bytes = unsent_.data() + sent;
    const size_t n = std::min(unsent_.size() - sent, kChunkBytes);
    if (ssl_) {
      ERR_clear_error();
      const int result = SSL_write(ssl_, bytes, static_cast<int>(n));
      if (result <= 0) {
        SW_RETURN_IF_ERROR(WaitForTls(result, deadline));
        continue;
      }
      sent += static_cast<size_t>(result);
    } else {
      const ssize_t result = send(fd_, bytes, n, MSG_NOSIGNAL);
      if (result < 0) {
        if (errno != EAGAIN && errno != EINTR) return Failed(std::strerror(errno));
        SW_RETURN_IF_ERROR(Wait(POLLOUT, deadline));
        continue;
      }
      sent += static_cast<size_t>(result);
    }
    deadline = Deadline();
  }
  unsent_.clear();
  return Status::Ok();
}

Result<RespReply> Connection::Receive() {
  auto deadline = Deadline();
  while (true) {
    // Between replies: only those are read that any of our commands may have, none of which holds others.
    const bool between = reader_->ridx == -1;
    const size_t n_unread = reader_->len - reader_->pos;
    if (between && n_unread > 0 && !std::strchr("+-:$", reader_->buf[reader_->pos]))
      return Corruption(options_.address + ": the reply is none of a Valkey or Redis server");
    void* made = nullptr;
    if (redisReaderGetReply(reader_.get(), &made) != REDIS_OK)
      return Corruption(StrFormat("{}: {}", options_.address, Quoted(reader_->errstr)));
    if (made) {
      const std::shared_ptr<redisReply> reply(static_cast<redisReply*>(made), freeReplyObject);
      using Kind = RespReply::Kind;
      const Kind kind = reply->type == REDIS_REPLY_STATUS    ? Kind::kText
                        : reply->type == REDIS_REPLY_STRING  ? Kind::kBytes
                        : reply->type == REDIS_REPLY_INTEGER ? Kind::kInteger
                        : reply->type == REDIS_REPLY_ERROR   ? Kind::kError
                                                             : Kind::kNil;
      const bool has_bytes = kind != Kind::kInteger && kind != Kind::kNil;
      return RespReply{.kind = kind,
                       .bytes = has_bytes ? std::as_bytes(std::span(reply->str, static_cast<size_t>(reply->len)))
                                          : std::span<const std::byte>(),
                       .integer = kind == Kind::kInteger ? reply->integer : 0,
                       .hold = reply};
    }
    // What is unread now is a part of one reply.
    if (reader_->len - reader_->pos > options_.most_reply_bytes + 64)
      return Corruption(StrFormat("{}: a reply of more than {} bytes", options_.address, options_.most_reply_bytes));
    ssize_t n = 0;
    if (ssl_) {
      ERR_clear_error();
      n = SSL_read(ssl_, chunk_.data(), static_cast<int>(chunk_.size()));
      if (n <= 0) {
        SW_RETURN_IF_ERROR(WaitForTls(static_cast<int>(n), deadline));
        continue;
      }
    } else {
      n = recv(fd_, chunk_.data(), chunk_.size(), 0);
      if (n == 0) return Failed("the connection was closed");
      if (n < 0) {
        if (errno != EAGAIN && errno != EINTR) return Failed(std::strerror(errno));
        SW_RETURN_IF_ERROR(Wait(POLLIN, deadline));
        continue;
      }
    }
    deadline = Deadline();
    if (stop_) return Cancelled(options_.address + ": shutting down");
    if (redisReaderFeed(reader_.get(), chunk_.data(), static_cast<size_t>(n)) != REDIS_OK)
      return ResourceExhausted(options_.address + ": no memory for a reply");
  }
}

}  // namespace

Result<std::shared_ptr<const RespServer>> RespServer::Create(const RespOptions& options) {
  std::shared_ptr<RespServer> server(new RespServer(options));
  const std::string_view address = options.address;
  const size_t colon = address.rfind(':');
  int port = 0;
  const std::string_view digits = colon == address.npos ? "" : address.substr(colon + 1);
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  std::string_view host = address.substr(0, colon == address.npos ? 0 : colon);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  if (host.empty() || (!bracketed && host.find(':') != host.npos) || parsed.ec != std::errc() ||
      parsed.ptr != digits.data() + digits.size() || port < 1 || port > 65535)
    return InvalidArgument(StrFormat("{} is not HOST:PORT", Quoted(options.address)));
  server->host_ = host;
  server->port_ = std::to_string(port);
  if (!options.tls) return std::shared_ptr<const RespServer>(server);

  const std::shared_ptr<SSL_CTX> context(SSL_CTX_new(TLS_client_method()), SSL_CTX_free);
  if (!context) return Internal("TLS: " + TlsError());
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_mode(context.get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  ERR_clear_error();
  if (options.ca_file.empty() ? SSL_CTX_set_default_verify_paths(context.get()) != 1
                              : SSL_CTX_load_verify_file(context.get(), options.ca_file.c_str()) != 1) {
    ERR_clear_error();
    return NotFound(StrFormat("{}: no certificates can be read from it", Quoted(options.ca_file)));
  }
  server->tls_ = context;
  return std::shared_ptr<const RespServer>(server);
}

Result<std::unique_ptr<RespConnection>> RespServer::Connect(const std::atomic<bool>& stop) const {
  auto connection = std::make_unique<Connection>(options_, stop);
  SW_RETURN_IF_ERROR(connection->Connect(host_, port_));
  if (tls_) SW_RETURN_IF_ERROR(connection->StartTls(static_cast<SSL_CTX*>(tls_.get()), host_));
  SW_RETURN_IF_ERROR(connection->Greet());
  return std::unique_ptr<RespConnection>(std::move(connection));
}

}  // namespace spanwise

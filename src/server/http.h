// HTTP/1.1 over TCP: connections, limits, time, keep-alive, chunked streams, clients that leave. Boost.Beast reads
// requests that request_head.h finds to be clear.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "server/api.h"
#include "spanwise/status.h"

namespace spanwise::server {

struct HttpOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 0;          // 0: any free one
  bool loopback_only = true;  // refuse to listen on an address that others reach
  int threads = 2;
  // One more closes the connection that has waited longest for a request; where none waits, it is told to come back.
  int max_connections = 4096;
  size_t max_header_bytes = 16 << 10;
  size_t max_body_bytes = size_t{8} << 20;
  // The bodies of all requests that have no answer yet; one more is told to come back.
  size_t max_total_body_bytes = size_t{256} << 20;
  size_t max_unsent_bytes = size_t{8} << 20;       // of a stream whose client does not read; then the client is dropped
  std::chrono::milliseconds idle_timeout{75'000};  // for the next request's header, waiting included
  std::chrono::milliseconds io_timeout{30'000};    // without progress, within a body or an answer
  std::chrono::milliseconds body_timeout{300'000};  // for a whole body
  std::chrono::milliseconds linger_timeout{2'000};  // reading on after a refusal, so that the client sees it
  std::chrono::milliseconds watch_interval{100};    // between looks whether a client that waits is still there
};

// Thread-safe. Owns its threads; `api` must outlive it.
class HttpServer {
 public:
  // Binds and listens; nothing is accepted before Start. InvalidArgument: host is no address or name of this machine,
  // or is not loopback where that is asked. Unavailable: the port is taken.
  static Result<std::unique_ptr<HttpServer>> Listen(const HttpOptions& options, Api& api);
  // Ends at once, as Stop(0).
  virtual ~HttpServer() = default;

  virtual uint16_t port() const = 0;
  virtual std::string url() const = 0;
  virtual void Start() = 0;

  // Accepts no more, closes idle connections, lets requests in flight finish for `grace`, cancels the rest, and returns
  // when all connections are closed. Called from a thread of the caller's; again: the same.
  virtual void Stop(std::chrono::milliseconds grace) = 0;

  virtual int n_connections() const = 0;
};

}  // namespace spanwise::server

#include "server/serve.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <csignal>

#include "base/str.h"
#include "server/http.h"
#include "server/page.h"

namespace spanwise::server {

Status Serve(const ServeOptions& options, Backend& backend,
             const std::function<void(const std::string& url)>& listening) {
  ApiOptions api_options;
  if (!options.api_key_file.empty()) {
    SW_ASSIGN_OR_RETURN(api_options.keys, ApiKeys::FromFile(options.api_key_file));
  }
  const bool open = api_options.keys.empty();
  api_options.cors_origin = options.cors_origin;
  api_options.check_host = open;
  api_options.allowed_hosts = options.allowed_hosts;
  api_options.limits.default_max_tokens = options.default_max_tokens;
  api_options.page = Page();
  Api api(std::move(api_options), backend);

  HttpOptions http;
  http.host = options.host;
  http.port = options.port;
  http.loopback_only = open;
  http.max_body_bytes = options.max_body_bytes;
  http.max_connections = options.max_connections;
  if (!options.cors_origin.empty())
    http.headers = {{"Access-Control-Allow-Origin", options.cors_origin}, {"Vary", "Origin"}};
  SW_ASSIGN_OR_RETURN(const auto server, HttpServer::Listen(http, api));

  server->Start();
  {
    // Handlers rather than a blocked mask: the engine's threads exist already and would take the signal.
    boost::asio::io_context waiting;
    boost::asio::signal_set signals(waiting, SIGINT, SIGTERM);
    signals.async_wait([](boost::system::error_code, int) {});
    if (listening) listening(server->url());
    waiting.run();
  }  // a second signal ends the program in the ordinary way
  server->Stop(std::chrono::seconds(options.grace_s));
  return Status::Ok();
}

}  // namespace spanwise::server

#include "server/serve.h"

#include <malloc.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <csignal>

#include "base/host.h"
#include "base/str.h"
#include "server/http.h"
#include "server/page.h"

namespace spanwise::server {

namespace {

// As many connections as the limit on open files leaves beside the program's own files and folders.
Result<int> MostConnections(int asked) {
  constexpr uint64_t kOwnFiles = 128, kDefault = 16'384, kFewest = 16;
  const uint64_t wanted = asked ? static_cast<uint64_t>(asked) : kDefault;
  const uint64_t files = AllowOpenFiles(wanted + kOwnFiles);
  const uint64_t most = std::max(files, kOwnFiles + kFewest) - kOwnFiles;
  if (asked && wanted > most)
    return InvalidArgument(
        StrFormat("--max-connections is {}, but the limit on open files (ulimit -n) of {} leaves {} for connections",
                  asked, files, most));
  return static_cast<int>(std::min(wanted, most));
}

}  // namespace

Status Serve(const ServeOptions& options, Backend& backend,
             const std::function<void(const std::string& url)>& listening) {
  ApiOptions api_options;
  if (!options.api_key_file.empty()) {
    SW_ASSIGN_OR_RETURN(api_options.keys, ApiKeys::FromFile(options.api_key_file));
  }
  const bool open = api_options.keys.empty();
  SW_ASSIGN_OR_RETURN(api_options.cors, CorsPolicy::Parse(options.cors_origins));
  api_options.check_host = open;
  api_options.allowed_hosts = options.allowed_hosts;
  api_options.limits.default_max_tokens = options.default_max_tokens;
  api_options.limits.max_documents = options.max_documents;
  api_options.workers.large_threads = std::clamp(static_cast<int>(UsableCpus().amount / 4), 1, 4);
  api_options.workers.after_large = [] { malloc_trim(0); };
  api_options.limits.sampling = options.sampling;
  api_options.page = Page();
  api_options.log = options.log;
  Api api(std::move(api_options), backend);

  HttpOptions http;
  http.host = options.host;
  http.port = options.port;
  http.loopback_only = open;
  http.max_body_bytes = options.max_body_bytes;
  http.max_total_body_bytes = std::max(http.max_total_body_bytes, 4 * options.max_body_bytes);
  SW_ASSIGN_OR_RETURN(http.max_connections, MostConnections(options.max_connections));
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

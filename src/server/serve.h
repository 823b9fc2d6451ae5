// The HTTP server as a program runs it: options in, a served port, an orderly end.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "server/backend.h"
#include "server/openai.h"
#include "server/request_log.h"
#include "spanwise/status.h"

namespace spanwise::server {

struct ServeOptions {
  std::string host = "127.0.0.1";          // an address or a name; other than loopback only with an API key
  uint16_t port = 8080;                    // 0: any free one
  std::string api_key_file;                // empty: no key is needed
  std::vector<std::string> cors_origins;   // "https://example.org" or "*" each: pages from there may call
  std::vector<std::string> allowed_hosts;  // host names, besides loopback's, under which a server without keys answers
  size_t max_body_bytes = size_t{8} << 20;
  size_t max_documents = ParseLimits().max_documents;
  int max_connections = 0;         // 0: what the limit on open files leaves, at most 16,384
  int default_max_tokens = 1024;   // of chat requests that give none
  SamplingDefaults sampling = {};  // of requests that say nothing
  LogFunction log;                 // one line a request; empty: none
  int grace_s = 10;                // how long requests in flight may go on once the server is told to end
};

// Serves until SIGINT or SIGTERM, then lets what is in flight finish, cancels what takes longer than grace_s, and
// returns. `listening` is called once with the address ("http://127.0.0.1:8080") when connections are accepted.
// InvalidArgument: a host beyond loopback without keys, a file without keys, a malformed origin, more connections than
// open files are allowed; Unavailable: the port is taken. Raises the program's limit on open files to what it may be.
// Installs signal handlers; call from one thread.
Status Serve(const ServeOptions& options, Backend& backend,
             const std::function<void(const std::string& url)>& listening);

}  // namespace spanwise::server

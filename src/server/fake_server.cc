// The server over the fake backend, for the end-to-end tests: spanwise_fake_server [--api-key-file FILE]
// [--per-token-ms N]. Requests are logged on standard error.
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "server/fake_backend.h"
#include "server/serve.h"

int main(int argc, char** argv) {
  spanwise::server::ServeOptions options;
  spanwise::server::FakeOptions fake;
  options.port = 0;
  spanwise::server::LineWriter log(STDERR_FILENO);
  options.log = [&log](spanwise::server::LogLevel, std::string_view line) { log.Write(line); };
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], "--api-key-file") == 0) options.api_key_file = argv[i + 1];
    if (std::strcmp(argv[i], "--per-token-ms") == 0) fake.per_token = std::chrono::milliseconds(std::atoi(argv[i + 1]));
  }
  const auto backend = spanwise::server::NewFakeBackend(fake);
  const spanwise::Status status = spanwise::server::Serve(options, *backend, [](const std::string& url) {
    std::printf("listening on %s\n", url.c_str());
    std::fflush(stdout);
  });
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}

#include "server/serve.h"

#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>

#include "cli/common.h"
#include "cli/sources.h"
#include "server/engine_backend.h"

namespace spanwise::cli {
namespace {

struct Options {
  CommonOptions common;
  server::ServeOptions serve;
  std::string corpus;
  int top_k = 8;
  bool public_corpus = false;
  int max_running = EngineOptions().max_running, max_queued = EngineOptions().max_queued;
  int max_connections = 0;
};

Status Serve(const Options& o) {
  // One heap for all threads: what loading the model leaves of it is there for the first request, which would otherwise
  // wait until fresh pages are made for heaps of the threads it runs on. Few threads allocate, and none in inner loops.
  mallopt(M_ARENA_MAX, 1);
  SW_ASSIGN_OR_RETURN(const ComposeOptions compose, ToComposeOptions(o.common));
  SW_RETURN_IF_ERROR(SetLogLevel(o.common));
  SW_ASSIGN_OR_RETURN(EngineOptions engine_options, ToEngineOptions(WithBaked(o.common, o.corpus)));
  engine_options.max_running = o.max_running;
  engine_options.max_queued = o.max_queued;
  SW_ASSIGN_OR_RETURN(const auto engine, Engine::Open(engine_options));
  std::unique_ptr<retrieval::Corpus> corpus;
  if (!o.corpus.empty()) {
    SW_ASSIGN_OR_RETURN(corpus, retrieval::Corpus::Open(o.corpus));
  }
  const auto backend = server::NewEngineBackend(
      *engine, corpus.get(), {.model_id = {}, .compose = compose, .top_k = o.top_k, .public_corpus = o.public_corpus});
  server::ServeOptions serve = o.serve;
  // Who finds the queue full is to be told so, not to find no connection.
  serve.max_connections =
      o.max_connections ? o.max_connections : std::max(serve.max_connections, o.max_running + o.max_queued + 64);
  return server::Serve(serve, *backend, [&](const std::string& url) {
    fmt::print("{} serves {} at {}\n", engine->model().name, corpus ? o.corpus : std::string("without a corpus"), url);
    std::fflush(stdout);
  });
}

}  // namespace

Verb ServeVerb(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("serve", "Serve the OpenAI-compatible API and a page to ask from");
  verb->add_option("--host", o->serve.host, "Address to listen on; other than loopback only with a key")
      ->capture_default_str();
  verb->add_option("--port", o->serve.port, "Port (0: any free one)")->capture_default_str();
  verb->add_option("--corpus", o->corpus, "Folder of an indexed corpus");
  verb->add_option("--top-k", o->top_k, "Passages taken from the corpus")
      ->check(CLI::Range(1, 200))
      ->capture_default_str();
  verb->add_flag("--public-corpus", o->public_corpus, "Share KV of its passages among all values of cache_salt");
  verb->add_option("--api-key-file", o->serve.api_key_file, "File with one API key a line");
  verb->add_option("--cors-origin", o->serve.cors_origin, "Origin whose pages may call the API");
  verb->add_option("--allowed-host", o->serve.allowed_hosts, "Further host name to answer under (repeatable)");
  verb->add_option("--max-running", o->max_running, "Requests answered at a time")
      ->check(CLI::Range(1, EngineOptions::kMostRunning))
      ->capture_default_str();
  verb->add_option("--max-queued", o->max_queued, "Requests that may wait; one more gets status 429")
      ->check(CLI::Range(1, EngineOptions::kMostQueued))
      ->capture_default_str();
  verb->add_option("--max-connections", o->max_connections, "Connections at a time (0: enough for all requests)")
      ->check(CLI::Range(0, 1'000'000))
      ->capture_default_str();
  AddComposeOptions(verb, &o->common);
  AddModelOptions(verb, &o->common);
  AddOutputOptions(verb, &o->common);
  return {verb, [o] {
            const Status status = Serve(*o);
            return status.ok() ? kDone : Fail(status);
          }};
}

}  // namespace spanwise::cli

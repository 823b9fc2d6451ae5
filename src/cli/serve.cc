#include "server/serve.h"

#include <fmt/chrono.h>
#include <malloc.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <chrono>
#include <csignal>

#include "base/str.h"
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
  size_t max_body_mib = server::ServeOptions().max_body_bytes >> 20;
};

// What the server takes of the machine, and whose limit decided it.
std::string Describe(const EngineResources& r, const CommonOptions& asked) {
  constexpr uint64_t kMiB = uint64_t{1} << 20;
  return StrFormat("{} MiB for kept keys and values{}, of {} MiB of memory ({}); {} thread{}{}",
                   r.kv_memory_bytes / kMiB, asked.cache_memory_mb ? " as asked for" : "", r.usable_memory_bytes / kMiB,
                   r.memory_source, r.threads, r.threads == 1 ? "" : "s",
                   asked.threads ? " as asked for" : StrFormat(" ({})", r.threads_source));
}

// Requests, on standard error.
server::LogFunction RequestLog(const CommonOptions& o) {
  const auto writer = std::make_shared<server::LineWriter>(STDERR_FILENO);
  return [writer, quiet = o.quiet](server::LogLevel level, std::string_view line) {
    const std::string_view name = server::LogLevelName(level);
    if (!spdlog::should_log(spdlog::level::from_str(std::string(name)))) return;
    if (quiet && level != server::LogLevel::kWarning) return;
    const int64_t ms =
        std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
            .count();
    writer->Write(StrFormat("{:%FT%T}.{:03}Z {} {}", fmt::gmtime(ms / 1000), ms % 1000, name, line));
  };
}

Status Serve(const Options& o) {
  std::signal(SIGPIPE, SIG_IGN);  // whoever read the log may be gone
  // One heap for all threads: what loading the model leaves of it is there for the first request, which would otherwise
  // wait until fresh pages are made for heaps of the threads it runs on. Few threads allocate, and none in inner loops.
  mallopt(M_ARENA_MAX, 1);
  // What a large request takes goes back to the system when it is done, also where small things were allocated behind
  // it. Left alone, the heap would learn from the first such block to keep those of up to 32 MiB.
  mallopt(M_MMAP_THRESHOLD, 4 << 20);
  mallopt(M_TRIM_THRESHOLD, 64 << 20);
  SW_ASSIGN_OR_RETURN(const ComposeOptions compose, ToComposeOptions(o.common));
  SW_RETURN_IF_ERROR(SetLogLevel(o.common));
  SW_ASSIGN_OR_RETURN(EngineOptions engine_options, ToEngineOptions(WithBaked(o.common, o.corpus)));
  engine_options.max_running = o.max_running;
  engine_options.max_queued = o.max_queued;
  SW_ASSIGN_OR_RETURN(const auto engine, Engine::Open(engine_options));
  std::unique_ptr<retrieval::Corpus> corpus;
  if (!o.corpus.empty()) {
    SW_ASSIGN_OR_RETURN(corpus, OpenCorpus(o.corpus, false, o.common.quiet));
  }
  const auto backend = server::NewEngineBackend(
      *engine, corpus.get(), {.model_id = {}, .compose = compose, .top_k = o.top_k, .public_corpus = o.public_corpus});
  server::ServeOptions serve = o.serve;
  if (!o.common.quiet) Note("spanwise: {}\n", Describe(engine->resources(), o.common));
  serve.max_body_bytes = o.max_body_mib << 20;
  serve.sampling = engine->model().sampling;
  serve.log = RequestLog(o.common);
  return server::Serve(serve, *backend, [&](const std::string& url) {
    const Status printed = TryPrint(StrFormat("{} serves {} at {}\n", engine->model().name,
                                              corpus ? o.corpus : std::string("without a corpus"), url));
    if (!printed.ok()) Note("spanwise: {}; it serves at {}\n", printed.message(), url);
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
  verb->add_option("--cors-origin", o->serve.cors_origins,
                   "Origin whose pages may call the API, such as https://app.example.org, or * (a list with commas; "
                   "repeatable)");
  verb->add_option("--allowed-host", o->serve.allowed_hosts, "Further host name to answer under (repeatable)");
  verb->add_option("--max-running", o->max_running, "Requests answered at a time")
      ->check(CLI::Range(1, EngineOptions::kMostRunning))
      ->capture_default_str();
  verb->add_option("--max-queued", o->max_queued, "Requests that may wait; one more gets status 429")
      ->check(CLI::Range(1, EngineOptions::kMostQueued))
      ->capture_default_str();
  verb->add_option(
          "--max-connections", o->serve.max_connections,
          "Connections at a time; one more closes an idle one (0: what the limit on open files leaves, at most "
          "16384)")
      ->check(CLI::Range(0, 1'000'000))
      ->capture_default_str();
  verb->add_option("--max-body", o->max_body_mib, "Size of a request's body, in MiB; more gets status 413")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  verb->add_option("--max-documents", o->serve.max_documents, "Documents of a request")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  AddComposeOptions(verb, &o->common);
  AddModelOptions(verb, &o->common);
  o->common.log_level = "info";  // requests
  AddOutputOptions(verb, &o->common);
  return {verb, [o] {
            const Status status = Serve(*o);
            return status.ok() ? kDone : Fail(status);
          }};
}

}  // namespace spanwise::cli

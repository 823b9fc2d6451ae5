#include <fmt/format.h>

#include "cli/common.h"
#include "cli/sources.h"

namespace spanwise::cli {
namespace {

struct Options {
  CommonOptions common;
  std::vector<std::string> paths;
  std::string corpus;
  bool keep_going = false, rechunk = false;
};

int Index(const Options& o) {
  auto engine = OpenEngine(o.common);
  if (!engine.ok()) return Fail(engine.status());
  auto corpus = retrieval::Corpus::Open(o.corpus, {.create = true, .max_bytes = 0});
  if (!corpus.ok()) return Fail(corpus.status());
  retrieval::IndexOptions options;
  options.chunk = ChunkOptionsFor(**engine);
  options.keep_going = o.keep_going;
  options.rechunk = o.rechunk;
  Progress progress("indexing", o.common.quiet);
  auto report = (*corpus)->Index(o.paths, options, [&](const retrieval::IndexProgress& p) {
    progress.Update(static_cast<double>(p.bytes_done), static_cast<double>(p.bytes_total));
    return true;
  });
  if (!report.ok()) return Fail(report.status());
  if (o.common.json) {
    json::array skipped;
    for (const auto& s : report->skipped) skipped.push_back(json::object{{"path", s.path}, {"reason", s.reason}});
    PrintJson(json::object{{"added", report->added},
                           {"updated", report->updated},
                           {"unchanged", report->unchanged},
                           {"removed", report->removed},
                           {"chunks", report->chunks},
                           {"bytes", report->bytes},
                           {"files_read", report->files_read},
                           {"skipped", std::move(skipped)}});
    return kDone;
  }
  for (const auto& s : report->skipped) fmt::print(stderr, "skipped {}: {}\n", s.path, s.reason);
  fmt::print("{}: {} added, {} updated, {} unchanged, {} removed; {} chunks\n", o.corpus, report->added,
             report->updated, report->unchanged, report->removed, report->chunks);
  return kDone;
}

}  // namespace

Verb IndexVerb(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("index", "Read, chunk and index documents; unchanged ones cost nothing");
  verb->add_option("paths", o->paths, "Documents and folders")->required();
  verb->add_option("--corpus", o->corpus, "Folder of the corpus, made where there is none")->required();
  verb->add_flag("--keep-going", o->keep_going, "Report files that cannot be read and go on");
  verb->add_flag("--rechunk", o->rechunk, "Read and cut everything anew");
  AddModelOptions(verb, &o->common);
  AddOutputOptions(verb, &o->common);
  return {verb, [o] { return Index(*o); }};
}

}  // namespace spanwise::cli


#include "cli/common.h"
#include "cli/sources.h"
#include "rag/bake.h"

namespace spanwise::cli {
namespace {

struct Options {
  CommonOptions common;
  std::vector<std::string> paths;
  std::string corpus;
  bool keep_going = false, rechunk = false;
  bool bake = false;
  std::string bake_dir, system;
};

// Reads what is indexed, so that questions find it read.
Result<rag::BakeReport> Bake(const Options& o, const retrieval::Corpus& corpus) {
  SW_ASSIGN_OR_RETURN(const EngineOptions options, ToEngineOptions(o.common));
  Progress progress("reading", o.common.quiet);
  return rag::Bake(options, o.bake_dir.empty() ? rag::BakedFolder(o.corpus) : o.bake_dir, corpus, o.system,
                   [&](uint64_t done, uint64_t total) {
                     progress.Update(static_cast<double>(done), static_cast<double>(total));
                     return true;
                   });
}

int Index(const Options& o) {
  auto engine = OpenEngine(o.common);
  if (!engine.ok()) return Fail(engine.status());
  auto corpus = OpenCorpus(o.corpus, true, o.common.quiet);
  if (!corpus.ok()) return Fail(corpus.status());
  retrieval::IndexOptions options;
  options.chunk = ChunkOptionsFor(**engine);
  options.keep_going = o.keep_going;
  options.rechunk = o.rechunk;
  auto report = [&] {
    Progress progress("indexing", o.common.quiet);
    return (*corpus)->Index(o.paths, options, [&](const retrieval::IndexProgress& p) {
      progress.Update(static_cast<double>(p.bytes_done), static_cast<double>(p.bytes_total));
      return true;
    });
  }();
  if (!report.ok()) return Fail(report.status());
  engine->reset();
  std::optional<rag::BakeReport> baked;
  if (o.bake || !o.bake_dir.empty()) {
    auto made = Bake(o, **corpus);
    if (!made.ok()) return Fail(made.status());
    baked = *made;
  }
  if (o.common.json) {
    json::array skipped;
    for (const auto& s : report->skipped) skipped.push_back(json::object{{"path", s.path}, {"reason", s.reason}});
    json::object out{{"added", report->added},           {"updated", report->updated},
                     {"unchanged", report->unchanged},   {"removed", report->removed},
                     {"chunks", report->chunks},         {"bytes", report->bytes},
                     {"files_read", report->files_read}, {"skipped", std::move(skipped)}};
    if (baked)
      out["baked"] = json::object{{"chunks", baked->chunks},
                                  {"tokens", baked->tokens},
                                  {"found_tokens", baked->found_tokens},
                                  {"removed_spans", baked->removed_spans},
                                  {"spans", baked->spans},
                                  {"bytes", baked->bytes}};
    PrintJson(out);
    return kDone;
  }
  for (const auto& s : report->skipped) Note("skipped {}: {}\n", s.path, s.reason);
  Print("{}: {} added, {} updated, {} unchanged, {} removed; {} chunks\n", o.corpus, report->added, report->updated,
        report->unchanged, report->removed, report->chunks);
  if (baked)
    Print("baked: {} of {} tokens read anew, {} spans removed; {} spans, {} MiB\n", baked->tokens - baked->found_tokens,
          baked->tokens, baked->removed_spans, baked->spans, baked->bytes >> 20);
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
  verb->add_flag("--bake", o->bake, "Keep the keys and values of all chunks beside the corpus");
  verb->add_option("--bake-dir", o->bake_dir, "... or in this folder");
  verb->add_option("--system", o->system, "Of --bake: the instructions that stand before the documents");
  AddModelOptions(verb, &o->common);
  AddOutputOptions(verb, &o->common);
  return {verb, [o] { return Index(*o); }};
}

}  // namespace spanwise::cli

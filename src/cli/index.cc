#include <algorithm>

#include "base/str.h"
#include "cli/common.h"
#include "cli/sources.h"
#include "rag/bake.h"

namespace spanwise::cli {
namespace {

struct Options {
  CommonOptions common;
  std::vector<std::string> paths, remove;
  std::string corpus;
  bool keep_going = false, rechunk = false, prune = false;
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

// A path as a word of a command.
std::string Word(const std::string& path) {
  constexpr std::string_view kPlain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._-+@:,%=";
  if (!path.empty() && path.find_first_not_of(kPlain) == std::string::npos) return path;
  std::string word = "'";
  for (const char c : path) word += c == '\'' ? "'\\''" : std::string(1, c);
  return Printable(word + "'");
}

void PrintGone(const std::vector<retrieval::IndexedSource>& gone, const std::string& corpus) {
  constexpr size_t kMost = 5;
  for (size_t i = 0; i < std::min(gone.size(), kMost); ++i)
    Note("{} come{} from {}, which is gone; spanwise index --remove {} --corpus {} removes {}\n",
         gone[i].documents == 1 ? "1 document" : StrFormat("{} documents", gone[i].documents),
         gone[i].documents == 1 ? "s" : "", Printable(gone[i].path), Word(gone[i].path), Word(corpus),
         gone[i].documents == 1 ? "it" : "them");
  if (gone.size() > kMost)
    Note("{} more files and folders are gone; spanwise index --prune --corpus {} removes all their documents\n",
         gone.size() - kMost, Word(corpus));
}

// A name in JSON, which is UTF-8: other bytes are escaped.
std::string JsonName(const std::string& name) { return IsValidUtf8(name) ? name : Printable(name); }

int Index(const Options& o) {
  // What is only removed needs no model.
  std::unique_ptr<Engine> engine;
  if (!o.paths.empty()) {
    auto opened = OpenEngine(o.common);
    if (!opened.ok()) return Fail(opened.status());
    engine = std::move(*opened);
  }
  auto corpus = OpenCorpus(o.corpus, /*create=*/!o.paths.empty(), o.common.quiet);
  if (!corpus.ok()) return Fail(corpus.status());
  retrieval::IndexOptions options;
  if (engine) options.chunk = ChunkOptionsFor(*engine);
  options.keep_going = o.keep_going;
  options.rechunk = o.rechunk;
  options.remove = o.remove;
  options.prune = o.prune;
  auto report = [&] {
    Progress progress("indexing", o.common.quiet);
    return (*corpus)->Index(o.paths, options, [&](const retrieval::IndexProgress& p) {
      progress.Update(static_cast<double>(p.bytes_done), static_cast<double>(p.bytes_total));
      return true;
    });
  }();
  if (!report.ok()) return Fail(report.status());
  engine.reset();
  std::optional<rag::BakeReport> baked;
  if (o.bake || !o.bake_dir.empty()) {
    auto made = Bake(o, **corpus);
    if (!made.ok()) return Fail(made.status());
    baked = *made;
  }
  if (o.common.json) {
    json::array skipped, gone;
    for (const auto& s : report->skipped)
      skipped.push_back(json::object{{"path", JsonName(s.path)}, {"reason", JsonName(s.reason)}});
    for (const auto& s : report->gone)
      gone.push_back(json::object{{"path", JsonName(s.path)}, {"documents", s.documents}});
    json::object out{
        {"added", report->added},           {"updated", report->updated},    {"unchanged", report->unchanged},
        {"removed", report->removed},       {"chunks", report->chunks},      {"bytes", report->bytes},
        {"files_read", report->files_read}, {"skipped", std::move(skipped)}, {"gone", std::move(gone)}};
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
  PrintSkipped(report->skipped, report->skipped.size());
  PrintGone(report->gone, o.corpus);
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
  verb->add_option("paths", o->paths, "Documents and folders; what may not be opened in a folder is skipped");
  verb->add_option("--corpus", o->corpus, "Folder of the corpus, made where there is none")->required();
  verb->add_flag(
      "--keep-going", o->keep_going,
      "Go on past files that are no text or have a bad line, and past ids that are taken; what the corpus has "
      "of such a file stays");
  verb->add_option("--remove", o->remove, "Forget what came from this file or folder, there or not (repeatable)");
  verb->add_flag("--prune", o->prune, "Forget what came from files that are gone");
  verb->add_flag("--rechunk", o->rechunk, "Read and cut everything anew");
  verb->add_flag("--bake", o->bake, "Keep the keys and values of all chunks beside the corpus");
  verb->add_option("--bake-dir", o->bake_dir, "... or in this folder");
  verb->add_option("--system", o->system, "Of --bake: the instructions that stand before the documents");
  AddModelOptions(verb, &o->common);
  AddOutputOptions(verb, &o->common);
  verb->parse_complete_callback([o] {
    if (o->paths.empty() && o->remove.empty() && !o->prune) throw CLI::RequiredError("paths");
  });
  return {verb, [o] { return Index(*o); }};
}

}  // namespace spanwise::cli

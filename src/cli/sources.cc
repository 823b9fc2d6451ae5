#include "cli/sources.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "base/str.h"

namespace spanwise::cli {
namespace {

// Says once, after a second, that another process has the corpus.
std::function<bool(std::chrono::milliseconds)> SayThatItWaits() {
  return [said = false](std::chrono::milliseconds waited) mutable {
    if (!said && waited >= std::chrono::seconds(1))
      Note("spanwise: waiting for another process that writes to this corpus (Ctrl-C stops)\n");
    said = said || waited >= std::chrono::seconds(1);
    return true;
  };
}

}  // namespace

void AddSourceOptions(CLI::App* app, SourceOptions* o) {
  auto* documents = app->add_option(
      "--doc", o->documents,
      "Document or folder of documents (.txt, .md, .jsonl; repeatable); other files in a folder are skipped");
  app->add_option("--corpus", o->corpus, "Folder of an indexed corpus (spanwise index)")->excludes(documents);
  app->add_option("--top-k", o->top_k, "Chunks to take from a corpus")
      ->check(CLI::Range(1, 200))
      ->capture_default_str();
}

void PrintSkipped(const std::vector<retrieval::SkippedFile>& skipped, size_t most) {
  std::vector<const retrieval::SkippedFile*> order;
  for (const auto& file : skipped) order.push_back(&file);
  if (order.size() > most)
    std::stable_partition(order.begin(), order.end(), [](const auto* file) { return file->unread; });
  for (size_t i = 0; i < std::min(order.size(), most); ++i)
    Note("skipped {}: {}\n", Printable(order[i]->path), Printable(order[i]->reason));
  if (order.size() > most) Note("skipped {} more\n", order.size() - most);
}

retrieval::ChunkOptions ChunkOptionsFor(const Engine& engine) {
  retrieval::ChunkOptions options;
  options.counter_name = engine.model().name + "/tokenizer";
  options.count_tokens = [&engine](std::string_view text) {
    const auto tokens = engine.Tokenize(std::string(text), false);
    return tokens.ok() ? tokens->size() : text.size();
  };
  return options;
}

Result<std::unique_ptr<retrieval::Corpus>> OpenCorpus(const std::string& folder, bool create, bool quiet) {
  Progress progress("making the index anew", quiet);
  retrieval::OpenOptions options;
  options.create = create;
  options.wait = SayThatItWaits();
  options.progress = [&](const retrieval::IndexProgress& p) {
    progress.Update(static_cast<double>(p.bytes_done), static_cast<double>(p.bytes_total));
    return true;
  };
  options.on_warning = [](const std::string& message) {
    if (spdlog::should_log(spdlog::level::warn)) Note("spanwise: {}\n", message);
  };
  return retrieval::Corpus::Open(folder, options);
}

Result<std::unique_ptr<SourceFinder>> SourceFinder::Open(const SourceOptions& o, const Engine& engine, bool quiet) {
  auto finder = std::unique_ptr<SourceFinder>(new SourceFinder());
  finder->top_k_ = static_cast<size_t>(o.top_k);
  if (!o.corpus.empty()) {
    SW_ASSIGN_OR_RETURN(finder->corpus_, OpenCorpus(o.corpus, false, quiet));
    return finder;
  }
  if (o.documents.empty())
    return InvalidArgument("no documents: name some with --doc PATH, or a corpus with --corpus DIR");
  SW_ASSIGN_OR_RETURN(auto set, retrieval::ReadDocuments(o.documents));
  PrintSkipped(set.skipped, kFewSkipped);
  std::vector<retrieval::SourceDocument>& documents = set.documents;
  if (documents.empty()) return NotFound("no documents found under the paths given with --doc");
  size_t tokens = 0;
  for (const auto& d : documents) {
    SW_ASSIGN_OR_RETURN(const auto ids, engine.Tokenize(d.text, false));
    tokens += ids.size() + 32;  // its frame, id and title
  }
  // Half the context: the rest is for the conversation, and models read long prompts less well than short ones.
  if (tokens <= static_cast<size_t>(engine.model().context_tokens) / 2) {
    finder->whole_ = rag::WholeDocuments(documents);
    return finder;
  }
  std::string folder = (std::filesystem::temp_directory_path() / "spanwise.XXXXXX").string();
  if (!mkdtemp(folder.data())) return ResourceExhausted(folder + ": cannot create a temporary folder");
  finder->temporary_ = folder;
  SW_ASSIGN_OR_RETURN(finder->corpus_, retrieval::Corpus::Open(folder, {.create = true, .max_bytes = 0}));
  Progress progress("indexing documents", quiet);
  retrieval::IndexOptions index;
  index.chunk = ChunkOptionsFor(engine);
  const auto report =
      finder->corpus_->AddDocuments(std::move(documents), index, [&](const retrieval::IndexProgress& p) {
        progress.Update(static_cast<double>(p.bytes_done), static_cast<double>(p.bytes_total));
        return true;
      });
  if (!report.ok()) return report.status();
  return finder;
}

SourceFinder::~SourceFinder() {
  corpus_.reset();
  std::error_code ignored;
  if (!temporary_.empty()) std::filesystem::remove_all(temporary_, ignored);
}

Result<std::vector<rag::Source>> SourceFinder::Find(const std::vector<Message>& messages) const {
  if (!corpus_) return whole_;
  return rag::Retrieve(*corpus_, messages, top_k_);
}

}  // namespace spanwise::cli

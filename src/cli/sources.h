// Where ask and chat take their sources from: files named on the command line, or a corpus.
#pragma once

#include "cli/common.h"

namespace spanwise::cli {

struct SourceOptions {
  std::vector<std::string> documents;  // files and folders
  std::string corpus;                  // folder of an indexed corpus
  int top_k = 8;                       // chunks taken from a corpus, or from documents that do not fit whole
};

void AddSourceOptions(CLI::App* app, SourceOptions* options);

// Opens a corpus, with a bar while its index is made anew and warnings on standard error.
Result<std::unique_ptr<retrieval::Corpus>> OpenCorpus(const std::string& folder, bool create, bool quiet);

// Thread-compatible.
class SourceFinder {
 public:
  // Reads the documents, saying what it skips, or opens the corpus. Documents that do not fit the model's context
  // together with a question are searched like a corpus.
  static Result<std::unique_ptr<SourceFinder>> Open(const SourceOptions& options, const Engine& engine, bool quiet);
  ~SourceFinder();

  // Sources for a conversation's last question: all documents where they fit, else the top_k chunks, best first.
  Result<std::vector<rag::Source>> Find(const std::vector<Message>& messages) const;

 private:
  SourceFinder() = default;
  std::vector<rag::Source> whole_;
  std::unique_ptr<retrieval::Corpus> corpus_;
  std::string temporary_;  // folder of a corpus made for this run
  size_t top_k_ = 8;
};

// Says on standard error what was skipped and why: at most `most` lines, documents that could not be read before files
// that are none, and how many more there are.
inline constexpr size_t kFewSkipped = 5;
void PrintSkipped(const std::vector<retrieval::SkippedFile>& skipped, size_t most);

// Chunks are measured with the model's own tokenizer.
retrieval::ChunkOptions ChunkOptionsFor(const Engine& engine);

}  // namespace spanwise::cli

// A corpus: documents cut into chunks, kept in one folder, searched by their words.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "retrieval/chunker.h"
#include "retrieval/document.h"
#include "spanwise/status.h"

namespace spanwise::retrieval {

struct IndexOptions {
  ChunkOptions chunk;
  DocumentLimits limits;
  // A file that is no text or has a bad line, and a document whose id is taken, goes to IndexReport::skipped instead of
  // ending the run.
  bool keep_going = false;
  bool rechunk = false;             // read and cut everything anew, as if it had never been edited
  std::vector<std::string> remove;  // first forget the files at and under these paths, there or not
  bool prune = false;               // forget all files that are gone
};

struct IndexProgress {
  std::string_view path;  // the file at hand; empty at the end
  size_t files_done = 0, files_total = 0;
  uint64_t bytes_done = 0, bytes_total = 0;  // of files
  size_t documents = 0;                      // seen so far
};

// Called before each file and now and then within one. False cancels the run.
using ProgressCallback = std::function<bool(const IndexProgress&)>;

struct OpenOptions {
  bool create = false;     // make the folder and an empty corpus where there is none
  uint64_t max_bytes = 0;  // of the database; more is ResourceExhausted, 0 sets no limit
  // Called now and then while a write waits for its turn, another process writing, with how long it has waited; false
  // gives up (Unavailable). Without it, a write waits as long as the other one takes.
  std::function<bool(std::chrono::milliseconds)> wait = {};
  // While an index of another version is made anew: bytes of text in the corpus. False cancels the opening.
  ProgressCallback progress = {};
  std::function<void(const std::string&)> on_warning = {};  // one line each
};

// A folder or file that was named to be indexed.
struct IndexedSource {
  std::string path;      // absolute
  size_t documents = 0;  // that come from it
};

struct IndexReport {
  size_t added = 0, updated = 0, unchanged = 0, removed = 0;  // documents
  size_t chunks = 0;                                          // in the corpus afterwards
  size_t chunks_added = 0, chunks_removed = 0;                // by this run; the others kept their ids
  uint64_t bytes = 0;                                         // of text, in the documents read
  size_t files_read = 0;                                      // of an unchanged corpus: 0
  std::vector<SkippedFile> skipped;
  std::vector<IndexedSource> gone;  // no longer there, and not removed: nobody said so, and a disk may be missing
};

struct SearchOptions {
  double title_weight = 2.0, heading_weight = 1.5, text_weight = 1.0;
  double max_document_share = 0.2;  // words in a larger share of the chunks are ignored while two others remain
  size_t max_terms = 32;            // the rarest words of the query
  size_t max_per_document = 0;      // chunks of one document; 0: any number
  std::optional<std::vector<std::string>> document_ids;  // search only these
};

struct StoredChunk {
  int64_t chunk_id = 0;  // never used for other text, even after the chunk is gone
  std::string document_id;
  std::string title;
  std::string heading_path;
  std::string text;  // bytes [begin, end) of the document's text
  size_t begin = 0, end = 0;
  size_t n_tokens = 0;                         // by the counter it was cut with
  Hash256 content_hash;                        // SHA-256 of `text`
  std::optional<std::string> cache_salt = {};  // SourceDocument::cache_salt
};

struct Hit : StoredChunk {
  double score = 0;  // BM25, higher is better
  size_t rank = 0;   // from 1
};

struct DocumentInfo {
  std::string id;
  std::string title;
  std::string metadata_json;
  std::string path;  // the file it came from, as named then; empty for one that was added directly
  size_t text_bytes = 0;
  size_t n_chunks = 0;
};

struct StoredDocument : DocumentInfo {
  std::string text;
};

struct CorpusStats {
  size_t documents = 0, chunks = 0;
  uint64_t generation = 0;  // grows with every change: equal generations give equal search results
};

// Thread-safe. Two connections, each guarded by a mutex: one writes, one reads. Reads never wait for a run of Index and
// see the state before it until it is committed; two writers take turns, also across processes (OpenOptions::wait).
//
// Every write is one transaction: after a crash, a full disk, a failure or a cancelled run, the corpus is as before it.
//
// Errors of every call: ResourceExhausted (disk full, size limit), Corruption (damaged), Unavailable (another process
// writes, or the disk fails), InvalidArgument (writing to a corpus that is read-only here).
class Corpus {
 public:
  // NotFound when there is no corpus and it is not to be created; Corruption when the folder's meta.db is not one;
  // InvalidArgument when a newer version of the format wrote it. Where nothing can be written (another user's folder, a
  // disk that is full or mounted read-only), a corpus that is there is opened for reading.
  //
  // An index that holds other words than this program makes of the text, since an older program or one with other
  // Unicode tables wrote it, is made anew first: in the corpus, or where that cannot be written, with a warning, for as
  // long as it is open (then a Search after the corpus has changed is Unavailable).
  static Result<std::unique_ptr<Corpus>> Open(const std::string& folder, const OpenOptions& options = {});
  ~Corpus();
  Corpus(const Corpus&) = delete;
  Corpus& operator=(const Corpus&) = delete;

  // Brings the corpus up to date with files and folders (document.h says how they become documents).
  //   - A file whose size and modification time are as before is not read; one that reads the same is not cut again.
  //   - Of a changed document, the chunks that are still there keep their ids.
  //   - Documents whose file has vanished from a given folder, or which a .jsonl file no longer holds, are removed.
  //   - In a folder, what may not be listed or opened is skipped. What cannot be read, with keep_going for whatever
  //     reason, keeps what the corpus has of it.
  // A file keeps the id under which it was first indexed. Two documents with one id are InvalidArgument naming both
  // places, in one run or across runs while the other file still has it; with keep_going the first one stays. Other
  // options.chunk than before re-chunk what they meet. NotFound for a path that is gone or, to be removed, unknown.
  Result<IndexReport> Index(const std::vector<std::string>& paths, const IndexOptions& options = {},
                            const ProgressCallback& progress = {});

  // Adds or replaces documents that have no file. InvalidArgument for an id that belongs to a file.
  Result<IndexReport> AddDocuments(std::vector<SourceDocument> documents, const IndexOptions& options = {},
                                   const ProgressCallback& progress = {});

  // NotFound when there is none. One whose file is still there comes back when that is indexed again.
  Status DeleteDocument(const std::string& id);

  // The k best chunks by BM25 over title, headings and text; equal scores by chunk id. The query is plain text in any
  // bytes, never a query language. Empty when no word of it is in the corpus.
  Result<std::vector<Hit>> Search(std::string_view query, size_t k, const SearchOptions& options = {}) const;

  // In order of id, at most `limit` with an id greater than `after`.
  Result<std::vector<DocumentInfo>> ListDocuments(const std::string& after = {}, size_t limit = SIZE_MAX) const;
  Result<StoredDocument> GetDocument(const std::string& id) const;                    // NotFound
  Result<StoredChunk> ReadChunk(int64_t chunk_id) const;                              // NotFound, also once it is gone
  Result<std::vector<StoredChunk>> ReadChunks(const std::string& document_id) const;  // in order; NotFound
  Result<CorpusStats> Stats() const;

  // Reads the whole database and compares the index with the text: Corruption when they disagree. Takes time.
  Status Check();

  const std::string& folder() const;
  bool read_only() const;

 private:
  struct Impl;
  explicit Corpus(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace spanwise::retrieval

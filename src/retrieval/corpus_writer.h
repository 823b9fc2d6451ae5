// What one transaction does to a corpus: documents in, changed and out; the files they came from.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "retrieval/corpus.h"
#include "retrieval/sqlite.h"

namespace spanwise::retrieval {

// The current format (docs/formats/corpus-store.md).
inline constexpr int kSchemaVersion = 2;
inline constexpr int kOldestSchemaVersion = 1;     // the same tables over an index with other tokens
inline constexpr int kApplicationId = 0x53504E57;  // "SPNW"

// Creates the tables in an empty database. REQUIRES: within a write transaction.
Status CreateSchema(Database* database);

// A row of the table of files.
struct FileRow {
  int64_t file_id = 0;
  std::string path, root, id;
  int64_t size_bytes = 0;
  int64_t mtime_ns = 0;  // kUnknownTime: must be read again
  std::string chunker;
};

inline constexpr int64_t kUnknownTime = -1;

// Lives as long as one write transaction. Thread-compatible.
class CorpusWriter {
 public:
  static Result<CorpusWriter> Create(Database* database, const ChunkOptions& options, IndexReport* report);

  Result<std::optional<FileRow>> FindFile(std::string_view path);
  // Inserts or replaces by path; sets row->file_id.
  Status PutFile(FileRow* row);
  // The rows of the file at an absolute path and of the files under it, in order of their paths.
  Result<std::vector<FileRow>> FilesAt(const std::string& path);
  // What was named to be indexed: folders, and files that were named themselves.
  Result<std::vector<IndexedSource>> Sources();
  Result<std::vector<std::string>> DocumentsOf(int64_t file_id);
  // With its documents, which are counted as removed.
  Status RemoveFile(const FileRow& row);
  // Makes the next run read the file again.
  Status Distrust(int64_t file_id);

  struct Owner {
    bool exists = false;
    std::optional<int64_t> file_id;
    std::string path;  // absolute; empty without a file
  };
  Result<Owner> OwnerOf(std::string_view document_id);

  // Adds or changes one document and counts it in the report. `file_id` is absent for one without a file.
  Status PutDocument(const SourceDocument& document, std::optional<int64_t> file_id, bool rechunk);
  Status RemoveDocument(std::string_view document_id);  // NotFound

  // Counters and generation, when anything changed. Call once, before the commit.
  Status Finish();

 private:
  struct OldChunk {
    int64_t chunk_id;
    ByteRange range;
    Hash256 hash;
  };
  CorpusWriter(Database* database, const ChunkOptions& options, IndexReport* report)
      : database_(database), options_(options), chunker_(options.Describe()), report_(report) {}

  // The cached statement of an SQL text, reset. The texts are literals: they are told apart by address.
  Result<Statement*> Sql(const char* text);
  Status ReadOldChunks(int64_t doc_id, std::string_view tail, std::vector<OldChunk>* chunks, std::string* text);
  Status PutChunks(int64_t doc_id, const SourceDocument& document, const std::vector<Chunk>& chunks,
                   const std::vector<OldChunk>& old);

  Database* database_;
  const ChunkOptions& options_;
  std::string chunker_;
  IndexReport* report_;
  std::unordered_map<const char*, Statement> statements_;
  int64_t documents_delta_ = 0, chunks_delta_ = 0;
  bool changed_ = false;
};

}  // namespace spanwise::retrieval

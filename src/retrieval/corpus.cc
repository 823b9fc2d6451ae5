#include "retrieval/corpus.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <system_error>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "base/file.h"
#include "base/json.h"
#include "base/str.h"
#include "retrieval/corpus_writer.h"
#include "retrieval/index/lexical.h"
#include "retrieval/index/rebuild.h"
#include "retrieval/index_run.h"
#include "retrieval/reader.h"
#include "retrieval/sqlite.h"

namespace spanwise::retrieval {
namespace {

constexpr const char* kDatabaseName = "/meta.db";
constexpr const char* kChunkColumns =
    "c.chunk_id, d.ext_id, c.title, c.heading, c.text, c.byte_begin, c.byte_end, c.n_tokens, c.content_hash, "
    "json_extract(d.metadata, '$.cache_salt')";

// Ok for an empty database and for one of ours in a version that is understood.
Status CheckFormat(Database* database, bool* empty) {
  // In one statement: another process may be making it.
  SW_ASSIGN_OR_RETURN(Statement read,
                      database->Prepare("SELECT (SELECT count(*) FROM sqlite_schema), a.application_id, v.user_version "
                                        "FROM pragma_application_id a, pragma_user_version v"));
  SW_ASSIGN_OR_RETURN(const bool found, read.Step());
  if (!found) return Internal(database->path() + ": has no header");
  const int64_t tables = read.Int(0), application = read.Int(1), version = read.Int(2);
  *empty = tables == 0 && application == 0 && version == 0;
  if (*empty) return Status::Ok();
  if (application != kApplicationId)
    return Corruption(StrFormat("{}: is an SQLite database, but no corpus of Spanwise", database->path()));
  if (version < kOldestSchemaVersion || version > kSchemaVersion)
    return InvalidArgument(
        StrFormat("{}: the corpus has format {}, this program reads {}; index the documents into a new folder",
                  database->path(), version, kSchemaVersion));
  return Status::Ok();
}

StoredChunk ChunkOf(const Statement& row) {
  StoredChunk chunk;
  chunk.chunk_id = row.Int(0);
  chunk.document_id = row.Text(1);
  chunk.title = row.Text(2);
  chunk.heading_path = row.Text(3);
  chunk.text = row.Text(4);
  chunk.begin = static_cast<size_t>(row.Int(5));
  chunk.end = static_cast<size_t>(row.Int(6));
  chunk.n_tokens = static_cast<size_t>(row.Int(7));
  const std::string_view hash = row.Text(8);
  std::memcpy(chunk.content_hash.bytes.data(), hash.data(), std::min(hash.size(), chunk.content_hash.bytes.size()));
  if (!row.IsNull(9)) chunk.cache_salt = row.Text(9);
  return chunk;
}

}  // namespace

struct Corpus::Impl {
  std::string folder;
  std::mutex write_mutex, read_mutex;
  std::optional<Database> writer;  // guarded by write_mutex; absent when read-only
  Status no_writer;                // why it is absent
  std::optional<Reader> reader;    // guarded by read_mutex, as is what follows
  std::optional<QueryTokenizer> tokenizer;
  std::optional<int64_t> apart_generation;  // what a temporary index knows

  // Runs `read` over the reading connection.
  template <typename Read>
  auto Reading(Read read) {
    const std::lock_guard lock(read_mutex);
    return reader->Run(read);
  }

  Status OpenWriter(const std::string& path, const OpenOptions& options) {
    const int flags = SQLITE_OPEN_READWRITE | (options.create ? SQLITE_OPEN_CREATE : 0);
    SW_ASSIGN_OR_RETURN(Database database, Database::Open(path, path, flags));
    database.WaitForOthers(options.wait ? options.wait : [](std::chrono::milliseconds) { return true; });
    // The size of the page cache bounds the memory of a long run; a commit that returned survives a power cut.
    SW_RETURN_IF_ERROR(database.Execute("PRAGMA synchronous = FULL; PRAGMA cache_size = -16384;"));
    bool empty = false;
    SW_RETURN_IF_ERROR(CheckFormat(&database, &empty));
    SW_RETURN_IF_ERROR(database.ExecuteInTurn("PRAGMA journal_mode = WAL"));
    SW_RETURN_IF_ERROR(RegisterTokenizer(&database));
    if (empty) {
      SW_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(&database, Transaction::kWrite));
      SW_RETURN_IF_ERROR(CheckFormat(&database, &empty));  // another process may have been faster
      if (empty) SW_RETURN_IF_ERROR(CreateSchema(&database));
      SW_RETURN_IF_ERROR(transaction.Commit());
    }
    if (options.max_bytes > 0) {
      SW_ASSIGN_OR_RETURN(const int64_t page_bytes, database.QueryInt("PRAGMA page_size"));
      const uint64_t pages =
          std::max<uint64_t>(1, options.max_bytes / static_cast<uint64_t>(std::max<int64_t>(page_bytes, 1)));
      SW_RETURN_IF_ERROR(
          database.Execute(StrFormat("PRAGMA max_page_count = {}", std::min<uint64_t>(pages, 0xFFFFFFFE))));
    }
    SW_RETURN_IF_ERROR(RebuildIndex(&database, options.progress));
    writer = std::move(database);
    return Status::Ok();
  }

  Status OpenReader(const std::string& path, const OpenOptions& options) {
    SW_ASSIGN_OR_RETURN(reader, Reader::Open(path, [this, options](Database* database) -> Status {
                          // Ranking looks up the length of every matching chunk, and sorts where there may be no room
                          // for files.
                          SW_RETURN_IF_ERROR(database->Execute("PRAGMA cache_size = -65536; PRAGMA temp_store = 2"));
                          bool empty = false;
                          SW_RETURN_IF_ERROR(CheckFormat(database, &empty));
                          if (empty) return Corruption(database->path() + ": is an empty database, no corpus");
                          SW_RETURN_IF_ERROR(RegisterTokenizer(database));
                          SW_RETURN_IF_ERROR(ReadOldIndex(database, options));
                          SW_ASSIGN_OR_RETURN(tokenizer, QueryTokenizer::Create(database));
                          return Status::Ok();
                        }));
    return Status::Ok();
  }

  // Where the stored index could not be made anew: one of the connection's own, in memory.
  Status ReadOldIndex(Database* database, const OpenOptions& options) {
    apart_generation.reset();
    SW_ASSIGN_OR_RETURN(const bool current, IndexIsCurrent(database));
    if (current) return Status::Ok();
    SW_ASSIGN_OR_RETURN(const int64_t generation, Generation(database));
    SW_RETURN_IF_ERROR(IndexApart(database, options.progress));
    apart_generation = generation;
    if (options.on_warning)
      options.on_warning(StrFormat(
          "{}: the index is of another version and cannot be replaced here, so it was made anew in memory, as each "
          "time the corpus is opened; run spanwise index where the corpus can be written",
          database->path()));
    return Status::Ok();
  }

  static Result<int64_t> Generation(Database* database) {
    return database->QueryInt("SELECT value FROM meta WHERE key = 'generation'");
  }

  Status Writable() const { return writer ? Status::Ok() : no_writer; }

  Result<std::vector<Hit>> Search(Database* database, std::string_view query, size_t k, const SearchOptions& options);

  Result<std::string> Match(Database* database, std::string_view query, const SearchOptions& options) {
    SW_ASSIGN_OR_RETURN(const std::vector<QueryTerm> terms, tokenizer->Terms(query));
    if (terms.empty()) return std::string();
    SW_ASSIGN_OR_RETURN(const int64_t n_chunks, database->QueryInt("SELECT value FROM meta WHERE key = 'chunks'"));
    SW_ASSIGN_OR_RETURN(Statement one, database->Prepare("SELECT doc FROM chunk_terms WHERE term = ?1"));
    SW_ASSIGN_OR_RETURN(Statement each,
                        database->Prepare("SELECT doc FROM chunk_terms WHERE term >= ?1 AND term < ?2"));
    MatchOptions match;
    match.max_document_share = options.max_document_share;
    match.max_terms = options.max_terms;
    return BuildMatch(terms, static_cast<size_t>(n_chunks), match,
                      [&](const std::string& token, bool prefix, size_t enough) -> Result<size_t> {
                        Statement& count = prefix ? each : one;
                        std::string end = token;  // the least text behind all that begin so
                        ++end.back();
                        count.Bind(1, token);
                        if (prefix) count.Bind(2, end);
                        size_t n = 0;
                        while (n < enough) {
                          SW_ASSIGN_OR_RETURN(const bool more, count.Step());
                          if (!more) break;
                          n += static_cast<size_t>(count.Int(0));
                        }
                        count.Reset();
                        return n;
                      });
  }
};

Corpus::Corpus(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Corpus::~Corpus() = default;

Result<std::unique_ptr<Corpus>> Corpus::Open(const std::string& folder, const OpenOptions& options) {
  auto impl = std::make_unique<Impl>();
  impl->folder = folder;
  const std::string path = folder + kDatabaseName;
  if (options.create) {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) return InvalidArgument(StrFormat("{}: cannot make the folder: {}", folder, error.message()));
  } else if (FileIsGone(path)) {
    return NotFound(StrFormat(
        "{}: no corpus here (there is no meta.db); make one with: spanwise index PATH --corpus {}", folder, folder));
  }
  if (access(folder.c_str(), W_OK) != 0 || (access(path.c_str(), W_OK) != 0 && errno != ENOENT)) {
    impl->no_writer = InvalidArgument(StrFormat("{}: the corpus is read-only here ({})", folder, std::strerror(errno)));
  } else {
    impl->no_writer = impl->OpenWriter(path, options);
  }
  // Questions need no place to write to.
  if (options.create || impl->no_writer.code() == StatusCode::kCancelled) SW_RETURN_IF_ERROR(impl->no_writer);
  SW_RETURN_IF_ERROR(impl->OpenReader(path, options));
  return std::unique_ptr<Corpus>(new Corpus(std::move(impl)));
}

const std::string& Corpus::folder() const { return impl_->folder; }
bool Corpus::read_only() const { return !impl_->writer; }

Result<IndexReport> Corpus::Index(const std::vector<std::string>& paths, const IndexOptions& options,
                                  const ProgressCallback& progress) {
  SW_RETURN_IF_ERROR(impl_->Writable());
  const std::lock_guard lock(impl_->write_mutex);
  Database& database = *impl_->writer;
  {
    IndexReport unused;
    SW_ASSIGN_OR_RETURN(CorpusWriter writer, CorpusWriter::Create(&database, options.chunk, &unused));
    for (const std::string& path : paths) SW_RETURN_IF_ERROR(CheckIsThere(&writer, path, impl_->folder));
  }
  SW_ASSIGN_OR_RETURN(SourceListing listing, ListSources(paths));
  const int waits = database.waits();
  SW_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(&database, Transaction::kWrite));
  if (database.waits() > waits) {  // for as long as another run took
    SW_ASSIGN_OR_RETURN(listing, ListSources(paths));
  }
  IndexReport report;
  {
    SW_ASSIGN_OR_RETURN(CorpusWriter writer, CorpusWriter::Create(&database, options.chunk, &report));
    SW_RETURN_IF_ERROR(IndexSources(listing, options, progress, &writer, &report));
    SW_RETURN_IF_ERROR(writer.Finish());
  }
  SW_RETURN_IF_ERROR(transaction.Commit());
  return report;
}

Result<IndexReport> Corpus::AddDocuments(std::vector<SourceDocument> documents, const IndexOptions& options,
                                         const ProgressCallback& progress) {
  SW_RETURN_IF_ERROR(impl_->Writable());
  std::unordered_set<std::string_view> seen;
  IndexProgress state{.path = {}, .files_total = documents.size()};
  for (SourceDocument& document : documents) {
    state.bytes_total += document.text.size();
    SW_RETURN_IF_ERROR(CheckDocument(options.limits, StrFormat("document {}", Quoted(document.id)), &document));
    if (!seen.insert(document.id).second)
      return InvalidArgument(StrFormat("two documents have the id {}", Quoted(document.id)));
  }
  IndexReport report;
  const std::lock_guard lock(impl_->write_mutex);
  SW_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(&*impl_->writer, Transaction::kWrite));
  {
    SW_ASSIGN_OR_RETURN(CorpusWriter writer, CorpusWriter::Create(&*impl_->writer, options.chunk, &report));
    for (const SourceDocument& document : documents) {
      state.path = document.path;
      if (progress && !progress(state)) return CancelledRun();
      SW_ASSIGN_OR_RETURN(const CorpusWriter::Owner owner, writer.OwnerOf(document.id));
      if (owner.file_id)
        return InvalidArgument(
            StrFormat("document {} comes from the file {}; change the file and index it again, or delete the "
                      "document first",
                      Quoted(document.id), owner.path));
      SW_RETURN_IF_ERROR(writer.PutDocument(document, std::nullopt, options.rechunk));
      state.documents = ++state.files_done;
      state.bytes_done += document.text.size();
    }
    SW_RETURN_IF_ERROR(writer.Finish());
  }
  SW_RETURN_IF_ERROR(transaction.Commit());
  return report;
}

Status Corpus::DeleteDocument(const std::string& id) {
  SW_RETURN_IF_ERROR(impl_->Writable());
  const std::lock_guard lock(impl_->write_mutex);
  SW_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(&*impl_->writer, Transaction::kWrite));
  {
    IndexReport report;
    const ChunkOptions unused;
    SW_ASSIGN_OR_RETURN(CorpusWriter writer, CorpusWriter::Create(&*impl_->writer, unused, &report));
    SW_ASSIGN_OR_RETURN(const CorpusWriter::Owner owner, writer.OwnerOf(id));
    SW_RETURN_IF_ERROR(writer.RemoveDocument(id));
    if (owner.file_id) SW_RETURN_IF_ERROR(writer.Distrust(*owner.file_id));
    SW_RETURN_IF_ERROR(writer.Finish());
  }
  return transaction.Commit();
}

Result<std::vector<Hit>> Corpus::Search(std::string_view query, size_t k, const SearchOptions& options) const {
  if (k == 0) return std::vector<Hit>();
  return impl_->Reading([&](Database& database) { return impl_->Search(&database, query, k, options); });
}

Result<std::vector<Hit>> Corpus::Impl::Search(Database* database, std::string_view query, size_t k,
                                              const SearchOptions& options) {
  std::vector<Hit> hits;
  SW_ASSIGN_OR_RETURN(const Transaction snapshot, Transaction::Begin(database, Transaction::kRead));
  if (apart_generation) {
    SW_ASSIGN_OR_RETURN(const int64_t generation, Generation(database));
    if (generation != *apart_generation)
      return Unavailable(database->path() + ": the corpus has changed since it was opened; open it again");
  }
  SW_ASSIGN_OR_RETURN(const std::string match, Match(database, query, options));
  if (match.empty()) return hits;

  std::string chosen = "null";
  if (options.document_ids) {
    json::array ids;
    for (const std::string& id : *options.document_ids)
      if (IsValidUtf8(id)) ids.emplace_back(json::string_view(id));
    chosen = json::serialize(ids);
  }
  // Ids and scores first: rows with text would make the sort heavy.
  SW_ASSIGN_OR_RETURN(
      Statement rank,
      database->Prepare(
          options.document_ids
              ? "SELECT rowid, bm25(chunk_fts, ?1, ?2, ?3) AS cost FROM chunk_fts WHERE chunk_fts MATCH ?4 AND rowid "
                "IN (SELECT chunk_id FROM chunk JOIN document USING(doc_id) WHERE ext_id IN "
                "(SELECT value FROM json_each(?6))) ORDER BY cost, rowid LIMIT ?5"
              : "SELECT rowid, bm25(chunk_fts, ?1, ?2, ?3) AS cost FROM chunk_fts WHERE chunk_fts MATCH ?4 "
                "ORDER BY cost, rowid LIMIT ?5"));
  rank.Bind(1, options.title_weight).Bind(2, options.heading_weight).Bind(3, options.text_weight).Bind(4, match);
  rank.Bind(5, options.max_per_document > 0 ? int64_t{-1} : static_cast<int64_t>(std::min<size_t>(k, INT64_MAX)));
  if (options.document_ids) rank.Bind(6, chosen);
  SW_ASSIGN_OR_RETURN(Statement read,
                      database->Prepare(StrFormat("SELECT {} FROM chunk c JOIN document d USING(doc_id) "
                                                  "WHERE c.chunk_id = ?1",
                                                  kChunkColumns)));
  std::unordered_map<std::string, size_t> per_document;
  while (hits.size() < k) {
    SW_ASSIGN_OR_RETURN(const bool more, rank.Step());
    if (!more) break;
    SW_ASSIGN_OR_RETURN(const bool found, read.Bind(1, rank.Int(0)).Step());
    if (!found)
      return Corruption(StrFormat("{}: the index names chunk {}, which does not exist; index again into a new folder",
                                  database->path(), rank.Int(0)));
    Hit hit;
    static_cast<StoredChunk&>(hit) = ChunkOf(read);
    read.Reset();
    if (options.max_per_document > 0 && ++per_document[hit.document_id] > options.max_per_document) continue;
    hit.score = -rank.Real(1);
    hit.rank = hits.size() + 1;
    hits.push_back(std::move(hit));
  }
  return hits;
}

namespace {

constexpr const char* kDocumentColumns = "doc_id, ext_id, title, metadata, path, text_bytes, n_chunks, tail";

void FillInfo(const Statement& row, DocumentInfo* info) {
  info->id = row.Text(1);
  info->title = row.Text(2);
  info->metadata_json = row.Text(3);
  info->path = row.Text(4);
  info->text_bytes = static_cast<size_t>(row.Int(5));
  info->n_chunks = static_cast<size_t>(row.Int(6));
}

Status NoDocument(const std::string& id) {
  return NotFound(StrFormat("the corpus has no document with the id {}", Quoted(id)));
}

}  // namespace

Result<std::vector<DocumentInfo>> Corpus::ListDocuments(const std::string& after, size_t limit) const {
  return impl_->Reading([&](Database& database) -> Result<std::vector<DocumentInfo>> {
    SW_ASSIGN_OR_RETURN(Statement list, database.Prepare(StrFormat("SELECT {} FROM document WHERE ext_id > ?1 "
                                                                   "ORDER BY ext_id LIMIT ?2",
                                                                   kDocumentColumns)));
    list.Bind(1, after).Bind(2, static_cast<int64_t>(std::min<size_t>(limit, INT64_MAX)));
    std::vector<DocumentInfo> documents;
    while (true) {
      SW_ASSIGN_OR_RETURN(const bool more, list.Step());
      if (!more) return documents;
      FillInfo(list, &documents.emplace_back());
    }
  });
}

Result<StoredDocument> Corpus::GetDocument(const std::string& id) const {
  return impl_->Reading([&](Database& database) -> Result<StoredDocument> {
    SW_ASSIGN_OR_RETURN(const Transaction snapshot, Transaction::Begin(&database, Transaction::kRead));
    SW_ASSIGN_OR_RETURN(Statement find,
                        database.Prepare(StrFormat("SELECT {} FROM document WHERE ext_id = ?1", kDocumentColumns)));
    SW_ASSIGN_OR_RETURN(const bool found, find.Bind(1, id).Step());
    if (!found) return NoDocument(id);
    StoredDocument document;
    FillInfo(find, &document);
    SW_ASSIGN_OR_RETURN(Statement chunks,
                        database.Prepare("SELECT gap, text FROM chunk WHERE doc_id = ?1 ORDER BY ord"));
    chunks.Bind(1, find.Int(0));
    document.text.reserve(document.text_bytes);
    while (true) {
      SW_ASSIGN_OR_RETURN(const bool more, chunks.Step());
      if (!more) break;
      document.text += chunks.Text(0);
      document.text += chunks.Text(1);
    }
    document.text += find.Text(7);
    if (document.text.size() != document.text_bytes)
      return Corruption(StrFormat("{}: document {} has {} bytes of text, expected {}", database.path(), Quoted(id),
                                  document.text.size(), document.text_bytes));
    return document;
  });
}

Result<StoredChunk> Corpus::ReadChunk(int64_t chunk_id) const {
  return impl_->Reading([&](Database& database) -> Result<StoredChunk> {
    SW_ASSIGN_OR_RETURN(Statement read,
                        database.Prepare(StrFormat("SELECT {} FROM chunk c JOIN document d USING(doc_id) "
                                                   "WHERE c.chunk_id = ?1",
                                                   kChunkColumns)));
    SW_ASSIGN_OR_RETURN(const bool found, read.Bind(1, chunk_id).Step());
    if (!found) return NotFound(StrFormat("the corpus has no chunk {}", chunk_id));
    return ChunkOf(read);
  });
}

Result<std::vector<StoredChunk>> Corpus::ReadChunks(const std::string& document_id) const {
  return impl_->Reading([&](Database& database) -> Result<std::vector<StoredChunk>> {
    SW_ASSIGN_OR_RETURN(const Transaction snapshot, Transaction::Begin(&database, Transaction::kRead));
    SW_ASSIGN_OR_RETURN(Statement find, database.Prepare("SELECT doc_id FROM document WHERE ext_id = ?1"));
    SW_ASSIGN_OR_RETURN(const bool found, find.Bind(1, document_id).Step());
    if (!found) return NoDocument(document_id);
    SW_ASSIGN_OR_RETURN(Statement list,
                        database.Prepare(StrFormat("SELECT {} FROM chunk c JOIN document d USING(doc_id) "
                                                   "WHERE c.doc_id = ?1 ORDER BY c.ord",
                                                   kChunkColumns)));
    list.Bind(1, find.Int(0));
    std::vector<StoredChunk> chunks;
    while (true) {
      SW_ASSIGN_OR_RETURN(const bool more, list.Step());
      if (!more) return chunks;
      chunks.push_back(ChunkOf(list));
    }
  });
}

Result<CorpusStats> Corpus::Stats() const {
  return impl_->Reading([&](Database& database) -> Result<CorpusStats> {
    SW_ASSIGN_OR_RETURN(Statement read, database.Prepare("SELECT key, value FROM meta"));
    CorpusStats stats;
    while (true) {
      SW_ASSIGN_OR_RETURN(const bool more, read.Step());
      if (!more) return stats;
      const auto value = static_cast<uint64_t>(read.Int(1));
      if (read.Text(0) == "documents") stats.documents = value;
      if (read.Text(0) == "chunks") stats.chunks = value;
      if (read.Text(0) == "generation") stats.generation = value;
    }
  });
}

Status Corpus::Check() {
  SW_RETURN_IF_ERROR(impl_->Writable());  // FTS5 checks itself through a write
  const std::lock_guard lock(impl_->write_mutex);
  Database& database = *impl_->writer;
  SW_ASSIGN_OR_RETURN(Statement check, database.Prepare("PRAGMA integrity_check(1)"));
  SW_ASSIGN_OR_RETURN(const bool row, check.Step());
  if (row && check.Text(0) != "ok")
    return Corruption(
        StrFormat("{}: the database is damaged ({}); delete it and index again", database.path(), check.Text(0)));
  check.Reset();
  // Rank 1 compares with the content table, not only the index with itself.
  SW_RETURN_IF_ERROR(database.Execute("INSERT INTO chunk_fts(chunk_fts, rank) VALUES('integrity-check', 1)"));
  SW_ASSIGN_OR_RETURN(
      const int64_t wrong,
      database.QueryInt("SELECT (SELECT count(*) FROM chunk) <> (SELECT value FROM meta WHERE key = 'chunks') OR "
                        "(SELECT count(*) FROM document) <> (SELECT value FROM meta WHERE key = 'documents')"));
  return wrong ? Corruption(database.path() + ": the counters do not match the tables; delete it and index again")
               : Status::Ok();
}

}  // namespace spanwise::retrieval

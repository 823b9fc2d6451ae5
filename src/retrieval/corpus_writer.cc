#include "retrieval/corpus_writer.h"

#include <cstring>
#include <deque>
#include <utility>

#include "base/hash.h"
#include "base/str.h"
#include "retrieval/index/lexical.h"

namespace spanwise::retrieval {
namespace {

// A document's text is kept once: every chunk has its own text and the white space before it, the document what follows
// the last. The triggers keep the index equal to the chunks; FTS5 must be told the old values of what it forgets.
constexpr const char* kSchema = R"sql(
CREATE TABLE meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES('documents', 0), ('chunks', 0), ('generation', 0);
CREATE TABLE file(
  file_id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, root TEXT NOT NULL, id TEXT NOT NULL,
  size_bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, chunker TEXT NOT NULL);
CREATE TABLE document(
  doc_id INTEGER PRIMARY KEY, ext_id TEXT NOT NULL UNIQUE, file_id INTEGER REFERENCES file, path TEXT NOT NULL,
  title TEXT NOT NULL, metadata TEXT NOT NULL, format INTEGER NOT NULL, sha256 BLOB NOT NULL, chunker TEXT NOT NULL,
  text_bytes INTEGER NOT NULL, n_chunks INTEGER NOT NULL, tail TEXT NOT NULL);
CREATE INDEX document_by_file ON document(file_id);
CREATE TABLE chunk(
  chunk_id INTEGER PRIMARY KEY AUTOINCREMENT, doc_id INTEGER NOT NULL REFERENCES document, ord INTEGER NOT NULL,
  byte_begin INTEGER NOT NULL, byte_end INTEGER NOT NULL, n_tokens INTEGER NOT NULL, content_hash BLOB NOT NULL,
  gap TEXT NOT NULL, title TEXT NOT NULL, heading TEXT NOT NULL, text TEXT NOT NULL);
CREATE INDEX chunk_by_document ON chunk(doc_id, ord);
CREATE VIRTUAL TABLE chunk_fts USING fts5(
  title, heading, text, content='chunk', content_rowid='chunk_id', tokenize='spanwise');
CREATE VIRTUAL TABLE chunk_terms USING fts5vocab(chunk_fts, 'row');
CREATE TRIGGER chunk_inserted AFTER INSERT ON chunk BEGIN
  INSERT INTO chunk_fts(rowid, title, heading, text) VALUES(new.chunk_id, new.title, new.heading, new.text);
END;
CREATE TRIGGER chunk_deleted AFTER DELETE ON chunk BEGIN
  INSERT INTO chunk_fts(chunk_fts, rowid, title, heading, text)
    VALUES('delete', old.chunk_id, old.title, old.heading, old.text);
END;
CREATE TRIGGER chunk_updated AFTER UPDATE OF title, heading, text ON chunk
    WHEN old.title IS NOT new.title OR old.heading IS NOT new.heading OR old.text IS NOT new.text BEGIN
  INSERT INTO chunk_fts(chunk_fts, rowid, title, heading, text)
    VALUES('delete', old.chunk_id, old.title, old.heading, old.text);
  INSERT INTO chunk_fts(rowid, title, heading, text) VALUES(new.chunk_id, new.title, new.heading, new.text);
END;
)sql";

std::string_view Bytes(const Hash256& hash) {
  return {reinterpret_cast<const char*>(hash.bytes.data()), hash.bytes.size()};
}

FileRow RowOf(const Statement& row) {
  return {row.Int(0), std::string(row.Text(1)), std::string(row.Text(2)), std::string(row.Text(3)), row.Int(4),
          row.Int(5), std::string(row.Text(6))};
}

}  // namespace

Status CreateSchema(Database* database) {
  SW_RETURN_IF_ERROR(database->Execute(kSchema));
  return database->Execute(
      StrFormat("INSERT INTO meta VALUES('tokenizer', {}); PRAGMA application_id = {}; PRAGMA user_version = {};",
                TokenizerVersion(), kApplicationId, kSchemaVersion));
}

Result<CorpusWriter> CorpusWriter::Create(Database* database, const ChunkOptions& options, IndexReport* report) {
  return CorpusWriter(database, options, report);
}

Result<Statement*> CorpusWriter::Sql(const char* text) {
  const auto it = statements_.find(text);
  if (it != statements_.end()) {
    it->second.Reset();
    return &it->second;
  }
  SW_ASSIGN_OR_RETURN(Statement statement, database_->Prepare(text));
  return &statements_.emplace(text, std::move(statement)).first->second;
}

Result<std::optional<FileRow>> CorpusWriter::FindFile(std::string_view path) {
  SW_ASSIGN_OR_RETURN(Statement * find, Sql("SELECT file_id, path, root, id, size_bytes, mtime_ns, chunker FROM file "
                                            "WHERE path = ?1"));
  SW_ASSIGN_OR_RETURN(const bool found, find->Bind(1, path).Step());
  std::optional<FileRow> row;
  if (found) row = RowOf(*find);
  find->Reset();
  return row;
}

Status CorpusWriter::PutFile(FileRow* row) {
  SW_ASSIGN_OR_RETURN(
      Statement * put,
      Sql("INSERT INTO file(path, root, id, size_bytes, mtime_ns, chunker) VALUES(?1, ?2, ?3, ?4, ?5, ?6) "
          "ON CONFLICT(path) DO UPDATE SET root = ?2, id = ?3, size_bytes = ?4, mtime_ns = ?5, chunker = ?6 "
          "RETURNING file_id"));
  put->Bind(1, row->path).Bind(2, row->root).Bind(3, row->id).Bind(4, row->size_bytes).Bind(5, row->mtime_ns);
  SW_ASSIGN_OR_RETURN(const bool stored, put->Bind(6, row->chunker).Step());
  if (!stored) return Internal("a file's row was not stored");
  row->file_id = put->Int(0);
  return put->Run();
}

Result<std::vector<FileRow>> CorpusWriter::FilesAt(const std::string& path) {
  SW_ASSIGN_OR_RETURN(Statement * list, Sql("SELECT file_id, path, root, id, size_bytes, mtime_ns, chunker FROM file "
                                            "WHERE path = ?3 OR (path > ?1 AND path < ?2) ORDER BY path"));
  const std::string first = path.ends_with('/') ? path : path + '/';
  std::string last = first;
  last.back() = '/' + 1;
  list->Bind(1, first).Bind(2, last).Bind(3, path);
  std::vector<FileRow> rows;
  while (true) {
    SW_ASSIGN_OR_RETURN(const bool more, list->Step());
    if (!more) return rows;
    rows.push_back(RowOf(*list));
  }
}

Result<std::vector<IndexedSource>> CorpusWriter::Sources() {
  SW_ASSIGN_OR_RETURN(Statement * list,
                      Sql("SELECT CASE root WHEN '' THEN f.path ELSE root END AS source, count(doc_id) "
                          "FROM file f LEFT JOIN document USING(file_id) GROUP BY source ORDER BY source"));
  std::vector<IndexedSource> sources;
  while (true) {
    SW_ASSIGN_OR_RETURN(const bool more, list->Step());
    if (!more) return sources;
    sources.push_back({std::string(list->Text(0)), static_cast<size_t>(list->Int(1))});
  }
}

Result<std::vector<std::string>> CorpusWriter::DocumentsOf(int64_t file_id) {
  SW_ASSIGN_OR_RETURN(Statement * list, Sql("SELECT ext_id FROM document WHERE file_id = ?1 ORDER BY doc_id"));
  list->Bind(1, file_id);
  std::vector<std::string> ids;
  while (true) {
    SW_ASSIGN_OR_RETURN(const bool more, list->Step());
    if (!more) return ids;
    ids.emplace_back(list->Text(0));
  }
}

Status CorpusWriter::RemoveFile(const FileRow& row) {
  SW_ASSIGN_OR_RETURN(const std::vector<std::string> ids, DocumentsOf(row.file_id));
  for (const std::string& id : ids) SW_RETURN_IF_ERROR(RemoveDocument(id));
  SW_ASSIGN_OR_RETURN(Statement * remove, Sql("DELETE FROM file WHERE file_id = ?1"));
  return remove->Bind(1, row.file_id).Run();
}

Status CorpusWriter::Distrust(int64_t file_id) {
  SW_ASSIGN_OR_RETURN(Statement * update, Sql("UPDATE file SET mtime_ns = ?2 WHERE file_id = ?1"));
  return update->Bind(1, file_id).Bind(2, kUnknownTime).Run();
}

Result<CorpusWriter::Owner> CorpusWriter::OwnerOf(std::string_view document_id) {
  SW_ASSIGN_OR_RETURN(Statement * find, Sql("SELECT d.file_id, f.path FROM document d LEFT JOIN file f USING(file_id) "
                                            "WHERE d.ext_id = ?1"));
  SW_ASSIGN_OR_RETURN(const bool found, find->Bind(1, document_id).Step());
  Owner owner;
  owner.exists = found;
  if (found && !find->IsNull(0)) {
    owner.file_id = find->Int(0);
    owner.path = find->Text(1);
  }
  find->Reset();
  return owner;
}

Status CorpusWriter::PutDocument(const SourceDocument& document, std::optional<int64_t> file_id, bool rechunk) {
  const Hash256 hash = Sha256(document.text);
  const auto format = static_cast<int64_t>(document.format);
  report_->bytes += document.text.size();

  SW_ASSIGN_OR_RETURN(Statement * find,
                      Sql("SELECT doc_id, sha256, chunker, title, metadata, format, file_id, path, tail "
                          "FROM document WHERE ext_id = ?1"));
  SW_ASSIGN_OR_RETURN(const bool found, find->Bind(1, document.id).Step());
  int64_t doc_id = 0;
  bool same_chunker = false;
  std::string old_tail;
  if (found) {
    doc_id = find->Int(0);
    same_chunker = find->Text(2) == chunker_ && find->Int(5) == format && !rechunk;
    const bool same_text = same_chunker && find->Text(1) == Bytes(hash);
    const bool same_title = find->Text(3) == document.title;
    const bool same_rest = same_title && find->Text(4) == document.metadata_json;
    const bool same_file = find->IsNull(6) ? !file_id : file_id == find->Int(6) && find->Text(7) == document.path;
    old_tail = find->Text(8);
    find->Reset();
    if (same_text && same_rest && same_file) return ++report_->unchanged, Status::Ok();
    if (same_text) {
      SW_ASSIGN_OR_RETURN(Statement * update,
                          Sql("UPDATE document SET title = ?2, metadata = ?3, file_id = ?4, path = ?5 "
                              "WHERE doc_id = ?1"));
      update->Bind(1, doc_id).Bind(2, document.title).Bind(3, document.metadata_json).Bind(5, document.path);
      SW_RETURN_IF_ERROR((file_id ? update->Bind(4, *file_id) : update->BindNull(4)).Run());
      if (!same_title) {
        SW_ASSIGN_OR_RETURN(Statement * retitle, Sql("UPDATE chunk SET title = ?2 WHERE doc_id = ?1"));
        SW_RETURN_IF_ERROR(retitle->Bind(1, doc_id).Bind(2, document.title).Run());
      }
      changed_ = changed_ || !same_rest;
      ++(same_rest ? report_->unchanged : report_->updated);
      return Status::Ok();
    }
  }
  changed_ = true;

  std::vector<OldChunk> old;
  std::vector<Chunk> chunks;
  if (found) {
    std::string old_text;
    SW_RETURN_IF_ERROR(ReadOldChunks(doc_id, old_tail, &old, &old_text));
    if (same_chunker) {
      std::vector<ByteRange> ranges;
      for (const OldChunk& chunk : old) ranges.push_back(chunk.range);
      chunks = RechunkText(document.text, document.format, options_, old_text, ranges);
    }
  }
  if (!same_chunker) chunks = ChunkText(document.text, document.format, options_);

  const std::string_view tail = std::string_view(document.text).substr(chunks.empty() ? 0 : chunks.back().range.end);
  SW_ASSIGN_OR_RETURN(Statement * put, Sql("INSERT INTO document(ext_id, file_id, path, title, metadata, format, "
                                           "sha256, chunker, text_bytes, n_chunks, tail) "
                                           "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT(ext_id) "
                                           "DO UPDATE SET file_id = ?2, path = ?3, "
                                           "title = ?4, metadata = ?5, format = ?6, sha256 = ?7, chunker = ?8, "
                                           "text_bytes = ?9, n_chunks = ?10, tail = ?11"));
  put->Bind(1, document.id)
      .Bind(3, document.path)
      .Bind(4, document.title)
      .Bind(5, document.metadata_json)
      .Bind(6, format);
  put->BindBlob(7, Bytes(hash)).Bind(8, chunker_).Bind(9, static_cast<int64_t>(document.text.size()));
  put->Bind(10, static_cast<int64_t>(chunks.size())).Bind(11, tail);
  SW_RETURN_IF_ERROR((file_id ? put->Bind(2, *file_id) : put->BindNull(2)).Run());
  if (found) {
    ++report_->updated;
  } else {
    doc_id = database_->last_insert_id();
    ++documents_delta_;
    ++report_->added;
  }
  return PutChunks(doc_id, document, chunks, old);
}

Status CorpusWriter::ReadOldChunks(int64_t doc_id, std::string_view tail, std::vector<OldChunk>* chunks,
                                   std::string* text) {
  SW_ASSIGN_OR_RETURN(Statement * list, Sql("SELECT chunk_id, byte_begin, byte_end, content_hash, gap, text FROM chunk "
                                            "WHERE doc_id = ?1 ORDER BY ord"));
  list->Bind(1, doc_id);
  while (true) {
    SW_ASSIGN_OR_RETURN(const bool more, list->Step());
    if (!more) break;
    OldChunk chunk{list->Int(0), {static_cast<size_t>(list->Int(1)), static_cast<size_t>(list->Int(2))}, {}};
    const std::string_view hash = list->Text(3);
    *text += list->Text(4);
    const size_t begin = text->size();
    *text += list->Text(5);
    if (hash.size() != chunk.hash.bytes.size() || chunk.range != ByteRange{begin, text->size()})
      return Corruption(StrFormat("{}: chunk {} does not fit its document; delete the corpus and index again",
                                  database_->path(), chunk.chunk_id));
    std::memcpy(chunk.hash.bytes.data(), hash.data(), hash.size());
    chunks->push_back(chunk);
  }
  *text += tail;
  return Status::Ok();
}

Status CorpusWriter::PutChunks(int64_t doc_id, const SourceDocument& document, const std::vector<Chunk>& chunks,
                               const std::vector<OldChunk>& old) {
  std::unordered_map<Hash256, std::deque<int64_t>> ids;  // of old chunks by content, in order
  for (const OldChunk& chunk : old) ids[chunk.hash].push_back(chunk.chunk_id);

  const std::string_view text = document.text;
  size_t end = 0;
  for (size_t i = 0; i < chunks.size(); ++i) {
    const Chunk& chunk = chunks[i];
    const std::string_view chunk_text = text.substr(chunk.range.begin, chunk.range.size());
    const Hash256 hash = Sha256(chunk_text);
    const auto kept = ids.find(hash);
    const bool keep = kept != ids.end() && !kept->second.empty();
    SW_ASSIGN_OR_RETURN(
        Statement * put,
        Sql(keep ? "UPDATE chunk SET ord = ?2, byte_begin = ?3, byte_end = ?4, n_tokens = ?5, gap = ?6, title = ?7, "
                   "heading = ?8 WHERE chunk_id = ?1"
                 : "INSERT INTO chunk(doc_id, ord, byte_begin, byte_end, n_tokens, gap, title, heading, text, "
                   "content_hash) "
                   "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"));
    put->Bind(1, keep ? kept->second.front() : doc_id).Bind(2, static_cast<int64_t>(i));
    put->Bind(3, static_cast<int64_t>(chunk.range.begin)).Bind(4, static_cast<int64_t>(chunk.range.end));
    put->Bind(5, static_cast<int64_t>(chunk.n_tokens)).Bind(6, text.substr(end, chunk.range.begin - end));
    put->Bind(7, document.title).Bind(8, chunk.heading_path);
    if (keep) {
      kept->second.pop_front();
    } else {
      put->Bind(9, chunk_text).BindBlob(10, Bytes(hash));
      ++report_->chunks_added;
      ++chunks_delta_;
    }
    SW_RETURN_IF_ERROR(put->Run());
    end = chunk.range.end;
  }
  for (const auto& [hash, rest] : ids) {
    for (const int64_t chunk_id : rest) {
      SW_ASSIGN_OR_RETURN(Statement * remove, Sql("DELETE FROM chunk WHERE chunk_id = ?1"));
      SW_RETURN_IF_ERROR(remove->Bind(1, chunk_id).Run());
      ++report_->chunks_removed;
      --chunks_delta_;
    }
  }
  return Status::Ok();
}

Status CorpusWriter::RemoveDocument(std::string_view document_id) {
  SW_ASSIGN_OR_RETURN(Statement * find, Sql("SELECT doc_id, n_chunks FROM document WHERE ext_id = ?1"));
  SW_ASSIGN_OR_RETURN(const bool found, find->Bind(1, document_id).Step());
  if (!found) return NotFound(StrFormat("the corpus has no document with the id {}", Quoted(document_id)));
  const int64_t doc_id = find->Int(0), n_chunks = find->Int(1);
  find->Reset();
  SW_ASSIGN_OR_RETURN(Statement * chunks, Sql("DELETE FROM chunk WHERE doc_id = ?1"));
  SW_RETURN_IF_ERROR(chunks->Bind(1, doc_id).Run());
  SW_ASSIGN_OR_RETURN(Statement * document, Sql("DELETE FROM document WHERE doc_id = ?1"));
  SW_RETURN_IF_ERROR(document->Bind(1, doc_id).Run());
  --documents_delta_;
  chunks_delta_ -= n_chunks;
  report_->chunks_removed += static_cast<size_t>(n_chunks);
  ++report_->removed;
  changed_ = true;
  return Status::Ok();
}

Status CorpusWriter::Finish() {
  if (changed_) {
    SW_ASSIGN_OR_RETURN(Statement * count, Sql("UPDATE meta SET value = value + CASE key WHEN 'documents' THEN ?1 "
                                               "WHEN 'chunks' THEN ?2 WHEN 'generation' THEN 1 ELSE 0 END"));
    SW_RETURN_IF_ERROR(count->Bind(1, documents_delta_).Bind(2, chunks_delta_).Run());
  }
  SW_ASSIGN_OR_RETURN(const int64_t chunks, database_->QueryInt("SELECT value FROM meta WHERE key = 'chunks'"));
  report_->chunks = static_cast<size_t>(chunks);
  return Status::Ok();
}

}  // namespace spanwise::retrieval

#include "retrieval/index/rebuild.h"

#include "base/str.h"
#include "retrieval/corpus_writer.h"
#include "retrieval/index/lexical.h"

namespace spanwise::retrieval {
namespace {

// Puts all chunks into an empty chunk_fts.
Status Fill(Database* database, const ProgressCallback& progress) {
  IndexProgress state;
  state.path = database->path();
  SW_ASSIGN_OR_RETURN(const int64_t total, database->QueryInt("SELECT sum(text_bytes) FROM document"));
  state.bytes_total = static_cast<uint64_t>(total);
  SW_ASSIGN_OR_RETURN(Statement read,
                      database->Prepare("SELECT chunk_id, title, heading, text FROM chunk ORDER BY chunk_id"));
  SW_ASSIGN_OR_RETURN(Statement put,
                      database->Prepare("INSERT INTO chunk_fts(rowid, title, heading, text) VALUES(?1, ?2, ?3, ?4)"));
  constexpr int kChunksPerReport = 64;
  for (int64_t n = 0;; ++n) {
    if (n % kChunksPerReport == 0 && progress && !progress(state))
      return Cancelled("making the index anew was cancelled; the corpus is as it was before");
    SW_ASSIGN_OR_RETURN(const bool more, read.Step());
    if (!more) return Status::Ok();
    put.Bind(1, read.Int(0)).Bind(2, read.Text(1)).Bind(3, read.Text(2)).Bind(4, read.Text(3));
    SW_RETURN_IF_ERROR(put.Run());
    state.bytes_done += read.Text(3).size();
  }
}

}  // namespace

Result<bool> IndexIsCurrent(Database* database) {
  SW_ASSIGN_OR_RETURN(const int64_t format, database->QueryInt("PRAGMA user_version"));
  if (format != kSchemaVersion) return false;
  SW_ASSIGN_OR_RETURN(const int64_t tokenizer, database->QueryInt("SELECT value FROM meta WHERE key = 'tokenizer'"));
  return tokenizer == TokenizerVersion();
}

Status RebuildIndex(Database* database, const ProgressCallback& progress) {
  SW_ASSIGN_OR_RETURN(const bool current, IndexIsCurrent(database));
  if (current) return Status::Ok();
  SW_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(database, Transaction::kWrite));
  SW_ASSIGN_OR_RETURN(const bool meanwhile, IndexIsCurrent(database));
  if (meanwhile) return Status::Ok();
  SW_RETURN_IF_ERROR(database->Execute("INSERT INTO chunk_fts(chunk_fts) VALUES('delete-all')"));
  SW_RETURN_IF_ERROR(Fill(database, progress));
  SW_RETURN_IF_ERROR(database->Execute(
      StrFormat("INSERT OR REPLACE INTO meta VALUES('tokenizer', {}); "
                "UPDATE meta SET value = value + 1 WHERE key = 'generation'; PRAGMA user_version = {};",
                TokenizerVersion(), kSchemaVersion)));
  return transaction.Commit();
}

Status IndexApart(Database* database, const ProgressCallback& progress) {
  SW_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(database, Transaction::kRead));
  SW_RETURN_IF_ERROR(
      database->Execute("CREATE VIRTUAL TABLE temp.chunk_fts USING fts5("
                        "title, heading, text, content='', tokenize='spanwise'); "
                        "CREATE VIRTUAL TABLE temp.chunk_terms USING fts5vocab(chunk_fts, 'row')"));
  SW_RETURN_IF_ERROR(Fill(database, progress));
  return transaction.Commit();
}

}  // namespace spanwise::retrieval

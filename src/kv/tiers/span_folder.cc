#include "kv/tiers/span_folder.h"

#include <algorithm>
#include <filesystem>

#include "kv/tiers/lmdb.h"
#include "kv/tiers/record.h"
#include "kv/tiers/span_tables.h"

namespace spanwise {
namespace {

Result<std::shared_ptr<lmdb::Env>> OpenToWrite(const std::string& folder) {
  return lmdb::Env::Open(folder, /*read_only=*/false, kSpanMapBytes);
}

bool SameFormat(const SpanFormat& one, const SpanFormat& other) {
  const KvGeometry &a = one.geometry, &b = other.geometry;
  return one.model == other.model && one.codec == other.codec && a.n_layers == b.n_layers &&
         a.n_kv_heads == b.n_kv_heads && a.head_dim == b.head_dim && a.dtype == b.dtype;
}

// What a record is of. Corruption where it would not be served.
Result<SpanFormat> CheckRecord(std::string_view key_bytes, std::string_view value, bool verify, uint64_t* n_tokens) {
  const auto record = std::as_bytes(std::span(value.data(), value.size()));
  SW_ASSIGN_OR_RETURN(const TableKey key, DecodeKey(key_bytes));
  SW_ASSIGN_OR_RETURN(const SpanFormat format, RecordFormat(record));
  if (verify) SW_RETURN_IF_ERROR(ReadRecord(format, key.parent, key.tokens, record).status());
  *n_tokens = key.tokens.size();
  return format;
}

}  // namespace

bool IsSpanFolder(const std::string& folder) {
  std::error_code error;
  return std::filesystem::is_regular_file(folder + "/data.mdb", error);
}

Result<SpanFolderReport> CheckSpanFolder(const std::string& folder, bool verify,
                                         const std::function<void(uint64_t done, uint64_t total)>& progress) {
  SW_ASSIGN_OR_RETURN(const auto env, lmdb::Env::Open(folder, /*read_only=*/true, 0));
  SW_ASSIGN_OR_RETURN(const auto txn, lmdb::Txn::Begin(env, /*read_only=*/true));
  SpanFolderReport report;
  std::error_code error;
  report.file_bytes = std::filesystem::file_size(folder + "/data.mdb", error);
  const uint64_t total = txn->Entries(env->spans);
  uint64_t n_noted = 0;
  lmdb::Cursor at(*txn, env->spans);
  for (bool any = at.Go(MDB_FIRST); any; any = at.Go(MDB_NEXT)) {
    ++report.spans;
    if (progress) progress(report.spans, total);
    MDB_val key = lmdb::Val(at.key()), use, noted;
    if (mdb_get(txn->get(), env->uses, &key, &use) == MDB_SUCCESS &&
        mdb_get(txn->get(), env->ages, &use, &noted) == MDB_SUCCESS && lmdb::Bytes(noted) == at.key()) {
      ++n_noted;
    } else {
      ++report.misnoted;
    }
    uint64_t n_tokens = 0;
    const auto format = CheckRecord(at.key(), at.value(), verify, &n_tokens);
    if (!format.ok()) {
      ++report.damaged;
      continue;
    }
    auto model = std::ranges::find_if(
        report.models, [&](const SpanFolderReport::OfModel& m) { return SameFormat(m.format, *format); });
    if (model == report.models.end()) model = report.models.insert(model, {.format = *format});
    ++model->spans;
    model->tokens += n_tokens;
  }
  SW_RETURN_IF_ERROR(at.status());
  for (const MDB_dbi table : {env->uses, env->ages}) report.misnoted += txn->Entries(table) - n_noted;
  return report;
}

Result<uint64_t> LastUse(const std::string& folder) {
  SW_ASSIGN_OR_RETURN(const auto env, OpenToWrite(folder));
  SW_ASSIGN_OR_RETURN(const auto txn, lmdb::Txn::Begin(env, /*read_only=*/true));
  return SpanTables(*env, *txn).LastUse();
}

Result<uint64_t> RemoveUnusedSince(const std::string& folder, uint64_t use) {
  SW_ASSIGN_OR_RETURN(const auto env, OpenToWrite(folder));
  SW_ASSIGN_OR_RETURN(const auto txn, lmdb::Txn::Begin(env, /*read_only=*/false));
  SW_ASSIGN_OR_RETURN(const uint64_t n, SpanTables(*env, *txn).RemoveUnusedSince(use));
  SW_RETURN_IF_ERROR(txn->Commit());
  return n;
}

}  // namespace spanwise

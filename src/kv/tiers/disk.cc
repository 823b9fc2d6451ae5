#include "kv/tiers/disk.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "base/str.h"
#include "kv/tiers/record.h"

namespace spanwise {
namespace {

constexpr uint64_t kBatchBytes = uint64_t{16} << 20;
constexpr size_t kMostQueued = 1 << 16;  // of all kinds
// Uses are noted with the next spans that are written, or after this long.
constexpr std::chrono::seconds kTouchDelay(2);
constexpr std::chrono::seconds kPauseAfterFailure(30);

// A folder's files under another name, so that nothing is lost that somebody may want to look at.
void SetAside(const std::string& folder) {
  std::error_code ignored;
  std::filesystem::rename(folder + "/data.mdb", folder + "/data.mdb.damaged", ignored);
  std::filesystem::remove(folder + "/lock.mdb", ignored);
}

uint64_t QuarterOfDisk(const std::string& folder) {
  std::error_code error;
  const auto space = std::filesystem::space(folder, error);
  if (error) return uint64_t{1} << 30;
  const auto file = std::filesystem::file_size(folder + "/data.mdb", error);
  return (space.available + (error ? 0 : file)) / 4;
}

// Of two keys of records: 0 if they have different parents, too.
size_t CommonTokens(std::string_view a, std::string_view b) {
  const auto common = static_cast<size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
  return common < sizeof(SpanKey) ? 0 : (common - sizeof(SpanKey)) / sizeof(int32_t);
}

// A folder that is only read holds the spans of one model, so that the first tells of all.
Status WarnIfForeign(const SpanFormat& format, const DiskTierOptions& options, const std::shared_ptr<lmdb::Env>& env) {
  SW_ASSIGN_OR_RETURN(const auto txn, lmdb::Txn::Begin(env, /*read_only=*/true));
  lmdb::Cursor first(*txn, env->spans);
  if (!first.Go(MDB_FIRST)) return first.status();
  const auto its = RecordFormat(std::as_bytes(std::span(first.value().data(), first.value().size())));
  if (its.ok() && its->codec != format.codec) {
    options.warn(StrFormat("{}: its KV is written by codec {}, expected {}: nothing of it is used", options.folder,
                           its->codec->name, format.codec->name));
  } else if (its.ok() && its->model != format.model) {
    options.warn(
        StrFormat("{}: was made with another model, other types of weights or KV, or on another kind of CPU: "
                  "nothing of it is used",
                  options.folder));
  }
  return Status::Ok();
}

}  // namespace

Result<std::unique_ptr<DiskTier>> DiskTier::Open(const SpanFormat& format, const DiskTierOptions& options) {
  const uint64_t map = options.read_only ? 0 : std::max(kSpanMapBytes, options.budget_bytes + options.budget_bytes / 4);
  auto env = lmdb::Env::Open(options.folder, options.read_only, map);
  if (!env.ok() && env.status().code() == StatusCode::kCorruption && !options.read_only) {
    if (options.warn) options.warn(StrFormat("{}; it is set aside, and kept KV begins anew", env.status().message()));
    SetAside(options.folder);
    env = lmdb::Env::Open(options.folder, options.read_only, map);
  }
  if (!env.ok()) return env.status();
  if (options.read_only && options.warn) SW_RETURN_IF_ERROR(WarnIfForeign(format, options, *env));
  return std::unique_ptr<DiskTier>(new DiskTier(format, options, std::move(*env)));
}

DiskTier::DiskTier(const SpanFormat& format, const DiskTierOptions& options, std::shared_ptr<lmdb::Env> env)
    : format_(format), options_(options), env_(std::move(env)) {
  if (options_.read_only) return;
  budget_bytes_ = options_.budget_bytes ? options_.budget_bytes : QuarterOfDisk(options_.folder);
  writer_ = std::thread([this] { Loop(); });
}

DiskTier::~DiskTier() {
  if (!writer_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  writer_.join();
}

void DiskTier::Warn(const Status& status, std::string_view consequence, bool* said) {
  if (!std::exchange(*said, true) && options_.warn)
    options_.warn(StrFormat("kept KV: {}; {}", status.message(), consequence));
}

Result<std::shared_ptr<lmdb::Txn>> DiskTier::Snapshot() {
  if (auto txn = snapshot_.lock(); txn && txn->id() == env_->LastTxnId()) return txn;
  SW_ASSIGN_OR_RETURN(auto txn, lmdb::Txn::Begin(env_, /*read_only=*/true));
  if (txn->id() != snapshot_id_) checked_.clear();  // other bytes may stand there by now
  snapshot_ = txn;
  snapshot_id_ = txn->id();
  return txn;
}

std::nullopt_t DiskTier::FailToRead(const Status& status) {
  Warn(status, "it is not read from any more", &read_failed_);
  read_failed_ = true;
  return std::nullopt;
}

Result<std::optional<DiskTier::Place>> DiskTier::Look(const lmdb::Txn& txn, MDB_dbi spans, const SpanKey& parent,
                                                      std::span<const int32_t> tokens, int more_than) {
  // The longest common beginning stands at the place of the tokens or right before it.
  std::optional<Place> best;
  auto longest = static_cast<size_t>(std::max(0, more_than));
  const std::string wanted = EncodeKey(parent, tokens);
  lmdb::Cursor at(txn, spans);
  const auto look = [&] {
    const size_t common = CommonTokens(at.key(), wanted);
    if (common <= longest) return Status::Ok();
    SW_ASSIGN_OR_RETURN(TableKey key, DecodeKey(at.key()));
    longest = common;
    best = Place{.parent = parent,
                 .tokens = std::move(key.tokens),
                 .record = std::as_bytes(std::span(at.value().data(), at.value().size()))};
    return Status::Ok();
  };
  const bool any = at.Go(MDB_SET_RANGE, wanted);
  if (any) SW_RETURN_IF_ERROR(look());
  if (longest < tokens.size() && at.Go(any ? MDB_PREV : MDB_LAST)) SW_RETURN_IF_ERROR(look());
  SW_RETURN_IF_ERROR(at.status());
  return best;
}

std::optional<std::span<const std::byte>> DiskTier::Check(const Place& place) {
  if (checked_.contains(place.record.data())) return place.record.subspan(sizeof(RecordHeader));
  const auto rows = ReadRecord(format_, place.parent, place.tokens, place.record);
  if (rows.ok()) {
    checked_.insert(place.record.data());
    return *rows;
  }
  ++damaged_;
  Add({.kind = Work::Kind::kRemove, .key = EncodeKey(place.parent, place.tokens), .record = {}});
  return std::nullopt;
}

std::optional<Tier::Found> DiskTier::Find(const SpanKey& parent, std::span<const int32_t> tokens, int more_than) {
  ++misses_;  // until it is found
  if (read_failed_) return std::nullopt;
  auto txn = Snapshot();
  if (!txn.ok()) return FailToRead(txn.status());
  auto place = Look(**txn, env_->spans, parent, tokens, more_than);
  if (!place.ok()) return FailToRead(place.status());
  if (!*place) return std::nullopt;
  const auto rows = Check(**place);
  if (!rows) return std::nullopt;
  --misses_;
  ++hits_;
  return Found{.tokens = std::move((*place)->tokens), .rows = *rows, .hold = std::move(*txn)};
}

std::shared_ptr<const std::byte> DiskTier::Map(const SpanKey& parent, std::span<const int32_t> tokens) {
  // Who writes wants to use pages again that were freed, and cannot while somebody reads what was there before.
  if (!options_.read_only || !format_.codec->exact) return nullptr;
  const auto found = Find(parent, tokens, static_cast<int>(tokens.size()) - 1);
  // Small records stand in the pages of the tree, anyhow.
  if (!found || reinterpret_cast<uintptr_t>(found->rows.data()) % KvBlock::kAlignment != 0) return nullptr;
  return {found->hold, found->rows.data()};
}

void DiskTier::Expect(std::span<const WantedRun> runs, ThreadPool& pool) {
  if (read_failed_) return;
  const auto txn = Snapshot();
  if (!txn.ok()) return;  // whoever looks for a span says it
  std::vector<Place> fresh;
  for (const WantedRun& run : runs) {
    SpanKey before = run.address.root;
    for (size_t first = 0; first < run.tokens.size(); first += kKvBlockTokens) {
      const auto tokens = run.tokens.subspan(first, std::min<size_t>(run.tokens.size() - first, kKvBlockTokens));
      const SpanKey parent = run.address.ParentOf(static_cast<int>(first), before);
      auto place = Look(**txn, env_->spans, parent, tokens, 0);
      if (!place.ok() || !*place) break;
      const bool whole = tokens.size() == kKvBlockTokens && std::ranges::equal((*place)->tokens, tokens);
      if (!checked_.contains((*place)->record.data())) {
        lmdb::WillNeed((*place)->record);  // the disk has all of them to read before the first is waited for
        fresh.push_back(std::move(**place));
      }
      if (!whole) break;
      before = ChildKey(parent, tokens);
    }
  }
  std::vector<char> sound(fresh.size());
  pool.ParallelFor(fresh.size(), [&](size_t i) {
    sound[i] = ReadRecord(format_, fresh[i].parent, fresh[i].tokens, fresh[i].record).ok();
  });
  for (size_t i = 0; i < fresh.size(); ++i)
    if (sound[i]) checked_.insert(fresh[i].record.data());
}

bool DiskTier::Has(const SpanKey& parent, std::span<const int32_t> tokens) {
  if (read_failed_) return false;
  const auto txn = lmdb::Txn::Begin(env_, /*read_only=*/true);
  if (!txn.ok()) return false;
  const std::string key = EncodeKey(parent, tokens);
  lmdb::Cursor at(**txn, env_->spans);
  return at.Go(MDB_SET_RANGE, key) && at.key().starts_with(key);
}

bool DiskTier::Keep(const Span& span, std::span<const std::byte> rows) {
  if (options_.read_only) return true;
  const uint64_t bytes = RecordBytes(format_, span.n_tokens());
  {
    std::unique_lock lock(mutex_);
    const auto has_room = [&] {
      return queue_.size() < kMostQueued && (queue_.empty() || queued_bytes_ + bytes <= options_.queue_bytes);
    };
    if (options_.wait_when_full) room_.wait(lock, has_room);
    if (!has_room() || std::chrono::steady_clock::now() < paused_until_) {
      ++counts_.lost_spans;
      return false;
    }
  }
  Work work{.kind = Work::Kind::kPut, .key = EncodeKey(span.parent, span.tokens), .record = {}};
  work.record.resize(bytes);
  WriteRecord(format_, span, rows, work.record);
  Add(std::move(work));
  return true;
}

void DiskTier::Touch(const SpanKey& parent, std::span<const int32_t> tokens) {
  if (options_.read_only) return;
  // Order matters only to eviction, which comes as far as is written: now and then is enough.
  if (const uint64_t written = n_written_bytes_; written - touched_since_ > budget_bytes_ / 64) {
    touched_.clear();
    touched_since_ = written;
  }
  std::string key = EncodeKey(parent, tokens);
  if (touched_.insert(Xxh3(key)).second) Add({.kind = Work::Kind::kTouch, .key = std::move(key), .record = {}});
}

void DiskTier::Add(Work work) {
  if (options_.read_only) return;
  const bool put = work.kind == Work::Kind::kPut;
  {
    std::unique_lock lock(mutex_);
    if (options_.wait_when_full) room_.wait(lock, [&] { return queue_.size() < kMostQueued; });
    if (!put && queue_.size() >= kMostQueued) return;
    if (put) {
      // Ends that this one continues, if they are not written yet.
      std::erase_if(queue_, [&](const Work& other) {
        if (other.kind != Work::Kind::kPut || !work.key.starts_with(other.key)) return false;
        queued_bytes_ -= other.record.size();
        --n_queued_puts_;
        return true;
      });
      queued_bytes_ += work.record.size();
      ++n_queued_puts_;
    }
    queue_.push_back(std::move(work));
  }
  if (put) work_.notify_one();
}

void DiskTier::Flush() {
  std::unique_lock lock(mutex_);
  ++n_flushing_;
  work_.notify_all();
  room_.wait(lock, [&] { return (queue_.empty() && !writing_) || options_.read_only; });
  --n_flushing_;
}

TierStats DiskTier::stats() const {
  TierStats stats;
  {
    const std::lock_guard lock(mutex_);
    stats = counts_;
  }
  stats.budget_bytes = budget_bytes_;
  stats.hits = hits_;
  stats.misses = misses_;
  stats.damaged_spans = damaged_;
  if (const auto txn = lmdb::Txn::Begin(env_, /*read_only=*/true); txn.ok()) {
    stats.spans = (*txn)->Entries(env_->spans);
    stats.bytes = (*txn)->BytesInUse();
  }
  return stats;
}

void DiskTier::Loop() {
  std::unique_lock lock(mutex_);
  while (true) {
    const auto wanted = [&] {
      return n_queued_puts_ > 0 || stopping_ || (n_flushing_ > 0 && !queue_.empty()) || queue_.size() >= kMostQueued;
    };
    while (!wanted() && work_.wait_for(lock, kTouchDelay) == std::cv_status::no_timeout) {
    }
    if (queue_.empty()) {
      room_.notify_all();
      if (stopping_) return;
      continue;
    }
    const std::vector<Work> batch = NextBatch();
    writing_ = true;
    lock.unlock();
    room_.notify_all();
    TierStats done;
    const Status status = Write(batch, &done);
    lock.lock();
    writing_ = false;
    counts_.lost_spans += done.lost_spans;
    if (status.ok()) {
      counts_.written_spans += done.written_spans;
      counts_.written_bytes += done.written_bytes;
      n_written_bytes_ += done.written_bytes;
      counts_.evicted_spans += done.evicted_spans;
    } else {
      counts_.lost_spans +=
          static_cast<uint64_t>(std::ranges::count(batch, Work::Kind::kPut, &Work::kind)) - done.lost_spans;
      paused_until_ = std::chrono::steady_clock::now() + kPauseAfterFailure;
      Warn(status, "what cannot be kept is computed again", &write_failed_);
    }
    room_.notify_all();
  }
}

std::vector<DiskTier::Work> DiskTier::NextBatch() {
  std::vector<Work> batch;
  const uint64_t most = std::min(kBatchBytes, budget_bytes_ / 8);
  uint64_t bytes = 0;
  while (!queue_.empty() && (batch.empty() || bytes + queue_.front().record.size() <= most)) {
    bytes += queue_.front().record.size();
    n_queued_puts_ -= queue_.front().kind == Work::Kind::kPut;
    batch.push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
  queued_bytes_ -= bytes;
  return batch;
}

Status DiskTier::Write(const std::vector<Work>& batch, TierStats* done) {
  int dead = 0;
  mdb_reader_check(env_->get(), &dead);  // pages that a killed process was reading can be used again
  SW_ASSIGN_OR_RETURN(const auto txn, lmdb::Txn::Begin(env_, /*read_only=*/false));
  SpanTables tables(*env_, *txn);
  for (const Work& work : batch) {
    switch (work.kind) {
      case Work::Kind::kTouch:
        SW_RETURN_IF_ERROR(tables.Touch(work.key));
        break;
      case Work::Kind::kRemove:
        SW_RETURN_IF_ERROR(tables.Remove(work.key).status());
        break;
      case Work::Kind::kPut: {
        if (work.record.size() > budget_bytes_) {
          ++done->lost_spans;
          break;
        }
        SW_ASSIGN_OR_RETURN(const bool added, tables.Put(work.key, work.record));
        done->written_spans += added;
        done->written_bytes += added ? work.record.size() : 0;
      }
    }
  }
  // Pages that become free here are used from a later transaction on, so the file is larger by some batches.
  while (txn->BytesInUse() > budget_bytes_) {
    SW_ASSIGN_OR_RETURN(const bool evicted, tables.EvictOne());
    if (!evicted) break;
    ++done->evicted_spans;
  }
  return txn->Commit();
}

}  // namespace spanwise

#include "kv/tiers/disk.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <limits>
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
// Are checked between two looks at what else is asked for.
constexpr size_t kSlice = 64;

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

// A fault of the disk, not of what was asked for: reuse is lost, nothing else.
bool IsTrouble(const Status& status) {
  return status.code() == StatusCode::kUnavailable || status.code() == StatusCode::kResourceExhausted;
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
  if (!env.ok() && !options.read_only && !options.wait_when_full && IsTrouble(env.status()))
    return OpenUnwritable(format, options, env.status());
  if (!env.ok()) return env.status();
  if (options.read_only && options.warn) SW_RETURN_IF_ERROR(WarnIfForeign(format, options, *env));
  // A disk that is full can have room again, and somebody who writes.
  const bool in_place = options.read_only && (*env)->locks() != lmdb::Env::Locks::kNoRoom;
  return std::unique_ptr<DiskTier>(new DiskTier(format, options, std::move(*env), in_place));
}

std::unique_ptr<DiskTier> DiskTier::OpenUnwritable(const SpanFormat& format, const DiskTierOptions& options,
                                                   const Status& why) {
  auto env = lmdb::Env::Open(options.folder, /*read_only=*/true, 0);
  const bool in_use = env.ok() && (*env)->in_use();
  const bool readable = env.ok() && !in_use;
  if (options.warn)
    options.warn(StrFormat("kept KV: {}; {}", why.message(),
                           readable ? "what is there is read, and nothing more is kept"
                           : in_use ? "another process is using it, so it is not read either: nothing is kept"
                                    : "nothing is kept"));
  if (!readable) return nullptr;
  DiskTierOptions reading = options;
  reading.read_only = true;
  return std::unique_ptr<DiskTier>(new DiskTier(format, reading, std::move(*env), /*in_place=*/false));
}

DiskTier::DiskTier(const SpanFormat& format, const DiskTierOptions& options, std::shared_ptr<lmdb::Env> env,
                   bool in_place)
    : format_(format),
      options_(options),
      env_(std::move(env)),
      copies_(options.read_only && !in_place && env_->locks() != lmdb::Env::Locks::kHeld),
      in_place_(in_place && format.codec->exact),
      pool_(options.read_threads),
      ready_(!in_place || options.ready_bytes == 0) {
  reader_ = std::thread([this] { ReadLoop(); });
  if (options_.read_only) return;
  budget_bytes_ =
      options_.budget_bytes ? options_.budget_bytes : std::max(QuarterOfDisk(options_.folder), BytesThere());
  writer_ = std::thread([this] { Loop(); });
}

// What goes leaves the disk no more room: the file stays as long as it is.
uint64_t DiskTier::BytesThere() const {
  const auto txn = lmdb::Txn::Begin(env_, /*read_only=*/true);
  return txn.ok() ? (*txn)->BytesInUse() : 0;
}

DiskTier::~DiskTier() {
  fetches_.Stop();
  reader_.join();
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
  const std::lock_guard lock(read_mutex_);
  return SnapshotLocked();
}

Result<std::shared_ptr<lmdb::Txn>> DiskTier::SnapshotLocked() {
  if (auto txn = snapshot_.lock(); txn && txn->id() == env_->LastTxnId()) return txn;
  SW_ASSIGN_OR_RETURN(auto txn, lmdb::Txn::Begin(env_, /*read_only=*/true));
  if (txn->id() != snapshot_id_) known_.clear();  // other bytes may stand there by now
  snapshot_ = txn;
  snapshot_id_ = txn->id();
  return txn;
}

void DiskTier::FailToRead(const Status& status) {
  const bool passes = status.code() == StatusCode::kResourceExhausted;  // others hold all places of readers
  if (!passes) read_failed_ = true;
  bool said = read_failure_said_.exchange(true);
  Warn(status, passes ? "what is there is computed again as long as that lasts" : "it is not read from any more",
       &said);
}

std::shared_ptr<Fetch> DiskTier::Prefetch(std::span<const Wanted> spans, bool urgent) {
  if (read_failed_) return nullptr;
  const auto bytes_of = [&](size_t n) { return RecordBytes(format_, static_cast<int>(n)); };
  // They stay where they are: there is room for any number.
  return fetches_.Ask(spans, urgent, bytes_of, copies_ ? options_.queue_bytes : std::numeric_limits<uint64_t>::max());
}

void DiskTier::ReadLoop() {
  Readiness readiness;
  while (!fetches_.stopped()) {
    if (const auto order = fetches_.Next()) {
      Load(order);
    } else if (!ready_ && idle_ && !read_failed_) {
      if (!GetReady(&readiness).ok()) ready_ = true;  // whoever asks for something meets it, and says it
    } else {
      fetches_.Wait();
    }
  }
  fetches_.EndAll();
}

void DiskTier::Load(const std::shared_ptr<FetchQueue::Order>& order) {
  order->Begin();
  const auto load = [&]() -> Status {
    SW_ASSIGN_OR_RETURN(const auto txn, Snapshot());
    std::vector<Place> places;
    for (const FetchQueue::Order::Part& part : order->parts) {
      if (!part.waits()) continue;
      FetchQueue::Item& item = *part.item;
      SW_ASSIGN_OR_RETURN(auto place, Look(*txn, env_->spans, item.parent, item.tokens));
      if (!place) {
        ++misses_;
        if (order->urgent) item.state = FetchQueue::Item::State::kMissing;
        continue;
      }
      place->key = place->tokens == item.tokens ? item.key : ChildKey(place->parent, place->tokens);
      place->item = &item;
      {
        const std::lock_guard lock(read_mutex_);
        const auto known = known_.find(place->key);
        place->known =
            txn->id() == snapshot_id_ && known != known_.end() && known->second.data() == place->record.data();
      }
      if (!place->known)
        lmdb::WillNeed(place->record);  // the disk has all of them to read before the first is waited for
      places.push_back(std::move(*place));
    }
    order->Answered();
    for (std::span<Place> rest(places); !rest.empty();) {
      if (order.use_count() == 1) return Status::Ok();  // nobody waits any more
      if (!order->urgent)
        while (const auto urgent = fetches_.NextUrgent()) Load(urgent);
      const std::span<Place> slice = rest.first(std::min(rest.size(), kSlice));
      rest = rest.subspan(slice.size());
      if (copies_)
        for (Place& place : slice) {
          place.copy = std::make_shared<std::vector<std::byte>>(place.record.begin(), place.record.end());
          place.record = *place.copy;
        }
      Check(txn, slice, /*while_idle=*/false);
      // Two transactions later these pages may be written over.
      if (copies_ && env_->LastTxnId() != txn->id())
        return Unavailable(options_.folder + ": another process writes to it, and its lock file cannot be written");
      for (Place& place : slice) {
        const auto copy = std::move(place.copy);  // goes here unless somebody takes it
        if (!place.known) order->Came(place.record.size());
        ++(place.sound ? hits_ : misses_);
        if (!place.sound) {
          ++damaged_;
          Add({.kind = Work::Kind::kRemove, .key = EncodeKey(place.parent, place.tokens), .record = {}});
        }
        if (!order->urgent) continue;  // by its turn the folder may be another one: it is looked up again, then
        if (place.sound)
          place.item->found = {.tokens = std::move(place.tokens),
                               .rows = place.record.subspan(sizeof(RecordHeader)),
                               .hold = copy ? std::shared_ptr<const void>(copy) : txn};
        place.item->state = place.sound ? FetchQueue::Item::State::kHere : FetchQueue::Item::State::kMissing;
      }
    }
    return Status::Ok();
  };
  if (!read_failed_)
    if (const Status status = load(); !status.ok()) FailToRead(status);
  fetches_.End(*order);
}

Result<std::optional<DiskTier::Place>> DiskTier::Look(const lmdb::Txn& txn, MDB_dbi spans, const SpanKey& parent,
                                                      std::span<const int32_t> tokens) {
  // The longest common beginning stands at the place of the tokens or right before it.
  std::optional<Place> best;
  size_t longest = 0;
  const std::string wanted = EncodeKey(parent, tokens);
  lmdb::Cursor at(txn, spans);
  const auto look = [&] {
    const size_t common = CommonTokens(at.key(), wanted);
    if (common <= longest) return Status::Ok();
    SW_ASSIGN_OR_RETURN(TableKey key, DecodeKey(at.key()));
    longest = common;
    best = Place{.key = {},
                 .parent = parent,
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

bool DiskTier::Check(const std::shared_ptr<lmdb::Txn>& txn, std::span<Place> places, bool while_idle) {
  std::atomic<bool> all = true;
  pool_.ParallelFor(places.size(), [&](size_t i) {
    Place& place = places[i];
    if (while_idle && !idle_) {
      all = false;
    } else {
      place.sound = place.known || ReadRecord(format_, place.parent, place.tokens, place.record).ok();
    }
  });
  const std::lock_guard lock(read_mutex_);
  if (txn->id() == snapshot_id_ && !copies_)
    for (const Place& place : places)
      if (place.sound && !place.known) known_.emplace(place.key, place.record);
  return all;
}

// Goes through the records in the order of their keys. What is written meanwhile is checked when it is used.
Status DiskTier::GetReady(Readiness* readiness) {
  SW_ASSIGN_OR_RETURN(const auto txn, Snapshot());
  if (std::exchange(readiness->txn_id, txn->id()) != txn->id() && !readiness->next.empty()) {
    ready_ = true;
    return Status::Ok();
  }
  std::vector<Place> places;
  lmdb::Cursor at(*txn, env_->spans);
  bool any = readiness->next.empty() ? at.Go(MDB_FIRST) : at.Go(MDB_SET_RANGE, readiness->next);
  for (; any && places.size() < kSlice; any = at.Go(MDB_NEXT)) {
    SW_ASSIGN_OR_RETURN(TableKey key, DecodeKey(at.key()));
    Place& place = places.emplace_back();
    place.parent = key.parent;
    place.tokens = std::move(key.tokens);
    place.key = ChildKey(place.parent, place.tokens);
    place.record = std::as_bytes(std::span(at.value().data(), at.value().size()));
    lmdb::WillNeed(place.record);
  }
  SW_RETURN_IF_ERROR(at.status());
  if (!Check(txn, places, /*while_idle=*/true)) return Status::Ok();  // goes on here another time
  for (const Place& place : places) readiness->n_bytes += place.sound ? place.record.size() : 0;
  ready_ = !any || readiness->n_bytes >= options_.ready_bytes;
  if (any) readiness->next = at.key();
  return Status::Ok();
}

void DiskTier::Idle(bool idle) {
  idle_ = idle;
  if (idle && !ready_) fetches_.Wake();
}

std::shared_ptr<const std::byte> DiskTier::Map(const SpanKey& key, std::span<const int32_t> tokens) {
  // Who writes wants to use pages again that were freed, and cannot while somebody reads what was there before.
  if (!reads_in_place() || read_failed_) return nullptr;
  std::shared_ptr<const void> hold;
  std::span<const std::byte> rows;
  {
    const std::lock_guard lock(read_mutex_);
    if (known_.contains(key)) {
      auto txn = SnapshotLocked();
      if (!txn.ok()) return nullptr;
      if (const auto known = known_.find(key); known != known_.end()) {
        rows = known->second.subspan(sizeof(RecordHeader));
        hold = std::move(*txn);
      }
    }
  }
  if (!hold) {
    const auto found = fetches_.Find(key, tokens, static_cast<int>(tokens.size()) - 1);
    if (!found) return nullptr;
    rows = found->rows;
    hold = found->hold;
  }
  RecordHeader header;
  std::memcpy(&header, rows.data() - sizeof header, sizeof header);
  if (!std::ranges::equal(std::span(header.tokens, header.n_tokens), tokens)) return nullptr;
  // Small records stand in the pages of the tree, anyhow.
  if (reinterpret_cast<uintptr_t>(rows.data()) % KvBlock::kAlignment != 0) return nullptr;
  return {std::move(hold), rows.data()};
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

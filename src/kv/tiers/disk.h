// Spans in a folder on disk: they outlive the process, and several processes may share them.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/thread_pool.h"
#include "kv/tiers/fetch_queue.h"
#include "kv/tiers/lmdb.h"
#include "kv/tiers/span_tables.h"
#include "kv/tiers/tier.h"
#include "spanwise/status.h"

namespace spanwise {

struct DiskTierOptions {
  std::string folder = {};    // made where there is none
  bool read_only = false;     // a folder made elsewhere, that others may share; nothing is offered to it
  uint64_t budget_bytes = 0;  // 0: a quarter of what the file system has free, with what the folder holds already
  uint64_t queue_bytes = uint64_t{64} << 20;  // that wait to be written
  // Nothing may be lost: Offer waits for the disk, and a folder that cannot be written is an error.
  bool wait_when_full = false;
  int read_threads = 0;  // that check what was read; 0: as many as there are CPUs for this process
  // Of a folder that is only read, so much is read and checked before anybody asks, while the engine has nothing to do.
  uint64_t ready_bytes = 0;
  // Called at most once for each kind of trouble, from any thread.
  std::function<void(const std::string& message)> warn = {};
};

// Looks up, reads and checks on a thread of its own, with others that check; blocks of a folder that is only read may
// be attended where they are, if they are written as they are. Writes on one more, many spans in a transaction, after
// each of which they are on disk as a whole or not at all, whatever becomes of process or machine. Past the budget
// spans used longest ago go. A folder that is damaged as a whole is set aside, and begun anew. Format:
// docs/formats/span-store.md.
class DiskTier final : public Tier {
 public:
  // A folder that cannot be written is only read, and nullptr where there is nothing that can be read either; both are
  // warnings. InvalidArgument: the folder is a file, or of another format; NotFound: read_only and there is none;
  // Unavailable or ResourceExhausted: read_only or wait_when_full, and it cannot be opened as that needs.
  static Result<std::unique_ptr<DiskTier>> Open(const SpanFormat& format, const DiskTierOptions& options);
  // Waits until what was offered is written.
  ~DiskTier() override;

  const SpanFormat& format() const override { return format_; }
  std::shared_ptr<Fetch> Prefetch(std::span<const Wanted> spans, bool urgent) override;
  void OnFetched(const std::function<void()>& call) override { fetches_.OnEnd(call); }
  std::optional<Found> Find(const SpanKey& key, std::span<const int32_t> tokens, int more_than) override {
    return fetches_.Find(key, tokens, more_than);
  }
  bool reads_in_place() const override { return in_place_; }
  std::shared_ptr<const std::byte> Map(const SpanKey& key, std::span<const int32_t> tokens) override;
  void Idle(bool idle) override;
  bool Has(const SpanKey& parent, std::span<const int32_t> tokens) override;
  bool Keep(const Span& span, std::span<const std::byte> rows) override;
  void Touch(const SpanKey& parent, std::span<const int32_t> tokens) override;
  void Flush() override;
  TierStats stats() const override;

 private:
  struct Work {
    enum class Kind { kPut, kTouch, kRemove };
    Kind kind;
    std::string key;
    std::vector<std::byte> record;  // of kPut
  };

  // A record as it lies in the map, and whose it is.
  struct Place {
    SpanKey key, parent;
    std::vector<int32_t> tokens;
    std::span<const std::byte> record;
    std::shared_ptr<std::vector<std::byte>> copy = {};  // that it lies in instead
    FetchQueue::Item* item = nullptr;                   // that it was looked up for
    bool known = false;
    bool sound = false;
  };
  // How far a folder that is only read was checked before anybody asked.
  struct Readiness {
    size_t txn_id = 0;     // 0: not begun
    std::string next;      // key of the next record
    uint64_t n_bytes = 0;  // checked
  };

  DiskTier(const SpanFormat& format, const DiskTierOptions& options, std::shared_ptr<lmdb::Env> env, bool in_place);
  // Opens a folder that is not to be written because of `why`.
  static std::unique_ptr<DiskTier> OpenUnwritable(const SpanFormat& format, const DiskTierOptions& options,
                                                  const Status& why);
  uint64_t BytesThere() const;
  // The folder as it is now. Who reads it in place holds on to it; as long as nobody writes, all hold the same one.
  Result<std::shared_ptr<lmdb::Txn>> Snapshot();
  Result<std::shared_ptr<lmdb::Txn>> SnapshotLocked();  // REQUIRES: read_mutex_ is held
  void FailToRead(const Status& status);

  void ReadLoop();
  void Load(const std::shared_ptr<FetchQueue::Order>& order);
  // The record whose tokens have the longest beginning in common with these.
  static Result<std::optional<Place>> Look(const lmdb::Txn& txn, MDB_dbi spans, const SpanKey& parent,
                                           std::span<const int32_t> tokens);
  // Says of each whether it is as it was written, and remembers those that are until the folder is written to. With
  // `while_idle` those are left out that come up when the engine has something to do; false then.
  bool Check(const std::shared_ptr<lmdb::Txn>& txn, std::span<Place> places, bool while_idle);
  Status GetReady(Readiness* readiness);

  void Warn(const Status& status, std::string_view consequence, bool* said);
  void Add(Work work);
  void Loop();
  std::vector<Work> NextBatch();  // REQUIRES: mutex_ is held
  Status Write(const std::vector<Work>& batch, TierStats* done);

  const SpanFormat format_;
  const DiskTierOptions options_;
  const std::shared_ptr<lmdb::Env> env_;
  const bool copies_;    // what is read, for want of locks that would keep it as it is
  const bool in_place_;  // blocks may be attended where they are
  uint64_t budget_bytes_ = 0;

  // Of the engine's thread.
  std::unordered_set<uint64_t> touched_;  // hashes of keys whose use was noted since ...
  uint64_t touched_since_ = 0;            // ... so much had been written

  FetchQueue fetches_;
  ThreadPool pool_;  // of the reader
  std::atomic<bool> read_failed_ = false, read_failure_said_ = false, idle_ = true;
  std::atomic<bool> ready_;  // nothing is checked any more before somebody asks
  std::atomic<uint64_t> hits_ = 0, misses_ = 0, damaged_ = 0;
  std::mutex read_mutex_;
  std::weak_ptr<lmdb::Txn> snapshot_;  // guarded by read_mutex_
  size_t snapshot_id_ = 0;             // guarded by read_mutex_; of the last one
  // Guarded by read_mutex_; records of that snapshot that are as they were written.
  std::unordered_map<SpanKey, std::span<const std::byte>> known_;

  std::atomic<uint64_t> n_written_bytes_ = 0;

  mutable std::mutex mutex_;
  std::condition_variable work_, room_;
  std::deque<Work> queue_;                              // guarded by mutex_
  uint64_t queued_bytes_ = 0;                           // guarded by mutex_
  size_t n_queued_puts_ = 0;                            // guarded by mutex_
  size_t n_flushing_ = 0;                               // guarded by mutex_; callers that wait for all of it
  bool writing_ = false;                                // guarded by mutex_
  bool stopping_ = false;                               // guarded by mutex_
  bool write_failed_ = false;                           // guarded by mutex_; it was said
  TierStats counts_;                                    // guarded by mutex_; of what was written, evicted and lost
  std::chrono::steady_clock::time_point paused_until_;  // guarded by mutex_; after a failure
  std::thread reader_, writer_;
};

}  // namespace spanwise

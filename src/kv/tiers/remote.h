// Spans on a Valkey or Redis server: several machines share them.
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
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

#include "kv/tiers/fetch_queue.h"
#include "kv/tiers/resp.h"
#include "kv/tiers/tier.h"
#include "spanwise/status.h"

namespace spanwise {

struct RemoteTierOptions {
  RespOptions server = {};                       // most_reply_bytes is set by the tier
  int64_t ttl_s = 0;                             // spans not used for so long are forgotten; 0: as the server decides
  uint64_t queue_bytes = uint64_t{64} << 20;     // that wait to be sent
  uint64_t arrived_bytes = uint64_t{256} << 20;  // of fetches that live, asked for or here
  std::chrono::milliseconds first_pause{1000}, longest_pause{30'000};  // before connecting again
  // Called once, from any thread, when the server cannot be used as it should be.
  std::function<void(const std::string& message)> warn = {};
};

// The engine's thread never waits for the network: Prefetch asks for spans, a thread of the tier brings and checks
// them, and Find sees only what has come. What is offered is sent by another thread, on a connection of its own. A
// server that fails is left alone for a while: nothing is fetched, what is offered is lost, and computed again where it
// is needed. Of the spans that follow another one only those are found whose tokens are all asked for. Keys and values:
// docs/formats/span-store.md.
class RemoteTier final : public Tier {
 public:
  // InvalidArgument, NotFound: see RespServer::Create. A server that does not answer is no error.
  static Result<std::unique_ptr<RemoteTier>> Open(const SpanFormat& format, const RemoteTierOptions& options);
  // Sends what was offered, if the server takes it soon.
  ~RemoteTier() override;

  const SpanFormat& format() const override { return format_; }
  KvSource source() const override { return KvSource::kRemote; }
  std::shared_ptr<Fetch> Prefetch(std::span<const Wanted> spans, bool urgent) override;
  std::optional<Found> Find(const SpanKey& key, std::span<const int32_t> tokens, int more_than) override {
    return fetches_.Find(key, tokens, more_than);
  }
  void OnFetched(const std::function<void()>& call) override { fetches_.OnEnd(call); }
  bool Keep(const Span& span, std::span<const std::byte> rows) override;
  void Touch(const SpanKey& parent, std::span<const int32_t> tokens) override;
  void Flush() override;
  TierStats stats() const override;

 private:
  struct Work {
    enum class Kind { kPut, kTouch, kRemove };
    Kind kind;
    SpanKey key, parent;
    std::vector<int32_t> tokens;    // of kPut
    std::vector<std::byte> record;  // of kPut
    std::chrono::steady_clock::time_point added = std::chrono::steady_clock::now();
  };
  // A thread's own connection. After a failure there is none for a while.
  struct Link {
    std::shared_ptr<const RespServer> server;  // of its own: certificates of a TLS context are no other thread's
    std::unique_ptr<RespConnection> connection = {};
    std::chrono::milliseconds pause{0};
    std::atomic<std::chrono::steady_clock::time_point> next{};  // no attempt before
    std::atomic<bool> down = false;                             // since the last attempt
    std::atomic<bool> stop = false;
  };

  RemoteTier(const SpanFormat& format, const RemoteTierOptions& options, std::shared_ptr<const RespServer> to_load,
             std::shared_ptr<const RespServer> to_send);
  std::string KeyOf(const SpanKey& span) const;
  void Warn(const Status& status);
  bool Connect(Link& link);
  void Failed(Link& link, const Status& status);

  void LoadLoop();
  Status Load(RespConnection& connection, const std::shared_ptr<FetchQueue::Order>& order);
  Status Take(RespConnection& connection, FetchQueue::Order& order, FetchQueue::Item& item);

  void SendLoop();
  void Add(Work work);
  std::vector<Work> NextBatch();  // REQUIRES: mutex_ is held
  // Counts what the server has of the batch now.
  Status Send(RespConnection& connection, const std::vector<Work>& batch, uint64_t* n_kept);

  const SpanFormat format_;
  const RemoteTierOptions options_;
  const std::string prefix_;  // of all keys of this model
  FetchQueue fetches_;
  Link load_, send_;
  std::atomic<uint64_t> hits_ = 0, misses_ = 0, damaged_ = 0, lost_ = 0, written_ = 0, written_bytes_ = 0;
  std::atomic<bool> warned_ = false;
  // Of the engine's thread.
  std::unordered_set<SpanKey> touched_;
  std::chrono::steady_clock::time_point touched_since_{};

  mutable std::mutex mutex_;
  std::condition_variable work_, idle_;
  std::deque<Work> queue_;                   // guarded by mutex_
  uint64_t queued_bytes_ = 0;                // guarded by mutex_
  int n_flushing_ = 0;                       // guarded by mutex_
  bool sending_ = false, stopping_ = false;  // guarded by mutex_
  std::thread loader_, sender_;
};

}  // namespace spanwise

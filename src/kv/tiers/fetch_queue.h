// What a tier was asked to fetch, for a thread of the tier's own that does it, and what has come.
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
#include <unordered_map>
#include <vector>

#include "kv/tiers/fetch.h"
#include "kv/tiers/tier.h"

namespace spanwise {

// Orders, the urgent ones first, and the spans that they name: each once, whoever asks for it. Thread-safe.
class FetchQueue {
 public:
  using Clock = std::chrono::steady_clock;

  // A span that somebody asked for.
  struct Item {
    enum class State { kWaiting, kHere, kMissing };
    Item(const Tier::Wanted& wanted, uint64_t n_bytes, std::shared_ptr<std::atomic<uint64_t>> all);
    ~Item() { *all_bytes -= bytes; }
    Item(const Item&) = delete;
    Item& operator=(const Item&) = delete;

    const SpanKey key, parent;
    const std::vector<int32_t> tokens;
    const uint64_t bytes;  // of its record
    const std::shared_ptr<std::atomic<uint64_t>> all_bytes;
    Tier::Found found;  // written by the tier's thread before `state`
    std::atomic<State> state = State::kWaiting;
  };

  // The spans of one Prefetch. All but progress and done is for the tier's thread.
  class Order final : public Fetch {
   public:
    struct Part {
      std::shared_ptr<Item> item;  // others may have asked for it, too
      size_t run;
      bool waits() const { return item->state == Item::State::kWaiting; }
    };
    Order(std::vector<Part> p, bool is_urgent) : parts(std::move(p)), urgent(is_urgent) {}

    Progress progress() const override;
    bool done() const override { return done_; }

    void Begin();
    void Answered();  // the tier has said something
    void Came(uint64_t bytes);

    const std::vector<Part> parts;
    const bool urgent;

   private:
    friend FetchQueue;
    void End();

    mutable std::mutex mutex_;
    Progress progress_;        // guarded by mutex_
    Clock::time_point begun_;  // guarded by mutex_
    std::atomic<bool> done_ = false;
  };

  // `bytes_of` spans of so many tokens. What is not here yet of these and of all that was asked for before may have at
  // most so many bytes in all; nullptr if it has more.
  std::shared_ptr<Fetch> Ask(std::span<const Tier::Wanted> spans, bool urgent,
                             const std::function<uint64_t(size_t n_tokens)>& bytes_of, uint64_t most_bytes);
  // Of what was asked for and has come: see Tier::Find. Whoever asked for it must be waiting still.
  std::optional<Tier::Found> Find(const SpanKey& key, std::span<const int32_t> tokens, int more_than) const;
  // `call` is called whenever an order has ended, from the tier's thread; with nullptr no more, from now on.
  void OnEnd(std::function<void()> call);

  // For the tier's thread. The next order that somebody waits for; nullptr: there is none now. Whoever holds the only
  // pointer to it need not go on with it.
  std::shared_ptr<Order> Next() { return Next(/*only_urgent=*/false); }
  std::shared_ptr<Order> NextUrgent() { return Next(/*only_urgent=*/true); }
  void End(Order& order);
  void EndAll();
  // Until there is an order, Wake or Stop was called, or then.
  void Wait(std::optional<Clock::time_point> until = {});

  void Wake();
  // No order is accepted any more.
  void Stop();
  bool stopped() const { return stopped_; }

 private:
  std::shared_ptr<Order> Next(bool only_urgent);

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::weak_ptr<Order>> orders_;                     // guarded by mutex_; those that wait
  std::unordered_map<SpanKey, std::weak_ptr<Item>> asked_for_;  // guarded by mutex_; and those that have come
  bool woken_ = false;                                          // guarded by mutex_
  std::atomic<bool> stopped_ = false;
  const std::shared_ptr<std::atomic<uint64_t>> all_bytes_ = std::make_shared<std::atomic<uint64_t>>(0);

  std::mutex call_mutex_;
  std::function<void()> on_end_;  // guarded by call_mutex_
};

}  // namespace spanwise

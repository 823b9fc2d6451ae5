#include "kv/tiers/fetch_queue.h"

#include <algorithm>
#include <utility>

namespace spanwise {
namespace {

double Seconds(FetchQueue::Clock::duration d) { return std::chrono::duration<double>(d).count(); }

}  // namespace

FetchQueue::Item::Item(const Tier::Wanted& wanted, uint64_t n_bytes, std::shared_ptr<std::atomic<uint64_t>> all)
    : key(wanted.key),
      parent(wanted.parent),
      tokens(wanted.tokens.begin(), wanted.tokens.end()),
      bytes(n_bytes),
      all_bytes(std::move(all)) {
  *all_bytes += bytes;
}

Fetch::Progress FetchQueue::Order::progress() const {
  const std::lock_guard lock(mutex_);
  Progress progress = progress_;
  progress.done = done_;
  if (!progress.begun || progress.done) return progress;
  progress.seconds = Seconds(Clock::now() - begun_);
  if (progress.latency_s == 0) progress.latency_s = progress.seconds;
  return progress;
}

void FetchQueue::Order::Begin() {
  const std::lock_guard lock(mutex_);
  progress_.begun = true;
  begun_ = Clock::now();
}

void FetchQueue::Order::Answered() {
  const std::lock_guard lock(mutex_);
  progress_.latency_s = Seconds(Clock::now() - begun_);
}

void FetchQueue::Order::Came(uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  progress_.bytes += bytes;
}

void FetchQueue::Order::End() {
  const std::lock_guard lock(mutex_);
  if (progress_.begun) progress_.seconds = Seconds(Clock::now() - begun_);
  done_ = true;
}

std::shared_ptr<Fetch> FetchQueue::Ask(std::span<const Tier::Wanted> spans, bool urgent,
                                       const std::function<uint64_t(size_t n_tokens)>& bytes_of, uint64_t most_bytes) {
  if (spans.empty()) return nullptr;
  std::vector<Order::Part> parts;
  const std::lock_guard lock(mutex_);
  if (stopped_) return nullptr;
  if (asked_for_.size() > 2 * spans.size() + 1024)
    std::erase_if(asked_for_, [](const auto& entry) { return entry.second.expired(); });
  for (const Tier::Wanted& span : spans) {
    std::weak_ptr<Item>& known = asked_for_[span.key];
    std::shared_ptr<Item> item = known.lock();
    // What was missing may have been written since.
    if (!item || item->state == Item::State::kMissing)
      known = item = std::make_shared<Item>(span, bytes_of(span.tokens.size()), all_bytes_);
    parts.push_back({std::move(item), span.run});
  }
  if (*all_bytes_ > most_bytes && std::ranges::any_of(parts, &Order::Part::waits)) return nullptr;
  auto order = std::make_shared<Order>(std::move(parts), urgent);
  const auto at = urgent ? std::ranges::find_if(orders_,
                                                [](const std::weak_ptr<Order>& other) {
                                                  const auto waiting = other.lock();
                                                  return waiting && !waiting->urgent;
                                                })
                         : orders_.end();
  orders_.insert(at, order);
  wake_.notify_all();
  return order;
}

std::optional<Tier::Found> FetchQueue::Find(const SpanKey& key, std::span<const int32_t> tokens, int more_than) const {
  std::shared_ptr<const Item> item;
  {
    const std::lock_guard lock(mutex_);
    if (const auto at = asked_for_.find(key); at != asked_for_.end()) item = at->second.lock();
  }
  if (!item || item->state != Item::State::kHere) return std::nullopt;
  const auto common = std::ranges::mismatch(item->found.tokens, tokens).in1 - item->found.tokens.begin();
  if (common <= more_than) return std::nullopt;
  return Tier::Found{.tokens = item->found.tokens, .rows = item->found.rows, .hold = item};
}

void FetchQueue::OnEnd(std::function<void()> call) {
  const std::lock_guard lock(call_mutex_);
  on_end_ = std::move(call);
}

std::shared_ptr<FetchQueue::Order> FetchQueue::Next(bool only_urgent) {
  const std::lock_guard lock(mutex_);
  while (!orders_.empty()) {
    auto order = orders_.front().lock();
    if (order && only_urgent && !order->urgent) return nullptr;
    orders_.pop_front();
    if (order) return order;
  }
  return nullptr;
}

void FetchQueue::End(Order& order) {
  order.End();
  const std::lock_guard lock(call_mutex_);
  if (on_end_) on_end_();
}

void FetchQueue::EndAll() {
  while (const auto order = Next()) End(*order);
}

void FetchQueue::Wait(std::optional<Clock::time_point> until) {
  std::unique_lock lock(mutex_);
  const auto ready = [&] { return stopped_ || woken_ || !orders_.empty(); };
  if (until) {
    wake_.wait_until(lock, *until, ready);
  } else {
    wake_.wait(lock, ready);
  }
  woken_ = false;
}

void FetchQueue::Wake() {
  {
    const std::lock_guard lock(mutex_);
    woken_ = true;
  }
  wake_.notify_all();
}

void FetchQueue::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  wake_.notify_all();
}

}  // namespace spanwise

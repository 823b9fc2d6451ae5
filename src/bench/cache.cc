#include "bench/cache.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <random>

#include "base/hash.h"
#include "base/str.h"
#include "kv/evict/policy.h"

namespace spanwise::bench {
namespace {

struct Timeline {
  std::vector<uint64_t> first;     // place of each request's first use
  std::vector<uint64_t> next_use;  // place of the next use of the same block
  std::vector<uint32_t> request;   // of each place
};

Timeline TimelineOf(const Trace& trace) {
  Timeline t;
  for (uint32_t r = 0; r < trace.requests.size(); ++r) {
    t.first.push_back(t.request.size());
    t.request.resize(t.request.size() + trace.requests[r].blocks.size(), r);
  }
  t.next_use.resize(t.request.size());
  std::vector<uint64_t> seen(trace.blocks.size(), EntryUse::kNever);
  for (size_t r = trace.requests.size(), place = t.request.size(); r-- > 0;)
    for (auto it = trace.requests[r].blocks.rbegin(); it != trace.requests[r].blocks.rend(); ++it)
      t.next_use[--place] = std::exchange(seen[*it], place);
  return t;
}

class Cache {
 public:
  Cache(const Trace& trace, const Timeline& timeline, const CacheOptions& options, EvictionPolicy& policy,
        const std::vector<bool>* bits)
      : trace_(trace), timeline_(timeline), o_(options), policy_(policy), bits_(bits), state_(trace.blocks.size()) {
    keys_.reserve(trace.blocks.size());
    for (uint64_t id = 0; id < trace.blocks.size(); ++id) {
      std::mt19937_64 random(id);
      Hash256 key;
      for (size_t i = 0; i < 4; ++i) {
        const uint64_t bits64 = random();
        std::memcpy(key.bytes.data() + 8 * i, &bits64, sizeof bits64);
      }
      std::memcpy(key.bytes.data() + 24, &id, sizeof id);
      keys_.push_back(key);
    }
  }

  CacheResult Run() {
    CacheResult result;
    if (!bits_)
      for (size_t r = 0; r < std::min(o_.queue, trace_.requests.size()); ++r) Queue(r);
    for (uint32_t r = 0; r < trace_.requests.size(); ++r) {
      if (!bits_ && r + o_.queue < trace_.requests.size()) Queue(r + o_.queue);
      Serve(r, result);
    }
    return result;
  }

  // For each place whether the block was dropped before its next use, or is not used again.
  std::vector<bool> DroppedBits() && {
    std::vector<bool> bits = std::move(dropped_);
    for (size_t i = 0; i < bits.size(); ++i)
      if (timeline_.next_use[i] == EntryUse::kNever) bits[i] = true;
    return bits;
  }
  void RecordDropped() { dropped_.resize(timeline_.request.size()); }

 private:
  struct State {
    bool kept = false, computed = false;
    uint32_t running = TraceBlock::kNone;  // the last request that used it
    uint64_t place = 0;                    // of the last use
    std::vector<uint32_t> children = {};   // that are kept
  };

  uint32_t Id(const Hash256& key) const {
    uint64_t id;
    std::memcpy(&id, key.bytes.data() + 24, sizeof id);
    return static_cast<uint32_t>(id);
  }

  // A request joins those that wait.
  void Queue(size_t r) {
    for (const uint32_t block : trace_.requests[r].blocks)
      if (state_[block].kept) policy_.Expect(keys_[block]);
  }

  void Use(uint32_t r, size_t i) {
    const TraceRequest& request = trace_.requests[r];
    const uint32_t block = request.blocks[i];
    const uint64_t place = timeline_.first[r] + i, next = timeline_.next_use[place];
    state_[block].place = place;
    policy_.Use({.key = keys_[block],
                 .bytes = 1,
                 .cost = RecomputeCost(trace_.blocks[block].tokens, trace_.blocks[block].position),
                 .discard = bits_ ? (*bits_)[place] : o_.ingest && request.ingest,
                 .next_use = next});
    if (bits_) return;
    const bool waits = next != EntryUse::kNever && timeline_.request[next] <= r + o_.queue;
    if (waits || (o_.sessions && i >= request.n_shared)) policy_.Expect(keys_[block]);
  }

  bool MakeRoom(uint32_t r) {
    while (n_kept_ >= o_.capacity_blocks) {
      uint32_t end = TraceBlock::kNone;
      const auto victim = policy_.Victim([&](const Hash256& key) {
        end = Id(key);
        while (!state_[end].children.empty()) end = state_[end].children.back();
        return state_[end].running != r;
      });
      if (!victim) return false;
      State& state = state_[end];
      policy_.Remove(keys_[end]);
      state.kept = false;
      --n_kept_;
      if (!dropped_.empty()) dropped_[state.place] = true;
      if (const uint32_t parent = trace_.blocks[end].parent; parent != TraceBlock::kNone)
        std::erase(state_[parent].children, end);
    }
    return true;
  }

  void Serve(uint32_t r, CacheResult& result) {
    const std::vector<uint32_t>& blocks = trace_.requests[r].blocks;
    std::vector<size_t> missed;
    for (size_t i = 0; i < blocks.size(); ++i) {
      State& state = state_[blocks[i]];
      const TraceBlock& block = trace_.blocks[blocks[i]];
      state.running = r;
      ++result.uses;
      result.tokens += block.tokens;
      if (state.kept) continue;
      missed.push_back(i);
      ++result.misses;
      result.computed_tokens += block.tokens;
      if (state.computed) result.recomputed_tokens += block.tokens;
      state.computed = true;
    }
    // Ends before beginnings, so that these are the later used; the missing in the order in which they are computed.
    for (size_t i = blocks.size(); i-- > 0;)
      if (state_[blocks[i]].kept) Use(r, i);
    for (const size_t i : missed) {
      const uint32_t parent = trace_.blocks[blocks[i]].parent;
      if ((parent != TraceBlock::kNone && !state_[parent].kept) || !MakeRoom(r)) continue;
      state_[blocks[i]].kept = true;
      if (parent != TraceBlock::kNone) state_[parent].children.push_back(blocks[i]);
      ++n_kept_;
      Use(r, i);
    }
    if (o_.candidates && !bits_)
      for (const uint32_t block : trace_.requests[r].candidates)
        if (state_[block].kept) policy_.Expect(keys_[block]);
  }

  const Trace& trace_;
  const Timeline& timeline_;
  const CacheOptions& o_;
  EvictionPolicy& policy_;
  const std::vector<bool>* bits_;  // nullptr: what an engine knows
  std::vector<State> state_;
  std::vector<Hash256> keys_;
  uint64_t n_kept_ = 0;
  std::vector<bool> dropped_;
};

}  // namespace

uint64_t UsedBlocks(const Trace& trace) {
  std::vector<bool> used(trace.blocks.size());
  for (const TraceRequest& request : trace.requests)
    for (const uint32_t block : request.blocks) used[block] = true;
  return static_cast<uint64_t>(std::ranges::count(used, true));
}

Result<CacheResult> SimulateCache(const Trace& trace, const CacheOptions& options) {
  if (options.capacity_blocks < 1) return InvalidArgument("the cache needs room for at least one block");
  const EvictionOptions make{.capacity_bytes = options.capacity_blocks,
                             .seed = options.seed,
                             .knows_future = true,
                             .predict_bits = options.sketch && !options.oracle_error};
  SW_ASSIGN_OR_RETURN(const std::unique_ptr<EvictionPolicy> policy, MakeEvictionPolicy(options.policy, make));
  const Timeline timeline = TimelineOf(trace);
  std::vector<bool> bits;
  if (options.oracle_error && UsesDiscardBits(options.policy)) {
    SW_ASSIGN_OR_RETURN(const std::unique_ptr<EvictionPolicy> oracle, MakeEvictionPolicy("belady", make));
    Cache cache(trace, timeline, options, *oracle, nullptr);
    cache.RecordDropped();
    cache.Run();
    bits = std::move(cache).DroppedBits();
    std::mt19937_64 random(options.seed);
    for (size_t i = 0; i < bits.size(); ++i)
      if (std::ldexp(static_cast<double>(random() >> 11), -53) < *options.oracle_error) bits[i] = !bits[i];
  }
  const auto start = std::chrono::steady_clock::now();
  Cache cache(trace, timeline, options, *policy, bits.empty() ? nullptr : &bits);
  CacheResult result = cache.Run();
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

}  // namespace spanwise::bench

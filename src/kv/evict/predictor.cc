#include "kv/evict/predictor.h"

#include <numbers>
#include <unordered_map>

namespace spanwise::evict {
namespace {

constexpr double kHalfLife = 8;  // of the counts, in cachefuls of uses

class PredictingPolicy final : public EvictionPolicy {
 public:
  PredictingPolicy(uint64_t n_entries, PolicyPtr policy) : policy_(std::move(policy)), predictor_(n_entries) {}

  void Use(const EntryUse& use) override {
    EntryUse predicted = use;
    if (predictor_.Use(use.key)) predicted.discard = true;
    used_[use.key] = predictor_.now();
    policy_->Use(predicted);
  }
  void Expect(const Hash256& key) override { policy_->Expect(key); }
  void Remove(const Hash256& key) override {
    if (const auto it = used_.find(key); it != used_.end()) {
      predictor_.Dropped(it->second);
      used_.erase(it);
    }
    policy_->Remove(key);
  }
  std::optional<Hash256> Victim(const MayLeave& may_leave) override { return policy_->Victim(may_leave); }

 private:
  PolicyPtr policy_;
  DiscardPredictor predictor_;
  std::unordered_map<Hash256, uint64_t> used_;  // when each entry was last
};

}  // namespace

DiscardPredictor::DiscardPredictor(uint64_t n_entries)
    : uses_(n_entries, kHalfLife), age_(static_cast<double>(n_entries)) {}

bool DiscardPredictor::Use(const Hash256& key) {
  ++now_;
  // A constant rate r of uses settles at a count of r * half-life / ln 2.
  return uses_.half_life_uses() / std::numbers::ln2 / uses_.Add(key) >= age_;
}

void DiscardPredictor::Dropped(uint64_t used) {
  constexpr double kStep = 1.01;  // up and down by the same factor: they meet at the median
  age_ *= static_cast<double>(now_ - used) > age_ ? kStep : 1 / kStep;
}

PolicyPtr WithPredictedBits(const EvictionOptions& options, PolicyPtr policy) {
  return std::make_unique<PredictingPolicy>(options.n_entries(), std::move(policy));
}

}  // namespace spanwise::evict

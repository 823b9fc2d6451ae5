#include "kv/evict/policy.h"

#include "base/str.h"
#include "kv/evict/policies.h"
#include "kv/evict/predictor.h"

namespace spanwise {
namespace {

evict::PolicyPtr CombineMark0Arc(const EvictionOptions& options) {
  return evict::Combine(options, evict::Mark0(options), evict::Arc(options));
}

struct Row {
  std::string_view name;
  evict::PolicyPtr (*make)(const EvictionOptions& options);
  bool uses_bits;
};
constexpr Row kPolicies[] = {
    {"lru", evict::Lru, false},
    {"lfu", evict::Lfu, false},
    {"arc", evict::Arc, false},
    {"gdsf", evict::Gdsf, false},
    {"gdsf-decay", evict::GdsfDecay, false},
    {"s3fifo", evict::S3Fifo, false},
    {"discard", evict::Discard, true},
    {"mark0", evict::Mark0, true},
    {"markpredict", evict::MarkPredict, true},
    {"combine", CombineMark0Arc, true},
    {"belady", evict::Belady, false},
};

}  // namespace

Result<std::unique_ptr<EvictionPolicy>> MakeEvictionPolicy(std::string_view name, const EvictionOptions& options) {
  std::string known;
  for (const Row& row : kPolicies) {
    if (row.name == "belady" && !options.knows_future) continue;
    if (row.name == name) {
      evict::PolicyPtr policy = row.make(options);
      if (row.uses_bits && options.predict_bits) policy = evict::WithPredictedBits(options, std::move(policy));
      return policy;
    }
    known += known.empty() ? "" : ", ";
    known += row.name;
  }
  return InvalidArgument(StrFormat("replacement policy {}: unknown; use one of {}", Quoted(name), known));
}

std::vector<std::string_view> EvictionPolicyNames() {
  std::vector<std::string_view> names;
  for (const Row& row : kPolicies) names.push_back(row.name);
  return names;
}

bool UsesDiscardBits(std::string_view name) {
  for (const Row& row : kPolicies)
    if (row.name == name) return row.uses_bits;
  return false;
}

}  // namespace spanwise

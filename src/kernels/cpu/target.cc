#include <hwy/highway.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>

#include "kernels/cpu/cpu.h"

namespace spanwise::cpu {
namespace {

struct Target {
  std::string_view name;
  int64_t hwy;
  bool bf16_dots = false;
};

constexpr std::array<Target, 4> kTargets = {
    {{"avx512bf16", HWY_AVX3, true}, {"avx512", HWY_AVX3}, {"avx2", HWY_AVX2}, {"portable", HWY_STATIC_TARGET}}};
constexpr auto kNames = [] {
  std::array<std::string_view, kTargets.size()> names;
  for (size_t i = 0; i < names.size(); ++i) names[i] = kTargets[i].name;
  return names;
}();

std::atomic<bool> uses_bf16_dots = false;

// What runs under a name: a file compiled for several of these takes the widest, and AVX2 where it has no AVX-512.
int64_t TargetsUnder(int64_t target) {
  if (target != HWY_AVX3) return target;
  return HWY_AVX3 | HWY_AVX2 | (hwy::SupportedTargets() & HWY_AVX3_DL);
}

bool Has(const Target& target) {
  if (target.bf16_dots && !HasBf16Dots()) return false;
  return (hwy::SupportedTargets() & HWY_TARGETS & target.hwy) != 0 || target.hwy == HWY_STATIC_TARGET;
}

}  // namespace

std::span<const std::string_view> TargetNames() { return kNames; }

std::string_view BestTarget() {
  return std::ranges::find_if(kTargets, [](const Target& t) { return Has(t) && (!t.bf16_dots || Bf16DotsAreFast()); })
      ->name;
}

bool SelectTarget(std::string_view name) {
  const auto target = std::ranges::find(kTargets, name, &Target::name);
  if (target == kTargets.end() || !Has(*target)) return false;
  hwy::GetChosenTarget().Update(TargetsUnder(target->hwy));
  uses_bf16_dots.store(target->bf16_dots, std::memory_order_relaxed);
  return true;
}

bool UsesBf16Dots() { return uses_bf16_dots.load(std::memory_order_relaxed); }

}  // namespace spanwise::cpu

#include <hwy/highway.h>

#include <array>
#include <cstdint>

#include "kernels/cpu/cpu.h"

namespace spanwise::cpu {
namespace {

constexpr std::array<std::string_view, 3> kNames = {"avx512", "avx2", "portable"};
constexpr std::array<int64_t, 3> kTargets = {HWY_AVX3, HWY_AVX2, HWY_STATIC_TARGET};

// What runs under a name: a file compiled for several of these takes the widest, and AVX2 where it has no AVX-512.
int64_t TargetsUnder(int64_t target) {
  if (target != HWY_AVX3) return target;
  return HWY_AVX3 | HWY_AVX2 | (hwy::SupportedTargets() & HWY_AVX3_DL);
}

bool Has(int64_t target) {
  return (hwy::SupportedTargets() & HWY_TARGETS & target) != 0 || target == HWY_STATIC_TARGET;
}

}  // namespace

std::span<const std::string_view> TargetNames() { return kNames; }

std::string_view WidestTarget() {
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (Has(kTargets[i])) return kNames[i];
  }
  return kNames.back();
}

bool SelectTarget(std::string_view name) {
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] != name) continue;
    if (!Has(kTargets[i])) return false;
    hwy::GetChosenTarget().Update(TargetsUnder(kTargets[i]));
    return true;
  }
  return false;
}

}  // namespace spanwise::cpu

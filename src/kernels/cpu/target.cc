#include <hwy/highway.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>

#include "kernels/cpu/cpu.h"

namespace spanwise::cpu {
namespace {

// Instructions for products besides those of vectors.
enum class Products { kVectors, kBf16Dots, kTiles };

struct Target {
  std::string_view name;
  int64_t hwy;
  Products products = Products::kVectors;
};

constexpr std::array<Target, 5> kTargets = {{{"amx", HWY_AVX3, Products::kTiles},
                                             {"avx512bf16", HWY_AVX3, Products::kBf16Dots},
                                             {"avx512", HWY_AVX3},
                                             {"avx2", HWY_AVX2},
                                             {"portable", HWY_STATIC_TARGET}}};
constexpr auto kNames = [] {
  std::array<std::string_view, kTargets.size()> names;
  for (size_t i = 0; i < names.size(); ++i) names[i] = kTargets[i].name;
  return names;
}();

std::atomic<Products> used_products = Products::kVectors;

// What runs under a name: a file compiled for several of these takes the widest, and AVX2 where it has no AVX-512.
int64_t TargetsUnder(int64_t target) {
  if (target != HWY_AVX3) return target;
  return HWY_AVX3 | HWY_AVX2 | (hwy::SupportedTargets() & HWY_AVX3_DL);
}

bool Has(const Target& target) {
  if (target.products == Products::kTiles && !HasTiles()) return false;
  if (target.products == Products::kBf16Dots && !HasBf16Dots()) return false;
  return (hwy::SupportedTargets() & HWY_TARGETS & target.hwy) != 0 || target.hwy == HWY_STATIC_TARGET;
}

}  // namespace

std::span<const std::string_view> TargetNames() { return kNames; }

std::string_view BestTarget() {
  const auto wanted = [](const Target& t) {
    return Has(t) && (t.products != Products::kBf16Dots || Bf16DotsAreFast());
  };
  return std::ranges::find_if(kTargets, wanted)->name;
}

bool SelectTarget(std::string_view name) {
  const auto target = std::ranges::find(kTargets, name, &Target::name);
  if (target == kTargets.end() || !Has(*target)) return false;
  hwy::GetChosenTarget().Update(TargetsUnder(target->hwy));
  used_products.store(target->products, std::memory_order_relaxed);
  return true;
}

bool UsesBf16Dots() { return used_products.load(std::memory_order_relaxed) == Products::kBf16Dots; }
bool UsesTiles() { return used_products.load(std::memory_order_relaxed) == Products::kTiles; }

}  // namespace spanwise::cpu

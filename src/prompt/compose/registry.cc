#include "base/str.h"
#include "prompt/compose/composer.h"

namespace spanwise {
namespace {

constexpr Composer kComposers[] = {
    {ComposeMode::kExact, kCausalExact, ComposeExact},
    {ComposeMode::kSet, "set-exact", ComposeSet},
    {ComposeMode::kApe, "operator-exact", ComposeApe},
    {ComposeMode::kRepair, "convergent", ComposeRepair},
};

}  // namespace

Result<const Composer*> FindComposer(ComposeMode mode) {
  for (const Composer& composer : kComposers)
    if (composer.mode == mode) return &composer;
  return Internal(StrFormat("compose mode '{}' has no composer", ComposeModeName(mode)));
}

}  // namespace spanwise

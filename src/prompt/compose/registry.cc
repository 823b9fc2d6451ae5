#include "base/str.h"
#include "prompt/compose/composer.h"

namespace spanwise {
namespace {

constexpr Composer kComposers[] = {
    {ComposeMode::kExact, "causal-exact", ComposeExact},
    {ComposeMode::kSet, "set-exact", ComposeSet},
    {ComposeMode::kApe, "operator-exact", ComposeApe},
};

}  // namespace

Result<const Composer*> FindComposer(ComposeMode mode) {
  for (const Composer& composer : kComposers)
    if (composer.mode == mode) return &composer;
  return Unimplemented(StrFormat("compose mode '{}' is not available; use exact, set or ape", ComposeModeName(mode)));
}

}  // namespace spanwise

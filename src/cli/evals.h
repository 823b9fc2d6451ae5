// One verb under `spanwise eval` a measure.
#pragma once

#include "cli/common.h"

namespace spanwise::cli {

Verb EvalFidelityVerb(CLI::App& eval);
Verb EvalOrderVerb(CLI::App& eval);
Verb EvalPerplexityVerb(CLI::App& eval);
Verb EvalQaVerb(CLI::App& eval);
Verb EvalStorageVerb(CLI::App& eval);

}  // namespace spanwise::cli

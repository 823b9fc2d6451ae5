#include <vector>

#include "cli/evals.h"

namespace spanwise::cli {

Verb EvalVerb(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("eval", "Measure quality");
  verb->require_subcommand(1);
  const std::vector<Verb> evals = {EvalFidelityVerb(*verb), EvalOrderVerb(*verb), EvalPerplexityVerb(*verb),
                                   EvalQaVerb(*verb), EvalStorageVerb(*verb)};
  return {verb, [evals] {
            for (const Verb& eval : evals)
              if (eval.app->parsed()) return eval.run();
            return kWrongUsage;
          }};
}

}  // namespace spanwise::cli

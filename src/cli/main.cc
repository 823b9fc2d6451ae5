#include <fmt/format.h>

#include <array>
#include <clocale>
#include <cstdio>
#include <exception>
#include <new>

#include "cli/common.h"

namespace spanwise::cli {
namespace {

int RunVerb(int argc, char** argv) {
  CLI::App app{
      "Spanwise answers from documents: each is read once, its attention keys and values are kept and composed into "
      "later prompts.",
      "spanwise"};
  app.require_subcommand(1);
  app.set_version_flag("--version", "spanwise 0.1.0");
  const std::array verbs = {AskVerb(app),       ChatVerb(app),     GenerateVerb(app), IndexVerb(app),
                            ServeVerb(app),     TokenizeVerb(app), InspectVerb(app),  QuantizeVerb(app),
                            CalibrateVerb(app), EvalVerb(app),     BenchVerb(app)};
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kDone : kWrongUsage;
  }
  for (const Verb& verb : verbs)
    if (verb.app->parsed()) return verb.run();
  return kWrongUsage;
}

}  // namespace
}  // namespace spanwise::cli

int main(int argc, char** argv) {
  try {
    return spanwise::cli::RunVerb(argc, argv);
  } catch (const std::bad_alloc&) {
    std::fputs("spanwise: the machine has too little memory left for this\n", stderr);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "spanwise: %s\n", error.what());
  }
  return spanwise::cli::kFailed;
}

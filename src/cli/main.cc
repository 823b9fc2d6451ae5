#include <array>
#include <exception>
#include <new>
#include <sstream>

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
    std::ostringstream help, trouble;
    const int status = app.exit(error, help, trouble) == 0 ? kDone : kWrongUsage;
    PrintText(help.str());
    NoteText(trouble.str());
    return status;
  }
  for (const Verb& verb : verbs)
    if (verb.app->parsed()) return verb.run();
  return kWrongUsage;
}

}  // namespace
}  // namespace spanwise::cli

int main(int argc, char** argv) {
  namespace cli = spanwise::cli;
  cli::PrepareStandardStreams();
  try {
    const int status = cli::RunVerb(argc, argv);
    const spanwise::Status written = cli::Flush();
    return status == cli::kDone && !written.ok() ? cli::Fail(written) : status;
  } catch (const std::bad_alloc&) {
    cli::NoteText("spanwise: there is too little memory left for this\n");
  } catch (const std::exception& error) {
    cli::Note("spanwise: {}\n", error.what());
  }
  return cli::kFailed;
}

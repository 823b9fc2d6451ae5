// What the verbs of the command line share: options, the engine they open, progress, and how results and failures are
// shown.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "cli/output.h"
#include "rag/answerer.h"
#include "spanwise/engine.h"
#include "spanwise/status.h"

namespace spanwise::cli {

inline constexpr int kDone = 0, kFailed = 1, kWrongUsage = 2;

inline constexpr char kDTypeHelp[] = "Weights: f32, bf16, q8 or q4 (default: as stored)";

struct CommonOptions {
  std::string model;  // empty: the bundled model
  std::string dtype, kv_dtype;
  std::string device = "cpu";
  int threads = 0;
  std::string compose = "exact", order = "given", search_draft;
  int search_trials = ComposeOptions().search_trials;
  size_t cache_memory_mb = 0;
  std::string cache_dir;
  uint64_t cache_disk_mb = 0;
  std::vector<std::string> baked;  // folders of KV that are only read
  RemoteCache cache_remote;        // without its password, which stands in ...
  std::string cache_remote_password_file;
  std::string cache_codec = "none", cache_load = "planned";
  std::string cache_policy;
  double repair_fraction = ComposeOptions().repair_fraction;
  std::string repair_policy = "focused";
  std::optional<double> documents_temperature, documents_scale, repair_threshold;
  bool force = false;
  bool no_cache = false;
  bool json = false, quiet = false;
  std::string log_level = "warning";
};

// Of verbs that answer from documents.
struct AnswerOptions {
  std::string cite = "written";
  bool extract = false;
};

// Of an answer in several parts: Request::branches or steps.
struct PartOptions {
  std::vector<std::string> branches, steps;
  std::string join;
  std::optional<int> part_tokens, keep_subtasks;
};

struct SamplingOptions {
  SamplingParams params;    // but for what stands below
  SamplingDefaults stated;  // by the command line
  std::optional<uint64_t> seed;
  std::optional<int> logprobs;
  std::vector<std::string> logit_bias;  // ID:BIAS
};

void AddModelOptions(CLI::App* app,
                     CommonOptions* options);  // --model --dtype --kv-dtype --device --threads --cache-...
void AddComposeOptions(CLI::App* app, CommonOptions* options);  // --compose --order and so on
void AddOutputOptions(CLI::App* app, CommonOptions* options);   // --json --quiet --log-level
// With as_recommended the help says that ToSamplingParams gets what the model's files recommend.
void AddSamplingOptions(CLI::App* app, SamplingOptions* options, bool as_recommended);
void AddAnswerOptions(CLI::App* app, AnswerOptions* options);  // --cite --extract
void AddPartOptions(CLI::App* app, PartOptions* options);      // --branch --join --step and so on
void Apply(const AnswerOptions& options, Request* request);
void Apply(const PartOptions& options, Request* request);

// A folder that comes with the program, looked for beside it and above a build folder. NotFound says `what` is missing.
Result<std::string> BundledFolder(const std::string& name, const std::string& what);
// The model asked for, a folder or a GGUF file, or the bundled one beside the program. NotFound when it is not there.
Result<std::string> ModelPath(const CommonOptions& options);
Result<EngineOptions> ToEngineOptions(const CommonOptions& options);
// With what was baked of a corpus, if anything was. The folder's name may be empty.
CommonOptions WithBaked(CommonOptions options, const std::string& corpus);
Status SetLogLevel(const CommonOptions& options);
Result<std::unique_ptr<Engine>> OpenEngine(const CommonOptions& options);
Result<ComposeOptions> ToComposeOptions(const CommonOptions& options);
// `model`: what the model's files recommend where the command line is silent.
Result<SamplingParams> ToSamplingParams(const SamplingOptions& options, const SamplingDefaults& model = {});

// A bar on standard error for work that takes over a second; nothing with --quiet or when that is no terminal.
class Progress {
 public:
  Progress(std::string what, bool quiet);
  ~Progress();
  void Update(double done, double total);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Runs a request. Moves the bar while the prompt is read and, with print_text, prints the answer as it comes; ends the
// request, with the failure of Flush, when that cannot be written.
Result<Answer> RunWatched(Engine& engine, Request request, Progress& progress, bool print_text);

// The parts of an answer before its text, each under a line of its own. Nothing where it has none.
void PrintParts(const PartOptions& options, const Answer& answer);

json::object AnswerJson(const rag::GroundedAnswer& answer, const std::string& model, bool logprobs);
// What is said of a label that is no citation.
std::string UnsupportedLine(const rag::UnsupportedCitation& citation);
// On one line of standard output, which is handed over at once.
void PrintJson(const json::value& value);

// Prints "spanwise: MESSAGE" on standard error. Returns the exit status for it.
int Fail(const Status& status);

// One verb: adds its subcommand and returns what runs it.
using Run = std::function<int()>;
struct Verb {
  CLI::App* app;
  Run run;
};
Verb AskVerb(CLI::App& app);
Verb ChatVerb(CLI::App& app);
Verb GenerateVerb(CLI::App& app);
Verb IndexVerb(CLI::App& app);
Verb ServeVerb(CLI::App& app);
Verb TokenizeVerb(CLI::App& app);
Verb InspectVerb(CLI::App& app);
Verb QuantizeVerb(CLI::App& app);
Verb CalibrateVerb(CLI::App& app);
Verb EvalVerb(CLI::App& app);
Verb BenchVerb(CLI::App& app);

}  // namespace spanwise::cli

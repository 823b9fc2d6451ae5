#include "cli/common.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <filesystem>

#include "base/file.h"
#include "base/str.h"
#include "formats/model_file.h"
#include "kv/tiers/span_folder.h"
#include "rag/bake.h"
#include "rag/report.h"

namespace spanwise::cli {

void AddModelOptions(CLI::App* app, CommonOptions* o) {
  app->add_option("--model", o->model,
                  "Model: a folder in the Hugging Face layout, a GGUF file or a folder that holds one (default: the "
                  "bundled model)");
  app->add_option("--dtype", o->dtype, kDTypeHelp);
  app->add_option("--kv-dtype", o->kv_dtype, "Kept keys and values: f32 or bf16 (default: bf16, f32 with --dtype f32)");
  app->add_option("--device", o->device, "cpu")->capture_default_str();
  app->add_option("--threads", o->threads, "Threads (0: as many as there are CPUs for this process)")
      ->capture_default_str();
  app->add_option("--cache-memory", o->cache_memory_mb,
                  "Memory for kept keys and values, in MB (0: a quarter of what the machine and its limits allow)");
  app->add_option("--cache-dir", o->cache_dir, "Folder where keys and values are kept that outlive the program");
  app->add_option("--cache-disk", o->cache_disk_mb, "Its size, in MB (0: a quarter of the free disk)")
      ->check(CLI::Range(uint64_t{0}, uint64_t{1} << 40))
      ->needs("--cache-dir");
  app->add_option("--baked", o->baked, "Folder of keys and values that index --bake made (repeatable)");
  app->add_option("--cache-remote", o->cache_remote.address,
                  "HOST:PORT of a Valkey or Redis server that several machines share keys and values through");
  const auto of_remote = [&](CLI::Option* option) { option->needs("--cache-remote"); };
  of_remote(app->add_option("--cache-remote-user", o->cache_remote.user, "Its user (default: the server's)"));
  of_remote(app->add_option("--cache-remote-password-file", o->cache_remote_password_file,
                            "File whose first line is the password"));
  of_remote(app->add_flag("--cache-remote-tls", o->cache_remote.tls, "Connect through TLS"));
  of_remote(app->add_option("--cache-remote-ca", o->cache_remote.ca_file,
                            "Certificates that vouch for it (default: the system's)"));
  of_remote(app->add_option("--cache-remote-ttl", o->cache_remote.ttl_s,
                            "Seconds after which it forgets what nobody used (0: as the server decides)")
                ->check(CLI::Range(int64_t{0}, int64_t{1} << 31)));
  app->add_option("--cache-codec", o->cache_codec,
                  "How keys and values are written there: none (as they are), fp8, int8 or int4 (rounded: smaller, and "
                  "answers that use them are approximate)")
      ->check(CLI::IsMember({"none", "fp8", "int8", "int4"}))
      ->capture_default_str();
  app->add_option("--cache-load", o->cache_load,
                  "What is kept outside memory is loaded: planned, where that is faster than computing it; or always")
      ->check(CLI::IsMember({"planned", "always"}))
      ->capture_default_str();
  app->add_option("--cache-policy", o->cache_policy,
                  "What leaves it first: gdsf-decay (default), lru, lfu, arc, gdsf, s3fifo, discard, mark0, ...");
}

void AddComposeOptions(CLI::App* app, CommonOptions* o) {
  app->add_option("--compose", o->compose, "How documents enter the context: exact, set, ape or repair")
      ->capture_default_str();
  app->add_option("--order", o->order,
                  "Order of the documents: given, canonical, relevance, sides, search, repeat or cached")
      ->capture_default_str();
  app->add_option("--search-trials", o->search_trials, "Of order search: orders that are tried at most")
      ->capture_default_str();
  app->add_option("--search-draft", o->search_draft,
                  "Of order search: a draft of the answer, to be made likely (default: the question)");
  app->add_option("--repair-fraction", o->repair_fraction, "Of repair: how much of the kept documents is recomputed")
      ->capture_default_str();
  app->add_option("--repair-policy", o->repair_policy,
                  "Of repair: focused, first, question, deviation, cachecraft or random")
      ->capture_default_str();
  app->add_option("--repair-threshold", o->repair_threshold,
                  "Of repair: keep documents as they were unless what is recomputed changes by more than this "
                  "(default: as calibrated, else 0, always repair)")
      ->check(CLI::NonNegativeNumber);
  app->add_option("--documents-temperature", o->documents_temperature,
                  "Of ape: divides the scores of the documents (default: as calibrated, else 0.9)");
  app->add_option("--documents-scale", o->documents_scale,
                  "Of ape: the documents' weight (default: as calibrated, else 0.9)");
  app->add_flag("--force", o->force, "Compose even where calibrate found the mode too far from exact");
  app->add_flag("--no-cache", o->no_cache, "Recompute everything, keep nothing");
}

void AddOutputOptions(CLI::App* app, CommonOptions* o) {
  app->add_flag("--json", o->json, "Print JSON");
  app->add_flag("--quiet", o->quiet, "No progress, no summary");
  app->add_option("--log-level", o->log_level, "trace, debug, info, warning, error")->capture_default_str();
}

void AddAnswerOptions(CLI::App* app, AnswerOptions* o) {
  app->add_option("--cite", o->cite, "Citations: written, as the answer names documents; attention, as it read them")
      ->check(CLI::IsMember({"written", "attention"}))
      ->capture_default_str();
  app->add_flag("--extract", o->extract, "Answer with a stretch of one document, to the letter");
}

void Apply(const AnswerOptions& o, Request* request) {
  request->attention = o.cite == "attention";
  request->extract = o.extract;
}

void AddPartOptions(CLI::App* app, PartOptions* o) {
  auto* branch =
      app->add_option(
             "--branch", o->branches,
             "Go on from this text, beside other branches and unseen by them, instead of answering (repeatable)")
          ->take_all();
  app->add_option("--join", o->join, "Text behind all branches; the answer is what follows it")->needs(branch);
  app->add_option("--step", o->steps,
                  "Give this text and go on from there, before the next one; the last one's is the answer "
                  "(repeatable)")
      ->take_all()
      ->excludes(branch);
  app->add_option("--keep-subtasks", o->keep_subtasks,
                  "Finished lists of subtasks, in JSON, that stay in the context (default: all)")
      ->check(CLI::NonNegativeNumber)
      ->excludes(branch);
  app->add_option("--part-tokens", o->part_tokens,
                  "Longest text of a branch, or of a step but the last; 0: as given (default: --max-tokens)")
      ->check(CLI::NonNegativeNumber);
}

void Apply(const PartOptions& o, Request* request) {
  for (const std::string& text : o.branches) request->branches.push_back({text, o.part_tokens});
  for (const std::string& text : o.steps) request->steps.push_back({text, o.part_tokens});
  if (!o.steps.empty()) request->steps.back().max_tokens = std::nullopt;
  request->join = o.join;
  request->keep_subtasks = o.keep_subtasks;
}

void AddSamplingOptions(CLI::App* app, SamplingOptions* o, bool as_recommended) {
  SamplingParams& p = o->params;
  SamplingDefaults& stated = o->stated;
  const auto help = [&](std::string_view what, std::string_view otherwise) {
    return StrFormat("{} (default: {}{})", what, as_recommended ? "as the model's files say, else " : "", otherwise);
  };
  app->add_option("--max-tokens", p.max_tokens, "Longest answer")->capture_default_str();
  app->add_option("--min-tokens", p.min_tokens, "Shortest answer")->capture_default_str();
  app->add_option("--temperature", stated.temperature, help("0: always the most probable token", "0"));
  app->add_option("--sample-top-k", stated.top_k, help("Sample from the k most probable tokens; 0: all", "0"));
  app->add_option("--top-p", stated.top_p, help("... from the smallest set with this probability", "1"));
  app->add_option("--min-p", stated.min_p, help("... from tokens at least this fraction as probable as the best", "0"));
  app->add_option("--repetition-penalty", stated.repetition_penalty,
                  help("Divides the logits of tokens already seen", "1"));
  app->add_option("--presence-penalty", p.presence_penalty, "Taken once from tokens already generated")
      ->capture_default_str();
  app->add_option("--frequency-penalty", p.frequency_penalty, "Taken for each time a token was generated")
      ->capture_default_str();
  app->add_option("--logit-bias", o->logit_bias, "ID:BIAS, added to that token's logit (repeatable)");
  app->add_option("--stop", p.stop, "Text that ends the answer (repeatable)");
  app->add_option("--seed", o->seed, "Seed of the sampling noise");
  app->add_option("--logprobs", o->logprobs, "Report log-probabilities and this many alternatives a token");
}

Result<std::string> BundledFolder(const std::string& name, const std::string& what) {
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  for (const char* above : {"", "..", "../..", "../share/spanwise"}) {
    const auto folder = (program / above / name).lexically_normal();
    if (std::filesystem::is_directory(folder, error)) return folder.string();
  }
  return NotFound(StrFormat("the bundled {} ({}) is not beside the program; name one with --{}", what, name, what));
}

Result<std::string> ModelPath(const CommonOptions& o) {
  if (o.model.empty()) return BundledFolder("models/pocket", "model");
  return FindModel(o.model);
}

Result<EngineOptions> ToEngineOptions(const CommonOptions& o) {
  if (o.device != "cpu") return Unimplemented(StrFormat("--device {} is not available; use cpu", o.device));
  EngineOptions engine;
  SW_ASSIGN_OR_RETURN(engine.model, ModelPath(o));
  if (!o.dtype.empty()) engine.dtype = o.dtype;
  if (!o.kv_dtype.empty()) engine.kv_dtype = o.kv_dtype;
  engine.threads = o.threads;
  engine.kv_memory_bytes = o.cache_memory_mb << 20;
  engine.cache_dir = o.cache_dir;
  engine.baked_dirs = o.baked;
  engine.cache_dir_bytes = o.cache_disk_mb << 20;
  engine.cache_remote = o.cache_remote;
  if (!o.cache_remote_password_file.empty()) {
    SW_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(o.cache_remote_password_file, size_t{1} << 16));
    engine.cache_remote.password = Trim(Split(text, '\n').front());
    if (engine.cache_remote.password.empty())
      return InvalidArgument(o.cache_remote_password_file + ": its first line is empty, expected a password");
  }
  engine.cache_codec = o.cache_codec;
  engine.plan_loads = o.cache_load == "planned";
  engine.on_warning = [](const std::string& message) {
    if (spdlog::should_log(spdlog::level::warn)) Note("spanwise: {}\n", Printable(message));
  };
  if (!o.cache_policy.empty()) engine.cache_policy = o.cache_policy;
  return engine;
}

CommonOptions WithBaked(CommonOptions options, const std::string& corpus) {
  if (!corpus.empty() && !options.no_cache && IsSpanFolder(rag::BakedFolder(corpus)))
    options.baked.push_back(rag::BakedFolder(corpus));
  return options;
}

Status SetLogLevel(const CommonOptions& o) {
  const auto level = spdlog::level::from_str(o.log_level);
  if (level == spdlog::level::off && o.log_level != "off")
    return InvalidArgument(
        StrFormat("--log-level {} is not one of trace, debug, info, warning, error", Quoted(o.log_level)));
  spdlog::set_level(level);
  return Status::Ok();
}

Result<std::unique_ptr<Engine>> OpenEngine(const CommonOptions& o) {
  SW_RETURN_IF_ERROR(SetLogLevel(o));
  SW_ASSIGN_OR_RETURN(const EngineOptions options, ToEngineOptions(o));
  SW_ASSIGN_OR_RETURN(auto engine, Engine::Open(options));
  const std::string& note = engine->model().calibration_note;
  if (o.compose != "exact" && !note.empty() && spdlog::should_log(spdlog::level::warn)) Note("spanwise: {}\n", note);
  return engine;
}

Result<ComposeOptions> ToComposeOptions(const CommonOptions& o) {
  ComposeOptions compose;
  SW_ASSIGN_OR_RETURN(compose.mode, ParseComposeMode(o.compose));
  SW_ASSIGN_OR_RETURN(compose.order, ParseDocumentOrder(o.order));
  compose.repair_fraction = o.repair_fraction;
  compose.repair_policy = o.repair_policy;
  compose.repair_threshold = o.repair_threshold;
  compose.search_trials = o.search_trials;
  compose.search_draft = o.search_draft;
  compose.documents_temperature = o.documents_temperature;
  compose.documents_scale = o.documents_scale;
  compose.force = o.force;
  return compose;
}

Result<SamplingParams> ToSamplingParams(const SamplingOptions& o, const SamplingDefaults& model) {
  SamplingParams params = WithDefaults(WithDefaults(o.params, model), o.stated);
  params.seed = o.seed;
  params.logprobs = o.logprobs;
  for (const std::string& item : o.logit_bias) {
    const size_t colon = item.find(':');
    int32_t id = 0;
    float bias = 0;
    const char *begin = item.data(), *middle = begin + std::min(colon, item.size()), *end = begin + item.size();
    if (colon == std::string::npos || std::from_chars(begin, middle, id).ptr != middle ||
        std::from_chars(middle + 1, end, bias).ptr != end)
      return InvalidArgument(StrFormat("--logit-bias {} is not ID:BIAS", Quoted(item)));
    params.logit_bias[id] = bias;
  }
  return params;
}

struct Progress::State {
  std::string what;
  bool shown = false;
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now(), last = start;
};

Progress::Progress(std::string what, bool quiet) {
  if (!quiet && isatty(STDERR_FILENO)) state_ = std::make_unique<State>(State{.what = std::move(what)});
}

Progress::~Progress() {
  if (state_ && state_->shown) Note("\r\033[K");
}

void Progress::Update(double done, double total) {
  if (!state_ || total <= 0) return;
  const auto now = std::chrono::steady_clock::now();
  if (now - state_->start < std::chrono::seconds(1) || now - state_->last < std::chrono::milliseconds(100)) return;
  state_->last = now;
  state_->shown = true;
  constexpr int kWidth = 30;
  const int filled = static_cast<int>(kWidth * std::min(1.0, done / total));
  Note("\r\033[K{} [{}{}] {:.0f}%", state_->what, std::string(static_cast<size_t>(filled), '#'),
       std::string(static_cast<size_t>(kWidth - filled), '.'), 100 * done / total);
}

Result<Answer> RunWatched(Engine& engine, Request request, Progress& progress, bool print_text) {
  const auto cancel = std::make_shared<CancelFlag>();
  RequestObserver observer;
  observer.on_prefill = [&progress](int done, int total) { progress.Update(done, total); };
  if (print_text)
    observer.on_text = [cancel](const std::string& text, const std::vector<TokenReport>&) {
      PrintText(text);
      if (!WriteOut()) cancel->Cancel();
    };
  auto answer = engine.Run(std::move(request), std::move(observer), cancel);
  SW_RETURN_IF_ERROR(Flush());  // which says more than that the request was cancelled
  return answer;
}

void PrintParts(const PartOptions& o, const Answer& answer) {
  for (size_t i = 0; i < answer.branches.size(); ++i)
    Print("[branch {}] {}{}\n", i + 1, o.branches[i], answer.branches[i].text);
  for (size_t i = 0; i + 1 < answer.steps.size(); ++i)
    Print("[step {}] {}{}\n", i + 1, o.steps[i], answer.steps[i].text);
}

json::object AnswerJson(const rag::GroundedAnswer& grounded, const std::string& model, bool logprobs) {
  const Answer& a = grounded.answer;
  json::object out{{"answer", a.text},
                   {"model", model},
                   {"finish_reason", rag::FinishName(a.finish_reason)},
                   {"compose", rag::ComposeJson(a.compose)},
                   {"usage", rag::UsageJson(a.usage)},
                   {"timings", rag::TimingsJson(a.timings)}};
  rag::AddCitationsJson(grounded, &out);
  rag::AddPartsJson(a, &out);
  if (size_t offset = 0; logprobs) out["logprobs"] = rag::CompletionLogprobs(a.tokens, &offset);
  return out;
}

std::string UnsupportedLine(const rag::UnsupportedCitation& citation) {
  std::string missing;
  for (const std::string& one : citation.missing) missing += (missing.empty() ? "" : ", ") + Quoted(one);
  return StrFormat("[{}] {}: not given as a citation, it has no {}", citation.label, citation.document_id, missing);
}

void PrintJson(const json::value& value) {
  Print("{}\n", json::serialize(value));
  WriteOut();
}

int Fail(const Status& status) {
  Note("spanwise: {}\n", Printable(status.message()));
  return kFailed;
}

}  // namespace spanwise::cli

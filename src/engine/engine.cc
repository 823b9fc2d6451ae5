#include "spanwise/engine.h"

#include <algorithm>
#include <filesystem>
#include <future>
#include <set>
#include <span>

#include "base/file.h"
#include "base/host.h"
#include "base/json.h"
#include "base/str.h"
#include "engine/arrangement.h"
#include "engine/calibration.h"
#include "engine/executor.h"
#include "engine/extraction.h"
#include "engine/memory.h"
#include "engine/model_text.h"
#include "engine/runner.h"
#include "engine/sentences.h"
#include "formats/model_file.h"
#include "kernels/ops.h"
#include "kv/tiers/disk.h"
#include "kv/tiers/remote.h"
#include "model/weights.h"
#include "prompt/chat_format.h"
#include "prompt/labels.h"
#include "prompt/normal_text.h"
#include "prompt/repair/repair.h"
#include "tokenizer/tokenizer.h"

namespace spanwise {
namespace {

Result<DType> ParseKvDType(const std::string& name) {
  const auto dtype = ParseDType(name);
  if (!dtype || *dtype == DType::kF16)
    return InvalidArgument(StrFormat("kv-dtype {} is not one of f32, bf16", Quoted(name)));
  return *dtype;
}

// The folder's or file's own name, without ".gguf".
std::string ModelName(const std::string& path) {
  const auto name = std::filesystem::path(path + "/.").lexically_normal().parent_path().filename();
  return (name.extension() == ".gguf" ? name.stem() : name).string();
}

Status CheckSalts(const Request& request) {
  const auto check = [](const std::string& salt, const auto& name) -> Status {
    if (salt.size() <= Document::kMostSaltBytes) return Status::Ok();
    return InvalidArgument(
        StrFormat("'{}' has {} bytes, expected at most {}", name(), salt.size(), Document::kMostSaltBytes));
  };
  SW_RETURN_IF_ERROR(check(request.cache_salt, [] { return "cache_salt"; }));
  const auto check_all = [&](const auto& texts, std::string_view of) -> Status {
    for (size_t i = 0; i < texts.size(); ++i)
      if (texts[i].cache_salt)
        SW_RETURN_IF_ERROR(check(*texts[i].cache_salt, [&] { return StrFormat("{}[{}].cache_salt", of, i); }));
    return Status::Ok();
  };
  SW_RETURN_IF_ERROR(check_all(request.messages, "messages"));
  return check_all(request.documents, "documents");
}

void AppendTokens(const PromptNode& node, std::vector<int32_t>* out) {
  out->insert(out->end(), node.tokens.begin(), node.tokens.end());
  for (const PromptNode& child : node.children) AppendTokens(child, out);
}

class EngineImpl final : public Engine {
 public:
  static Result<std::unique_ptr<Engine>> Open(const EngineOptions& options) {
    auto engine = std::make_unique<EngineImpl>();
    SW_RETURN_IF_ERROR(engine->Load(options));
    return std::unique_ptr<Engine>(std::move(engine));
  }

  Status Submit(Request request, RequestObserver observer, std::shared_ptr<CancelFlag> cancel,
                std::function<void(Result<Answer>)> done) override {
    auto job = Prepare(std::move(request));
    if (!job.ok()) {
      runner_->CountRefused();
      return job.status();
    }
    job->observer = std::move(observer);
    job->cancel = cancel ? std::move(cancel) : std::make_shared<CancelFlag>();
    job->done = std::move(done);
    return runner_->Submit(std::move(*job));
  }

  Result<PromptSize> Measure(Request request) const override {
    Job job;
    SW_RETURN_IF_ERROR(TakeIn(&request, &job));
    SW_ASSIGN_OR_RETURN(const PromptNode tree, BuildTree(request, job.labels));
    SW_ASSIGN_OR_RETURN(const Plan plan,
                        MakePlan(tree, calibration_.Resolve(request.compose), {keys_, request.cache_salt}));
    const int64_t room = std::min<int64_t>(info_.context_tokens - plan.end_position(), MemoryRoom(plan));
    return PromptSize{
        .tokens = plan.n_tokens(), .document_tokens = DocumentTokens(plan), .room = static_cast<int>(room)};
  }

  const ModelInfo& model() const override { return info_; }

  const EngineResources& resources() const override { return resources_; }

  EngineStats stats() const override { return runner_->stats(); }

  Result<std::vector<int32_t>> Tokenize(const std::string& text, bool parse_special) const override {
    return text_.tokenizer->Encode(text, parse_special);
  }
  Result<std::vector<int32_t>> TokenizePrompt(const std::string& text) const override {
    return text_.EncodePrompt(text);
  }
  Result<std::vector<int32_t>> PromptTokens(Request request) const override {
    Job job;
    SW_RETURN_IF_ERROR(TakeIn(&request, &job));
    SW_ASSIGN_OR_RETURN(const PromptNode tree, BuildTree(request, job.labels));
    std::vector<int32_t> tokens;
    AppendTokens(tree, &tokens);
    return tokens;
  }
  std::string Detokenize(const std::vector<int32_t>& ids, bool keep_special) const override {
    return text_.tokenizer->Decode(ids, keep_special);
  }
  std::string TokenText(int32_t id) const override { return text_.tokenizer->TokenBytes(id, true); }

 private:
  Status Load(const EngineOptions& options) {
    SW_RETURN_IF_ERROR(ops::SelectIsa(""));  // a wrong SPANWISE_ISA is said here, not met in the first step
    if (options.step_tokens < 1)
      return InvalidArgument(StrFormat("step_tokens is {}, expected at least 1", options.step_tokens));
    if (options.max_running < 1 || options.max_running > EngineOptions::kMostRunning)
      return InvalidArgument(
          StrFormat("max_running is {}, expected 1 to {}", options.max_running, EngineOptions::kMostRunning));
    if (options.max_queued < 1 || options.max_queued > EngineOptions::kMostQueued)
      return InvalidArgument(
          StrFormat("max_queued is {}, expected 1 to {}", options.max_queued, EngineOptions::kMostQueued));
    if (options.threads < 0 || options.threads > 1024)
      return InvalidArgument(StrFormat("threads is {}, expected 0 to 1024", options.threads));
    std::optional<WeightType> type;
    if (options.dtype) {
      SW_ASSIGN_OR_RETURN(type, ParseWeights(*options.dtype));
    }
    DType kv_dtype = type == WeightType::kF32 ? DType::kF32 : DType::kBf16;
    if (options.kv_dtype) {
      SW_ASSIGN_OR_RETURN(kv_dtype, ParseKvDType(*options.kv_dtype));
    }
    SW_ASSIGN_OR_RETURN(codec_, FindSpanCodec(options.cache_codec.empty() ? "none" : options.cache_codec));
    const std::string policy = options.cache_policy.value_or(std::string(kDefaultEvictionPolicy));
    SW_RETURN_IF_ERROR(MakeEvictionPolicy(policy, {}).status());
    SW_ASSIGN_OR_RETURN(const std::string path, FindModel(options.model));
    SW_ASSIGN_OR_RETURN(text_, LoadModelText(path));
    ThreadPool pool(options.threads);
    SW_ASSIGN_OR_RETURN(const auto weights, ModelWeights::Load(path, type, pool));
    if (text_.tokenizer->vocab_size() > weights->config().vocab_size)
      return InvalidArgument(
          StrFormat("{}: the tokenizer has ids up to {}, but the model's vocabulary holds {}: they belong to different "
                    "models; download both again",
                    path, text_.tokenizer->vocab_size() - 1, weights->config().vocab_size));
    for (const std::vector<std::string>& warnings : {text_.warnings, weights->config().warnings})
      for (const std::string& warning : warnings)
        if (options.on_warning) options.on_warning(warning);
    const HostShare memory = UsableMemory(), cpus = UsableCpus();
    const MemoryShares shares = ShareMemory(memory.amount, weights->n_bytes());
    resources_ = {.threads = options.threads ? options.threads : static_cast<int>(cpus.amount),
                  .threads_source = options.threads ? "" : cpus.source,
                  .kv_memory_bytes = options.kv_memory_bytes ? options.kv_memory_bytes : shares.kv_bytes,
                  .usable_memory_bytes = memory.amount,
                  .memory_source = memory.source};
    auto executor =
        std::make_unique<Executor>(weights, kv_dtype, resources_.kv_memory_bytes, resources_.threads, policy);
    n_blocks_ = executor->store().stats().n_blocks_budget;
    eos_ids_ = weights->config().eos_ids;
    for (const int32_t id : text_.ends)
      if (std::ranges::find(eos_ids_, id) == eos_ids_.end()) eos_ids_.push_back(id);
    Hasher keys;
    keys.Field(weights->digest()).Field(DTypeName(kv_dtype)).Field(ops::Formulas());
    if (!codec_->exact) keys.Field(codec_->name);  // rounded KV, and what was computed from it, is found by no one else
    keys_ = keys.Finish();

    SW_RETURN_IF_ERROR(AddTiers(options, shares, executor.get()));
    has_tiers_ = !executor->store().tiers().empty();
    // Until it is measured: as if the processor did this many operations a second, which is few.
    constexpr double kPriorRate = 20e9;
    if (options.plan_loads)
      executor->store().PlanLoads(LoadPlanner(2 * static_cast<double>(weights->n_parameters()) / kPriorRate));

    const ModelConfig& c = weights->config();
    info_ = {.name = ModelName(path),
             .architecture = c.model_type,
             .context_tokens = c.max_positions,
             .vocab_size = c.vocab_size,
             .parameters = weights->n_parameters(),
             .weight_bytes = weights->n_bytes(),
             .kv_bytes_per_token = executor->transformer().kv_geometry().BlockBytes() / kKvBlockTokens,
             .weight_dtype = std::string(WeightTypeName(weights->main_type())),
             .kv_dtype = std::string(DTypeName(kv_dtype)),
             .digest = Hasher().Field(weights->digest()).Field(text_.tokenizer->digest()).Finish().Hex(),
             .kv_digest = keys_.Hex(),
             .sampling = c.sampling,
             .tokenizer = text_.info,
             .calibration_note = {}};
    if (options.calibration) {
      SW_ASSIGN_OR_RETURN(calibration_, LoadCalibration(path, info_.digest, &info_.calibration_note));
    }
    runner_ = std::make_unique<Runner>(
        std::move(executor), *text_.tokenizer,
        RunnerOptions{
            .max_queued = options.max_queued, .max_running = options.max_running, .step_tokens = options.step_tokens});
    return Status::Ok();
  }

  // Where KV is looked for before anything is computed: what a server has sent is here already; of folders, those that
  // are only read come first.
  Status AddTiers(const EngineOptions& options, const MemoryShares& shares, Executor* executor) {
    const SpanFormat format{keys_, executor->transformer().kv_geometry(), codec_};
    if (const RemoteCache& remote = options.cache_remote; !remote.address.empty()) {
      const RespOptions server{.address = remote.address,
                               .user = remote.user,
                               .password = remote.password,
                               .tls = remote.tls,
                               .ca_file = remote.ca_file};
      SW_ASSIGN_OR_RETURN(auto tier, RemoteTier::Open(format, {.server = server,
                                                               .ttl_s = remote.ttl_s,
                                                               .queue_bytes = shares.queue_bytes,
                                                               .arrived_bytes = shares.fetched_bytes,
                                                               .warn = options.on_warning}));
      executor->store().AddTier(std::move(tier));
    }
    const auto add = [&](const DiskTierOptions& tier_options) -> Status {
      SW_ASSIGN_OR_RETURN(auto tier, DiskTier::Open(format, tier_options));
      if (tier) executor->store().AddTier(std::move(tier));
      return Status::Ok();
    };
    for (const std::string& folder : options.baked_dirs)
      SW_RETURN_IF_ERROR(add({.folder = folder,
                              .read_only = true,
                              .queue_bytes = shares.queue_bytes,
                              .read_threads = resources_.threads,
                              .ready_bytes = resources_.usable_memory_bytes / 4,
                              .warn = options.on_warning}));
    if (options.cache_dir.empty()) return Status::Ok();
    return add({.folder = options.cache_dir,
                .budget_bytes = options.cache_dir_bytes,
                .queue_bytes = shares.queue_bytes,
                .wait_when_full = options.cache_dir_waits,
                .read_threads = resources_.threads,
                .warn = options.on_warning});
  }

  Status CheckTokens(std::span<const int32_t> ids, std::string_view what) const {
    for (const int32_t id : ids)
      if (id < 0 || id >= info_.vocab_size)
        return InvalidArgument(StrFormat("{} token {} is outside the vocabulary of {}", what, id, info_.vocab_size));
    return Status::Ok();
  }

  // Documents as the model reads them, whoever wrote them down; `job` learns their labels and where they came from.
  static Status TakeIn(Request* request, Job* job) {
    SW_RETURN_IF_ERROR(CheckSalts(*request));
    for (Document& document : request->documents) {
      SW_ASSIGN_OR_RETURN(const auto title, NormalText(document.title));
      if (title) document.title = title->text;
      SW_ASSIGN_OR_RETURN(job->rewritten.emplace_back(), NormalText(document.text));
      if (job->rewritten.back()) document.text = job->rewritten.back()->text;
    }
    job->labels = AssignLabels(request->documents, request->cache_salt);
    NameDocuments(&request->documents);
    std::set<std::string> ids;
    for (const Document& d : request->documents) {
      if (!ids.insert(d.id).second) return InvalidArgument(StrFormat("document id {} is given twice", Quoted(d.id)));
      job->document_ids.push_back(d.id);
    }
    return Status::Ok();
  }

  Result<PromptNode> BuildTree(const Request& request, const std::vector<std::string>& labels) const {
    const int given = !request.messages.empty() + request.prompt.has_value() + request.prompt_tokens.has_value();
    if (given != 1) return InvalidArgument("a request needs either messages, a prompt, or prompt tokens");
    if (request.messages.empty()) {
      if (!request.documents.empty()) return InvalidArgument("documents go with messages; a plain prompt has none");
      PromptNode prompt = PromptNode::Text({}, {}, {}, SaltsFrom(request.cache_salt));
      if (request.prompt) {
        SW_ASSIGN_OR_RETURN(prompt.tokens, text_.EncodePrompt(*request.prompt));
      } else {
        SW_RETURN_IF_ERROR(CheckTokens(*request.prompt_tokens, "prompt"));
        prompt.tokens = *request.prompt_tokens;
      }
      return prompt;
    }
    if (request.echo) return InvalidArgument("'echo' goes with a plain prompt, not with messages");
    if (!text_.chat) return text_.no_chat;
    bool sentences = false;  // are wanted by the policy of repair
    if (request.compose.mode == ComposeMode::kRepair) {
      SW_ASSIGN_OR_RETURN(const RepairPolicy* policy, FindRepairPolicy(request.compose.repair_policy));
      sentences = policy->signals.sentences;
    }
    SW_ASSIGN_OR_RETURN(PromptNode tree,
                        text_.chat->Build(request.messages, request.documents, labels, request.cache_salt,
                                          /*locate=*/request.attention || request.extract || sentences));
    if (sentences) MarkSentences(request.documents, &tree);
    return tree;
  }

  // By how many tokens the last run may grow when all memory for KV is this plan's, but for the block that a copy is
  // made from. Below zero where the plan itself does not fit.
  int64_t MemoryRoom(const Plan& plan) const {
    int64_t n_blocks = static_cast<int64_t>(n_blocks_) - 1;
    for (const PlannedRun& run : std::span(plan.runs).first(plan.runs.size() - 1))
      n_blocks -= static_cast<int64_t>((run.tokens.size() + kKvBlockTokens - 1) / kKvBlockTokens);
    return n_blocks * kKvBlockTokens - static_cast<int64_t>(plan.runs.back().tokens.size());
  }

  static int DocumentTokens(const Plan& plan) {
    int n = 0;
    for (const PlannedPiece& piece : plan.pieces)
      if (!piece.document.empty()) n += piece.end - piece.begin;
    return n;
  }

  // Says how long the prompt is, how long it may be, and what to do about it.
  Status DoesNotFit(const Request& request, const Plan& plan, int least, bool memory) const {
    const int n = plan.n_tokens(), others = n - DocumentTokens(plan);
    std::string length = StrFormat("has {} tokens", n);
    if (plan.end_position() != n) length += StrFormat(" and reaches position {}", plan.end_position());
    if (least > 1) length += StrFormat(", with {} to follow", least);
    // What can help: documents only where the rest would fit without them.
    std::vector<std::string> advice;
    if (others < n && others < info_.context_tokens) advice.emplace_back("use fewer or shorter documents");
    if (std::ranges::count(request.messages, "user", &Message::role) > 1)
      advice.emplace_back("leave out earlier turns of the conversation");
    if (advice.empty()) advice.emplace_back(request.messages.empty() ? "shorten the prompt" : "shorten the message");
    if (memory) advice.emplace_back("give more memory");
    std::string advised;
    for (const std::string& one : advice) advised += (advised.empty() ? "" : " or ") + one;
    if (memory)
      return ContextExceeded(
          StrFormat("the prompt {}, and the memory for KV has {} blocks of {} tokens, one of them for a copy: {}",
                    length, n_blocks_, kKvBlockTokens, advised));
    return ContextExceeded(StrFormat("this model's maximum context length is {} tokens, and the prompt {}: {}",
                                     info_.context_tokens, length, advised));
  }

  // Whether the way in which a request is composed is measured and close enough; InvalidArgument when it is measured,
  // too far, and not forced.
  Result<bool> Calibrated(const Request& request, const Plan& plan) const {
    if (plan.exactness == kCausalExact || request.documents.empty() || request.documents_only) return true;
    auto calibrated = calibration_.Check(plan.options);
    if (!calibrated.ok() && request.compose.force) return false;
    return calibrated;
  }

  // Of an order that is settled at the request's turn, where there is something to order. `options`: the request's,
  // with the model's defaults.
  Result<std::optional<Arrangement>> LateArrangement(const Request& request, const ComposeOptions& options,
                                                     const PromptNode& tree) const {
    const bool search = options.order == DocumentOrder::kSearch;
    if (request.documents_only || (!search && options.order != DocumentOrder::kCached))
      return std::optional<Arrangement>();
    if (!request.branches.empty() || !request.steps.empty() || request.keep_subtasks)
      return InvalidArgument(StrFormat("order '{}' goes with neither 'branches' nor 'steps' nor 'keep_subtasks'",
                                       DocumentOrderName(options.order)));
    if (options.search_trials < 1 || options.search_trials > ComposeOptions::kMostTrials)
      return InvalidArgument(
          StrFormat("search_trials is {}, expected 1 to {}", options.search_trials, ComposeOptions::kMostTrials));
    Arrangement arrangement{.tree = tree, .options = options, .keys = {keys_, request.cache_salt}, .draft = {}};
    SW_ASSIGN_OR_RETURN(arrangement.draft, text_.tokenizer->Encode(options.search_draft, /*parse_special=*/false));
    if (request.documents.empty() || (!search && !request.use_cache)) return std::optional<Arrangement>();
    return std::optional(std::move(arrangement));
  }

  Result<Job> Prepare(Request request) const {
    SW_RETURN_IF_ERROR(decode::ValidateSampling(request.sampling, info_.vocab_size));
    if (request.priority < -Request::kMostPriority || request.priority > Request::kMostPriority)
      return InvalidArgument(StrFormat("priority is {}, expected -{} to {}", request.priority, Request::kMostPriority,
                                       Request::kMostPriority));
    Job job;
    SW_RETURN_IF_ERROR(TakeIn(&request, &job));
    SW_ASSIGN_OR_RETURN(const PromptNode tree, BuildTree(request, job.labels));
    ComposeOptions compose = calibration_.Resolve(request.compose);
    if (request.documents_only) {
      if (request.documents.empty() || request.echo || !request.branches.empty() || !request.steps.empty() ||
          !request.forced_tokens.empty() || request.keep_subtasks || request.extract || request.attention)
        return InvalidArgument("'documents_only' goes with messages and documents alone");
      compose.mode = ComposeMode::kSet;
      compose.order = DocumentOrder::kGiven;
    }
    SW_ASSIGN_OR_RETURN(job.plan, MakePlan(tree, compose, {keys_, request.cache_salt}));
    SW_ASSIGN_OR_RETURN(job.arrangement, LateArrangement(request, compose, tree));
    SW_ASSIGN_OR_RETURN(job.calibrated, Calibrated(request, job.plan));
    SW_RETURN_IF_ERROR(CheckTokens(request.forced_tokens, "forced"));
    if (!request.forced_tokens.empty() &&
        (!request.branches.empty() || !request.steps.empty() || request.keep_subtasks))
      return InvalidArgument("'forced_tokens' goes with neither 'branches' nor 'steps' nor 'keep_subtasks'");
    const int n_forced = static_cast<int>(request.forced_tokens.size());
    const int wanted = n_forced > 0 ? n_forced : request.documents_only ? 0 : request.sampling.max_tokens;
    const int least = n_forced > 0 ? n_forced : std::min(wanted, 1);  // fewer tokens of answer are no answer
    job.setup.sampling = request.sampling;
    job.setup.forced_tokens = request.forced_tokens;
    job.setup.eos_ids = eos_ids_;
    SW_ASSIGN_OR_RETURN(job.course, PrepareCourse(request, *text_.tokenizer, &job.plan, &job.setup));
    const int room = info_.context_tokens - job.plan.end_position();
    if (room < least) return DoesNotFit(request, job.plan, least, /*memory=*/false);
    const int64_t memory_room = MemoryRoom(job.plan);
    if (memory_room < least) return DoesNotFit(request, job.plan, least, /*memory=*/true);
    if (job.arrangement && static_cast<int64_t>(job.arrangement->draft.size()) > std::min<int64_t>(room, memory_room))
      return InvalidArgument(StrFormat("search_draft has {} tokens, and {} fit behind the prompt",
                                       job.arrangement->draft.size(), std::min<int64_t>(room, memory_room)));
    if (job.course) {
      // What is cut makes room again, but for the block that a copy is made from.
      const int64_t for_copy = job.course->keep_subtasks ? kKvBlockTokens : 0;
      job.course->most_tokens = static_cast<int>(job.plan.runs.back().tokens.size()) +
                                static_cast<int>(std::min<int64_t>(room, std::max<int64_t>(1, memory_room - for_copy)));
    } else {
      job.setup.max_tokens = static_cast<int>(std::min<int64_t>({wanted, room, memory_room}));
    }
    if (request.branches.empty()) {
      if (!request.join.empty()) return InvalidArgument("'join' goes with 'branches'");
    } else {
      SW_ASSIGN_OR_RETURN(job.fork,
                          PrepareFork(request, job.plan, {keys_, request.cache_salt}, *text_.tokenizer,
                                      {.context_tokens = info_.context_tokens, .n_blocks = n_blocks_}, &job.setup));
    }
    if (request.extract) {
      if (!request.branches.empty() || !request.steps.empty() || request.keep_subtasks ||
          !request.forced_tokens.empty())
        return InvalidArgument(
            "'extract' goes with neither 'branches' nor 'steps' nor 'keep_subtasks' nor 'forced_tokens'");
      SW_ASSIGN_OR_RETURN(job.setup.copy_of, PrepareExtraction(request, tree, *text_.tokenizer));
    }
    if (request.attention) {
      if (!request.branches.empty() || !request.steps.empty() || request.keep_subtasks)
        return InvalidArgument("'attention' goes with neither 'branches' nor 'steps' nor 'keep_subtasks'");
      job.pointed = PointInto(request.documents);
    }
    if (!request.attention && !request.extract) job.rewritten.clear();  // nothing else names places
    job.echo = request.echo;
    job.documents_only = request.documents_only;
    job.use_cache = request.use_cache;
    if (request.use_cache && has_tiers_) job.codec = codec_;
    job.priority = request.priority;
    job.client = request.client;
    return job;
  }

  ModelText text_;
  std::vector<int32_t> eos_ids_;
  size_t n_blocks_ = 0;  // of KV memory
  Hash256 keys_;
  const SpanCodec* codec_ = &ExactCodec();
  bool has_tiers_ = false;
  Calibration calibration_;
  ModelInfo info_;
  EngineResources resources_;
  std::unique_ptr<Runner> runner_;
};

}  // namespace

Result<std::unique_ptr<Engine>> Engine::Open(const EngineOptions& options) { return EngineImpl::Open(options); }

Result<Answer> Engine::Run(Request request, RequestObserver observer, std::shared_ptr<CancelFlag> cancel) {
  std::promise<Result<Answer>> promise;
  SW_RETURN_IF_ERROR(Submit(std::move(request), std::move(observer), std::move(cancel),
                            [&](Result<Answer> answer) { promise.set_value(std::move(answer)); }));
  return promise.get_future().get();
}

}  // namespace spanwise

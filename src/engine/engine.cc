#include "spanwise/engine.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <future>
#include <mutex>
#include <set>
#include <thread>

#include "base/file.h"
#include "base/json.h"
#include "base/str.h"
#include "engine/executor.h"
#include "engine/generation.h"
#include "engine/model_text.h"
#include "engine/pacer.h"
#include "kernels/ops.h"
#include "model/weights.h"
#include "prompt/chat_format.h"
#include "prompt/labels.h"
#include "tokenizer/tokenizer.h"

namespace spanwise {
namespace {

using Clock = std::chrono::steady_clock;

double MsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

size_t QuarterOfMemory() {
  return static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE)) / 4;
}

// Everything about a request that is settled before it is queued.
struct Job {
  Plan plan;
  Generation::Setup setup;
  bool echo = false;
  bool use_cache = true;
  std::vector<std::string> labels;
  RequestObserver observer;
  std::shared_ptr<CancelFlag> cancel;
  std::function<void(Result<Answer>)> done;
  Clock::time_point submitted = Clock::now();
};

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

class EngineImpl final : public Engine {
 public:
  static Result<std::unique_ptr<Engine>> Open(const EngineOptions& options) {
    auto engine = std::make_unique<EngineImpl>();
    SW_RETURN_IF_ERROR(engine->Load(options));
    engine->thread_ = std::thread([e = engine.get()] { e->Loop(); });
    return std::unique_ptr<Engine>(std::move(engine));
  }

  ~EngineImpl() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    if (thread_.joinable()) thread_.join();
  }

  Status Submit(Request request, RequestObserver observer, std::shared_ptr<CancelFlag> cancel,
                std::function<void(Result<Answer>)> done) override {
    auto job = Prepare(request);
    if (!job.ok()) {
      const std::lock_guard lock(mutex_);
      ++stats_.requests;
      ++stats_.failed;
      return job.status();
    }
    job->observer = std::move(observer);
    job->cancel = cancel ? std::move(cancel) : std::make_shared<CancelFlag>();
    job->done = std::move(done);
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return Unavailable("the engine is shutting down");
      if (static_cast<int>(queue_.size()) >= max_queued_)
        return ResourceExhausted(StrFormat("the queue is full: {} requests are waiting", queue_.size()));
      ++stats_.requests;
      queue_.push_back(std::move(*job));
    }
    wake_.notify_one();
    return Status::Ok();
  }

  const ModelInfo& model() const override { return info_; }

  EngineStats stats() const override {
    const std::lock_guard lock(mutex_);
    EngineStats stats = stats_;
    stats.queued = static_cast<int>(queue_.size());
    return stats;
  }

  Result<std::vector<int32_t>> Tokenize(const std::string& text, bool parse_special) const override {
    return text_.tokenizer->Encode(text, parse_special);
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
    if (options.max_running < 1)
      return InvalidArgument(StrFormat("max_running is {}, expected at least 1", options.max_running));
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
    if (!std::filesystem::exists(options.model)) return NotFound(options.model + ": no such model folder or GGUF file");
    if (!std::filesystem::is_directory(options.model) && !options.model.ends_with(".gguf"))
      return InvalidArgument(options.model + ": is neither a model folder nor a file that ends in .gguf");
    SW_ASSIGN_OR_RETURN(text_, LoadModelText(options.model));
    ThreadPool pool(options.threads);
    SW_ASSIGN_OR_RETURN(const auto weights, ModelWeights::Load(options.model, type, pool));
    if (text_.tokenizer->vocab_size() > weights->config().vocab_size)
      return InvalidArgument(StrFormat("{}: the tokenizer has ids up to {}, the model's vocabulary holds {}",
                                       options.model, text_.tokenizer->vocab_size() - 1, weights->config().vocab_size));
    const size_t budget = options.kv_memory_bytes ? options.kv_memory_bytes : QuarterOfMemory();
    executor_ = std::make_unique<Executor>(weights, kv_dtype, budget, options.threads);
    max_queued_ = options.max_queued;
    max_running_ = options.max_running;
    step_tokens_ = options.step_tokens;
    keys_ = Hasher().Field(weights->digest()).Field(text_.tokenizer->digest()).Field(DTypeName(kv_dtype)).Finish();

    const ModelConfig& c = weights->config();
    info_ = {.name = ModelName(options.model),
             .architecture = c.model_type,
             .context_tokens = c.max_positions,
             .vocab_size = c.vocab_size,
             .parameters = weights->n_parameters(),
             .weight_bytes = weights->n_bytes(),
             .kv_bytes_per_token = executor_->transformer().kv_geometry().BlockBytes() / kKvBlockTokens,
             .weight_dtype = std::string(WeightTypeName(weights->main_type())),
             .kv_dtype = std::string(DTypeName(kv_dtype))};
    stats_.kv_blocks_budget = executor_->store().stats().n_blocks_budget;
    return Status::Ok();
  }

  Result<PromptNode> BuildTree(const Request& request, std::vector<std::string>* labels) const {
    const int given = !request.messages.empty() + request.prompt.has_value() + request.prompt_tokens.has_value();
    if (given != 1) return InvalidArgument("a request needs either messages, a prompt, or prompt tokens");
    if (request.messages.empty()) {
      if (!request.documents.empty()) return InvalidArgument("documents go with messages; a plain prompt has none");
      if (request.prompt) {
        SW_ASSIGN_OR_RETURN(auto ids, text_.tokenizer->Encode(*request.prompt, /*parse_special=*/true));
        return PromptNode::Text(std::move(ids));
      }
      for (const int32_t id : *request.prompt_tokens)
        if (id < 0 || id >= info_.vocab_size)
          return InvalidArgument(StrFormat("prompt token {} is outside the vocabulary of {}", id, info_.vocab_size));
      return PromptNode::Text(*request.prompt_tokens);
    }
    if (request.echo) return InvalidArgument("'echo' goes with a plain prompt, not with messages");
    if (!text_.chat) return text_.no_chat;
    std::set<std::string> ids;
    for (const Document& d : request.documents)
      if (!ids.insert(d.id).second) return InvalidArgument(StrFormat("document id {} is given twice", Quoted(d.id)));
    *labels = AssignLabels(request.documents);
    return text_.chat->Build(request.messages, request.documents, *labels);
  }

  Result<Job> Prepare(const Request& request) const {
    SW_RETURN_IF_ERROR(decode::ValidateSampling(request.sampling, info_.vocab_size));
    Job job;
    SW_ASSIGN_OR_RETURN(const PromptNode tree, BuildTree(request, &job.labels));
    SW_ASSIGN_OR_RETURN(job.plan, MakePlan(tree, request.compose, {keys_, request.cache_salt}));
    const int room = info_.context_tokens - job.plan.end_position();
    if (room < 0 || (room == 0 && request.sampling.max_tokens > 0))
      return InvalidArgument(StrFormat(
          "the prompt reaches position {}, the model's context holds {} tokens: use fewer or shorter documents",
          job.plan.end_position(), info_.context_tokens));
    job.setup.sampling = request.sampling;
    job.setup.max_tokens = std::min(request.sampling.max_tokens, room);
    job.setup.eos_ids = executor_->transformer().config().eos_ids;
    if (request.sampling.repetition_penalty != 1.0f)
      for (const PlannedRun& run : job.plan.runs)
        job.setup.prompt.insert(job.setup.prompt.end(), run.tokens.begin(), run.tokens.end());
    job.echo = request.echo;
    job.use_cache = request.use_cache;
    return job;
  }

  // A request under way, owned by the engine's thread.
  struct Active {
    explicit Active(Job j) : job(std::move(j)) {}
    Job job;
    Answer answer;
    std::optional<Generation> generation;
    Sequence sequence;
    size_t n_blocks = 0;           // KV memory that it may come to need
    std::optional<int32_t> token;  // to feed next; absent while the prompt is read
    size_t n_echoed = 1;
    int n_steps = 0;
    Clock::time_point prefill, decode;
    bool all_logits() const { return job.echo && job.setup.sampling.logprobs; }
  };

  void Loop() {
    while (true) {
      Admit();
      if (active_.empty()) break;  // stopping
      Step();
    }
  }

  // Waits for work, then takes from the queue what may run: as many as fit in memory whatever they come to need, and
  // the first one in any case.
  void Admit() {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [&] { return stopping_ || !queue_.empty() || !active_.empty(); });
    if (stopping_) return Stop(lock);
    while (!queue_.empty() && static_cast<int>(active_.size()) < max_running_) {
      const size_t n_blocks = BlocksFor(queue_.front());
      if (!active_.empty() && reserved_blocks_ + n_blocks > stats_.kv_blocks_budget) break;
      reserved_blocks_ += n_blocks;
      auto active = std::make_unique<Active>(std::move(queue_.front()));
      active->n_blocks = n_blocks;
      active_.push_back(std::move(active));
      queue_.pop_front();
    }
    stats_.running = static_cast<int>(active_.size());
  }

  void Stop(std::unique_lock<std::mutex>& lock) {
    std::deque<Job> queue;
    queue.swap(queue_);
    lock.unlock();
    for (auto& active : active_) active->job.done(Cancelled("the engine is shutting down"));
    active_.clear();
    for (Job& job : queue) job.done(Cancelled("the engine is shutting down"));
  }

  // Blocks of the prompt and the longest answer, and one more for every run, which may begin with a copy.
  static size_t BlocksFor(const Job& job) {
    size_t n = 1;
    for (const PlannedRun& run : job.plan.runs) n += run.tokens.size() / kKvBlockTokens + 2;
    return n + static_cast<size_t>(job.setup.max_tokens) / kKvBlockTokens;
  }

  // One step of all requests under way; what has ended is answered.
  void Step() {
    std::vector<Executor::Turn> turns;
    int n_decode = 0;
    for (auto& active : active_) {
      Status status = CheckCancelled(active->job);
      if (status.ok() && !active->generation) status = Begin(*active);
      if (!status.ok()) {
        End(active, status);
        continue;
      }
      turns.push_back({.sequence = &active->sequence, .token = active->token, .all_logits = active->all_logits()});
      n_decode += active->token.has_value();
    }
    std::erase(active_, nullptr);
    if (turns.empty()) return;
    const Clock::time_point start = Clock::now();
    executor_->Step(turns, pacer_.Room(n_decode, step_tokens_));
    int n_prompt = 0;
    for (const Executor::Turn& turn : turns) n_prompt += turn.token ? 0 : turn.n_encoded;
    pacer_.Record(n_prompt, n_decode, MsSince(start) / 1000);
    for (size_t i = 0; i < turns.size(); ++i) {
      const Result<bool> goes_on = turns[i].status.ok() ? Advance(*active_[i], turns[i]) : turns[i].status;
      if (!goes_on.ok() || !*goes_on) End(active_[i], goes_on.status());
    }
    std::erase(active_, nullptr);
  }

  Status Begin(Active& a) {
    a.answer.document_labels = std::move(a.job.labels);
    SW_ASSIGN_OR_RETURN(a.generation,
                        Generation::Create(*text_.tokenizer, info_.vocab_size, a.job.setup, a.job.observer));
    const Clock::time_point begin = Clock::now();
    SW_ASSIGN_OR_RETURN(a.sequence, executor_->Begin(std::move(a.job.plan), a.job.use_cache, a.all_logits()));
    a.answer.timings.load_ms = MsSince(begin);
    a.answer.usage.prompt_tokens = a.sequence.n_prompt_tokens();
    a.prefill = Clock::now();
    return a.job.echo ? a.generation->Echo(a.sequence.tail_plan().tokens[0], {}) : Status::Ok();
  }

  // Takes what a step made; false when the answer is complete.
  Result<bool> Advance(Active& a, const Executor::Turn& turn) {
    const auto vocab = static_cast<size_t>(info_.vocab_size);
    if (!a.token) {
      const std::span<const int32_t> prompt = a.sequence.tail_plan().tokens;
      const size_t n = turn.logits.size() / vocab;
      for (size_t i = 0; a.all_logits() && i < n; ++i)
        if (const size_t next = static_cast<size_t>(turn.first) + i + 1; next < prompt.size()) {
          SW_RETURN_IF_ERROR(a.generation->Echo(prompt[next], turn.logits.subspan(i * vocab, vocab)));
          ++a.n_echoed;
        }
      if (turn.n_encoded > 0 && a.job.observer.on_prefill)
        a.job.observer.on_prefill(a.sequence.n_ready_prompt_tokens(), a.sequence.n_prompt_tokens());
      if (!a.sequence.prompt_is_ready()) return true;
      for (; a.job.echo && a.n_echoed < prompt.size(); ++a.n_echoed)
        SW_RETURN_IF_ERROR(a.generation->Echo(prompt[a.n_echoed], {}));
      a.answer.timings.prefill_ms = MsSince(a.prefill);
    } else {
      ++a.n_steps;
    }
    const bool first = !a.token;
    SW_ASSIGN_OR_RETURN(a.token, a.generation->Next(turn.logits.last(vocab)));
    if (first) {
      a.answer.timings.ttft_ms = MsSince(a.job.submitted);
      a.decode = Clock::now();
    }
    return a.token.has_value();
  }

  // Answers a request, well or with an error, and forgets it.
  void End(std::unique_ptr<Active>& active, const Status& status) {
    Active& a = *active;
    if (status.ok()) {
      a.answer.compose = Report(a.sequence);
      for (const int n : a.sequence.reused) a.answer.usage.cached_tokens += n;
      if (a.n_steps > 0) a.answer.timings.decode_tokens_per_s = a.n_steps / (MsSince(a.decode) / 1000);
      a.generation->Finish(&a.answer);
    }
    Result<Answer> answer = status.ok() ? Result<Answer>(std::move(a.answer)) : status;
    // A cancelled answer is kept as far as it came.
    if (a.token || status.ok()) executor_->Seal(a.sequence);
    a.sequence = {};
    {
      const std::lock_guard lock(mutex_);
      reserved_blocks_ -= a.n_blocks;
      --stats_.running;
      Count(answer);
    }
    a.job.done(std::move(answer));
    active = nullptr;
  }

  // REQUIRES: mutex_ is held.
  void Count(const Result<Answer>& answer) {
    const SpanStoreStats kv = executor_->store().stats();
    stats_.kv_blocks = kv.n_blocks;
    stats_.kv_spans = kv.n_spans;
    if (!answer.ok()) {
      ++(answer.status().code() == StatusCode::kCancelled ? stats_.cancelled : stats_.failed);
      return;
    }
    stats_.prompt_tokens += static_cast<uint64_t>(answer->usage.prompt_tokens);
    stats_.cached_tokens += static_cast<uint64_t>(answer->usage.cached_tokens);
    stats_.completion_tokens += static_cast<uint64_t>(answer->usage.completion_tokens);
  }

  Status CheckCancelled(const Job& job) {
    if (job.cancel->cancelled()) return Cancelled("the request was cancelled");
    const std::lock_guard lock(mutex_);
    return stopping_ ? Cancelled("the engine is shutting down") : Status::Ok();
  }

  static ComposeReport Report(const Sequence& sequence) {
    ComposeReport report{.mode = sequence.plan.options.mode,
                         .order = sequence.plan.options.order,
                         .exactness = sequence.plan.exactness,
                         .spans = {},
                         .repaired_tokens = 0};
    for (const PlannedPiece& piece : sequence.plan.pieces) {
      const int reused = sequence.reused[static_cast<size_t>(piece.run)];
      const int cached = std::clamp(reused - piece.begin, 0, piece.end - piece.begin);
      report.spans.push_back({.document = piece.document,
                              .tokens = piece.end - piece.begin,
                              .cached_tokens = cached,
                              .source = cached == piece.end - piece.begin ? KvSource::kRam : KvSource::kComputed});
    }
    return report;
  }

  ModelText text_;
  std::unique_ptr<Executor> executor_;  // used by thread_ alone once it runs, but for immutable parts
  Hash256 keys_;
  ModelInfo info_;
  int max_queued_ = 0, max_running_ = 0, step_tokens_ = 0;

  // Of thread_ alone.
  std::deque<std::unique_ptr<Active>> active_;  // in order of arrival
  size_t reserved_blocks_ = 0;                  // of all active
  Pacer pacer_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> queue_;  // guarded by mutex_
  bool stopping_ = false;  // guarded by mutex_
  EngineStats stats_;      // guarded by mutex_
  std::thread thread_;
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

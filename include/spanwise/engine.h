// The engine: one model, its kept KV, and a thread that answers requests, many at a time.
//
//   auto engine = Engine::Open({.model = "models/pocket"});
//   Request request;
//   request.documents = {{.id = "1", .title = "Cawick T40", .text = "The Cawick T40 weighs 12 kg."}};
//   request.messages = {{"user", "How much does the Cawick T40 weigh?"}};
//   Result<Answer> answer = (*engine)->Run(request);
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "spanwise/prompt.h"
#include "spanwise/sampling.h"
#include "spanwise/status.h"

namespace spanwise {

// A Valkey or Redis server where KV is kept that several machines share.
struct RemoteCache {
  std::string address = {};              // "host:port"; empty: none
  std::string user = {}, password = {};  // empty: the server's default user; none
  bool tls = false;                      // the server's certificate must name the host
  std::string ca_file = {};              // whom to believe that; empty: the system's authorities
  int64_t ttl_s = 0;                     // KV not used for so long is forgotten; 0: as the server decides
};

struct EngineOptions {
  static constexpr int kMostQueued = 1'000'000, kMostRunning = 4096;

  // A folder in the Hugging Face layout, a GGUF file, or a folder that holds one.
  std::string model;
  std::optional<std::string> dtype = {};     // weights: "f32", "bf16", "q8" or "q4"; absent: as stored
  std::optional<std::string> kv_dtype = {};  // "f32" or "bf16"; absent: f32 when dtype is f32, else bf16
  bool calibration = true;                   // false: what `spanwise calibrate` wrote beside the model is not read
  int threads = 0;                           // 0: as many as there are CPUs for this process
  // Budget of kept KV; 0: a quarter of the memory that the process may use, less where the model needs most of it.
  size_t kv_memory_bytes = 0;
  // What leaves when that is used up (docs/replacement.md); absent: the best.
  std::optional<std::string> cache_policy = {};
  // Folder where KV is kept that outlives memory and process; empty: none. One that cannot be written is only read, or
  // left alone, with a warning.
  std::string cache_dir = {};
  uint64_t cache_dir_bytes = 0;  // its budget; 0: a quarter of what the disk has free, with what it holds already
  // The engine waits for the disk rather than leave out what it is too slow for, and cannot do without it.
  bool cache_dir_waits = false;
  std::vector<std::string> baked_dirs = {};  // folders that an engine has filled before, and that this one only reads
  RemoteCache cache_remote = {};
  // How KV is written in all of these: "fp8", "int8" or "int4"; what comes from there is then only close to what was
  // computed (docs/persistence.md). Empty, or "none": as it is.
  std::string cache_codec = {};
  bool plan_loads = true;  // false: what is kept is loaded even where computing it would be faster
  int max_queued = 256;    // requests that may wait to begin; one more is ResourceExhausted
  int max_running = 64;    // requests that share each step; never changes results
  int step_tokens = 512;   // prompt tokens encoded in one step at most; never changes results
  // Something that results do not depend on does not work, in one line: a disk that is full or damaged, a server that
  // does not answer, an entry of the model's files that is passed over. From any thread.
  std::function<void(const std::string& message)> on_warning = {};
};

// Text that is given, and what is generated behind it.
struct Continuation {
  std::string prompt;
  std::optional<int> max_tokens;  // 0: the prompt is all of it; absent: SamplingParams::max_tokens
};

struct Request {
  // Either messages (with documents) that the model's chat template renders ...
  std::vector<Message> messages;
  std::vector<Document> documents;
  // ... or a plain prompt: text, in which special tokens are parsed, and before which stand the begin tokens that the
  // model's files ask for unless it begins with them; or token ids, which are the whole prompt.
  std::optional<std::string> prompt;
  std::optional<std::vector<int32_t>> prompt_tokens;

  ComposeOptions compose;
  SamplingParams sampling;
  // The answer's tokens, given instead of chosen (teacher forcing); empty: the model answers. Limits and stops do not
  // apply to them.
  std::vector<int32_t> forced_tokens;

  // Instead of one answer: continuations side by side, which do not see each other, and, where there is a `join`, an
  // answer behind all of them (docs/composition.md).
  static constexpr size_t kMostBranches = 64;
  std::vector<Continuation> branches;
  std::string join;  // text that follows the branches; empty: nothing does

  // An answer in steps: each gives text and generates behind it, and the last one's is the answer. Only the first one's
  // prompt may be empty.
  static constexpr size_t kMostSteps = 1024;
  std::vector<Continuation> steps;

  // Where the text behind the prompt, given or generated, is JSON with lists of "subtasks", as TIM models write it:
  // when more of them than this are finished, the earliest is cut out of the context, and what follows it is read again
  // in its place. Absent: nothing is.
  std::optional<int> keep_subtasks;

  // The answer is a stretch of one document, to the letter: it begins with a word and ends where the model would rather
  // go on otherwise behind a word, or at max_tokens.
  bool extract = false;

  // Reports where in the documents the answer was read from (Answer::attention). Changes nothing else.
  bool attention = false;

  bool echo = false;  // plain prompts only: the answer begins with the prompt, its tokens' log-probabilities included
  // Reads the documents as every composed mode keeps them, and what stands before them, and answers nothing. What
  // follows the documents does not matter.
  bool documents_only = false;
  bool use_cache = true;  // false: recompute everything and keep nothing
  // The salt of whatever has none of its own: messages, documents, other text, and what is generated.
  std::string cache_salt;

  // Who comes when; never changes results. Higher priorities come first and may suspend lower ones that run. Within a
  // priority, clients get equal shares of the engine's work, and each client's requests come in their order.
  static constexpr int kMostPriority = 100;
  int priority = 0;    // -kMostPriority to kMostPriority
  std::string client;  // any name
};

struct TokenAlternative {
  int32_t id = 0;
  std::string token;  // bytes; possibly a part of a UTF-8 character
  float logprob = 0;
};

struct TokenReport {
  int32_t id = 0;
  std::string token;             // bytes
  bool special = false;          // no part of the text
  std::optional<float> logprob;  // absent without SamplingParams::logprobs, and for the first token of an echoed prompt
  std::vector<TokenAlternative> alternatives;
};

struct Usage {
  int prompt_tokens = 0;
  int cached_tokens = 0;  // prompt tokens whose KV was reused
  int completion_tokens = 0;
};

struct Timings {
  double load_ms = 0;     // finding kept KV
  double prefill_ms = 0;  // encoding what was missing
  double ttft_ms = 0;     // from submission to the first token, waiting included
  double decode_tokens_per_s = 0;
};

enum class FinishReason { kStop, kLength };

struct BranchAnswer {
  std::string text;  // behind its prompt
  FinishReason finish_reason = FinishReason::kStop;
  std::vector<TokenReport> tokens;  // with logprobs
  Usage usage;                      // of the branch alone, the context not counted
  // Whose KV the join had to compute: a last token that was sampled and never read, more only where memory ran short.
  int recomputed_tokens = 0;
};

struct StepAnswer {
  std::string text;  // behind its prompt
  FinishReason finish_reason = FinishReason::kStop;
  std::vector<TokenReport> tokens;  // with logprobs
  int completion_tokens = 0;
};

// What became of finished subtasks.
struct PruningReport {
  int lists = 0;             // that were cut out
  int tokens = 0;            // that went with them
  int reencoded_tokens = 0;  // that had KV and were read again in a new place
  int peak_position = 0;     // that the context ever reached
};

// The attention behind an answer: of the rows that its tokens were chosen from, in the later half of the layers, as
// shares of all that they pay. Pointer Networks (2015); docs/composition.md, "Pointers".
struct AttentionReport {
  struct Stretch {              // a sentence of a document, or a line of a list or table
    size_t begin = 0, end = 0;  // bytes of its text
    double share = 0;
  };
  struct Document {
    std::string document;  // Document::id
    // Its stretches and what stands around its text, but for its first token: that one gathers attention whatever is
    // asked.
    double share = 0;
    std::vector<Stretch> stretches;
  };
  std::vector<Document> documents;  // as Request::documents
  double first_tokens = 0;          // of the documents
  double prompt = 0;                // outside documents
  double answer = 0;                // what the answer wrote itself
};

// A stretch of a document.
struct Extraction {
  std::string document;       // Document::id
  size_t begin = 0, end = 0;  // bytes of its text, of which the answer has the form that the model reads
};

struct Answer {
  std::string text;  // with branches: what follows the join
  FinishReason finish_reason = FinishReason::kStop;
  std::vector<TokenReport> tokens;       // with logprobs or echo: of the prompt (echo) and of the answer; else empty
  std::vector<BranchAnswer> branches;    // as Request::branches
  std::vector<StepAnswer> steps;         // as Request::steps, fewer where the context was full before
  std::optional<PruningReport> pruning;  // with Request::keep_subtasks
  std::optional<AttentionReport> attention;  // with Request::attention
  // With Request::extract: where the text stands, in the first document that has it. Absent where the text is empty.
  std::optional<Extraction> extraction;
  ComposeReport compose;
  Usage usage;  // all branches included, the context counted once
  Timings timings;
  uint64_t seed = 0;
  // The id under which the model saw each document, in the request's order: what the answer cites.
  std::vector<std::string> document_labels;
};

// How long the prompt of a request is.
struct PromptSize {
  int tokens = 0;
  int document_tokens = 0;  // of these, the documents'
  int room = 0;             // tokens that may follow it; below 1 the prompt is too long
};

// Callbacks run on the engine's thread and must return quickly. Any may be empty.
struct RequestObserver {
  std::function<void(const std::string& text, const std::vector<TokenReport>& tokens)> on_text;
  std::function<void(int done_tokens, int total_tokens)> on_prefill;
  // Every token that is scored, with the logits [vocab_size] that the model gave before it: of an echoed prompt all but
  // the first, then of the answer. The logits are valid during the call.
  std::function<void(int32_t token, std::span<const float> logits)> on_logits;
};

// Set from any thread; the request then ends with Cancelled at its next step.
class CancelFlag {
 public:
  void Cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }

 private:
  std::atomic<bool> cancelled_{false};
};

// What a model's files say for those who tokenise or render prompts themselves.
struct TokenizerInfo {
  std::optional<std::string> bos_token = {}, eos_token = {}, pad_token = {}, unk_token = {};
  std::optional<std::string> chat_template = {};  // Jinja
};

struct ModelInfo {
  std::string name;  // the folder's name
  std::string architecture;
  int context_tokens = 0;
  int vocab_size = 0;
  size_t parameters = 0;
  size_t weight_bytes = 0;
  size_t kv_bytes_per_token = 0;
  std::string weight_dtype, kv_dtype;
  std::string digest;         // of the weights, as they are used, and the tokenizer: hexadecimal
  std::string kv_digest;      // of all that KV depends on besides the tokens: who has the same shares kept KV
  SamplingDefaults sampling;  // for whoever makes requests; the engine takes each as it is
  TokenizerInfo tokenizer;
  std::string calibration_note;  // why a calibration beside the model is not used, in one line; empty: nothing to say
};

// What the engine takes of the machine, and why: "the machine", a limit of the process, or the file of a control group.
struct EngineResources {
  int threads = 0;
  std::string threads_source;  // empty: they were asked for
  size_t kv_memory_bytes = 0;
  uint64_t usable_memory_bytes = 0;  // by everything
  std::string memory_source;
};

struct EngineStats {
  uint64_t requests = 0, failed = 0, cancelled = 0;
  uint64_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
  uint64_t suspensions = 0;
  int queued = 0, running = 0, suspended = 0;
  double drain_s = 0;  // in which all that is queued will probably have been taken up; 0: not known yet
  size_t kv_blocks = 0, kv_blocks_budget = 0, kv_spans = 0;
  size_t kv_blocks_reserved = 0;  // what running requests may come to need
  // Of EngineOptions::cache_dir and baked_dirs together.
  uint64_t kv_disk_spans = 0, kv_disk_bytes = 0, kv_disk_budget_bytes = 0;
  uint64_t kv_disk_tokens = 0;         // of cached_tokens, those that came from there
  uint64_t kv_disk_mapped_tokens = 0;  // of these, those that were read in place and not copied into memory
  uint64_t kv_disk_written_spans = 0, kv_disk_evicted_spans = 0;
  uint64_t kv_disk_damaged_spans = 0;  // that were met and not used
  uint64_t kv_disk_lost_spans = 0;     // not written because the disk was slow, full or failing
  // Of EngineOptions::cache_remote.
  uint64_t kv_remote_tokens = 0;  // of cached_tokens, those that came from there
  uint64_t kv_remote_found_spans = 0, kv_remote_missing_spans = 0;
  uint64_t kv_remote_written_spans = 0, kv_remote_written_bytes = 0;
  uint64_t kv_remote_damaged_spans = 0;  // that were met and not used
  uint64_t kv_remote_lost_spans = 0;     // not sent because the server was slow, full or failing
};

// Thread-safe. Destruction cancels what is queued or running and waits for it.
class Engine {
 public:
  static Result<std::unique_ptr<Engine>> Open(const EngineOptions& options);
  virtual ~Engine() = default;

  // Checks and queues a request; `done` is called exactly once, on the engine's thread, unless Submit itself fails.
  // InvalidArgument: the request is wrong (its message names the field). ContextExceeded: its prompt does not fit the
  // model's context or the memory for KV. An answer that would not fit is no error: it ends there. ResourceExhausted:
  // the queue is full.
  virtual Status Submit(Request request, RequestObserver observer, std::shared_ptr<CancelFlag> cancel,
                        std::function<void(Result<Answer>)> done) = 0;

  // Submit and wait. Not from a callback.
  Result<Answer> Run(Request request, RequestObserver observer = {}, std::shared_ptr<CancelFlag> cancel = nullptr);

  // How large the prompt of a request is that has messages or a plain prompt, and no branches, steps and the like.
  // Fails as Submit does where the request is wrong.
  virtual Result<PromptSize> Measure(Request request) const = 0;

  virtual const ModelInfo& model() const = 0;
  virtual const EngineResources& resources() const = 0;
  virtual EngineStats stats() const = 0;
  virtual Result<std::vector<int32_t>> Tokenize(const std::string& text, bool parse_special) const = 0;
  // The tokens that Request::prompt becomes.
  virtual Result<std::vector<int32_t>> TokenizePrompt(const std::string& text) const = 0;
  // Those that the request's prompt consists of, documents in their order. InvalidArgument: as Submit.
  virtual Result<std::vector<int32_t>> PromptTokens(Request request) const = 0;
  virtual std::string Detokenize(const std::vector<int32_t>& ids, bool keep_special) const = 0;
  virtual std::string TokenText(int32_t id) const = 0;
};

}  // namespace spanwise

#include "server/fake_backend.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "base/str.h"
#include "decode/stop.h"

namespace spanwise::server {

namespace {

class FakeBackend final : public Backend {
 public:
  explicit FakeBackend(const FakeOptions& options) : options_(options), thread_([this] { Loop(); }) {}
  ~FakeBackend() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }

  const ModelCard& model() const override { return card_; }

  Status Submit(Job job, RequestObserver observer, std::shared_ptr<CancelFlag> cancel,
                std::function<void(Result<JobAnswer>)> done) override {
    if (Question(job).find("REFUSE") != std::string::npos) return ContextExceeded("the prompt does not fit");
    const std::lock_guard lock(mutex_);
    if (static_cast<int>(queue_.size()) >= options_.max_queued) return ResourceExhausted("the queue is full");
    ++stats_.requests;
    queue_.push_back({std::move(job), std::move(observer), std::move(cancel), std::move(done)});
    wake_.notify_all();
    return Status::Ok();
  }

  EngineStats stats() const override {
    const std::lock_guard lock(mutex_);
    EngineStats stats = stats_;
    stats.queued = static_cast<int>(queue_.size());
    stats.drain_s = options_.drain_s;
    return stats;
  }
  Result<std::vector<int32_t>> Tokenize(const std::string& text, bool) const override {
    if (!IsValidUtf8(text)) return InvalidArgument("the text is not valid UTF-8");
    if (options_.per_text.count() > 0) std::this_thread::sleep_for(options_.per_text);
    std::vector<int32_t> ids;
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }
  Result<std::vector<int32_t>> PromptTokens(const Request& request) const override {
    std::string text = request.prompt ? "<s>" + *request.prompt : "";
    for (const Message& message : request.messages) text += message.role + ":" + message.content + "\n";
    return Tokenize(text, false);
  }
  std::string TokenText(int32_t id) const override { return std::string(1, static_cast<char>(id)); }
  Result<std::string> Detokenize(const std::vector<int32_t>& ids, bool) const override {
    std::string text;
    for (const int32_t id : ids) {
      if (id > 255) return InvalidArgument(StrFormat("token {} is outside the vocabulary of 256", id));
      text += static_cast<char>(id);
    }
    return text;
  }

 private:
  struct Queued {
    Job job;
    RequestObserver observer;
    std::shared_ptr<CancelFlag> cancel;
    std::function<void(Result<JobAnswer>)> done;
  };

  static std::string Question(const Job& job) {
    const Request& r = job.request;
    if (!r.messages.empty()) return r.messages.back().content;
    if (r.prompt) return *r.prompt;
    std::string text;
    for (const int32_t id : *r.prompt_tokens) text += static_cast<char>(id);
    return text;
  }

  TokenReport Report(char c, const SamplingParams& sampling, bool first_of_prompt) const {
    TokenReport report{
        .id = static_cast<unsigned char>(c), .token = std::string(1, c), .logprob = {}, .alternatives = {}};
    if (!sampling.logprobs || first_of_prompt) return report;
    report.logprob = -0.5f;
    for (int i = 0; i < *sampling.logprobs; ++i)
      report.alternatives.push_back(
          {static_cast<unsigned char>(c) + i, std::string(1, static_cast<char>(c + i)), -0.5f - static_cast<float>(i)});
    return report;
  }

  Result<JobAnswer> Execute(Queued& q) {
    const Request& r = q.job.request;
    const std::string question = Question(q.job);
    JobAnswer out;
    Answer& answer = out.answer;
    std::string planned = r.messages.empty() ? "..." : "You said: " + question;
    if (question.find("HALF") != std::string::npos) planned = "\xf0\x9f";
    for (const Document& d : r.documents) {
      out.sources.push_back({d.id, d.title, d.text});
      answer.document_labels.push_back(std::to_string(out.sources.size()));
      answer.compose.spans.push_back({.document = d.id,
                                      .tokens = static_cast<int>(d.text.size()),
                                      .cached_tokens = 0,
                                      .source = KvSource::kComputed});
      answer.usage.prompt_tokens += static_cast<int>(d.text.size());
    }
    if (!r.documents.empty()) planned = r.documents[0].text + " [1]";
    answer.compose.mode = q.job.compose.value_or(ComposeMode::kExact);
    answer.compose.exactness = "causal-exact";
    answer.usage.prompt_tokens += static_cast<int>(question.size());
    answer.usage.cached_tokens = answer.usage.prompt_tokens / 2;
    answer.seed = r.sampling.seed.value_or(1);
    answer.finish_reason = FinishReason::kStop;

    decode::StopMatcher stop(r.sampling.stop);
    const auto emit = [&](const std::string& text, std::vector<TokenReport> reports) {
      answer.text += text;
      if (r.sampling.logprobs || r.echo) answer.tokens.insert(answer.tokens.end(), reports.begin(), reports.end());
      if (!r.sampling.logprobs && !r.echo) reports.clear();
      if (q.observer.on_text && !text.empty()) q.observer.on_text(text, reports);
    };
    if (r.echo)
      for (size_t i = 0; i < question.size(); ++i)
        emit(question.substr(i, 1), {Report(question[i], r.sampling, i == 0)});
    for (const char c : planned) {
      if (answer.usage.completion_tokens == r.sampling.max_tokens) {
        answer.finish_reason = FinishReason::kLength;
        break;
      }
      if (options_.per_token.count() > 0) std::this_thread::sleep_for(options_.per_token);
      if (q.cancel->cancelled()) return Cancelled("the request was cancelled");
      if (answer.usage.completion_tokens == 1 && question.find("FAIL") != std::string::npos)
        return Internal("failed as asked");
      ++answer.usage.completion_tokens;
      emit(stop.Push(std::string_view(&c, 1)), {Report(c, r.sampling, false)});
      if (stop.matched()) break;
    }
    // The real engine's text keeps bytes that never became a character; the server must cope with them.
    emit(question.find("HALF") != std::string::npos ? "\xf0\x9f" : stop.Finish(), {});
    return out;
  }

  void Loop() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
      if (stopping_) break;
      Queued q = std::move(queue_.front());
      queue_.pop_front();
      stats_.running = 1;
      lock.unlock();
      Result<JobAnswer> answer = Execute(q);
      lock.lock();
      stats_.running = 0;
      if (answer.ok()) {
        stats_.prompt_tokens += static_cast<uint64_t>(answer->answer.usage.prompt_tokens);
        stats_.cached_tokens += static_cast<uint64_t>(answer->answer.usage.cached_tokens);
        stats_.completion_tokens += static_cast<uint64_t>(answer->answer.usage.completion_tokens);
      } else {
        ++(answer.status().code() == StatusCode::kCancelled ? stats_.cancelled : stats_.failed);
      }
      lock.unlock();
      q.done(std::move(answer));
      q = {};
      lock.lock();
    }
    std::deque<Queued> left = std::move(queue_);
    lock.unlock();
    for (Queued& q : left) q.done(Cancelled("the backend is shutting down"));
  }

  const FakeOptions options_;
  const ModelCard card_{.id = "fake",
                        .context_tokens = 4096,
                        .tokenizer = {.bos_token = "<s>", .eos_token = "</s>", .chat_template = "{{ messages }}"},
                        .vocab_size = 256,
                        .fingerprint = "fp_fake"};
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Queued> queue_;  // guarded by mutex_
  bool stopping_ = false;     // guarded by mutex_
  EngineStats stats_;         // guarded by mutex_
  std::thread thread_;
};

}  // namespace

std::unique_ptr<Backend> NewFakeBackend(const FakeOptions& options) { return std::make_unique<FakeBackend>(options); }

}  // namespace spanwise::server

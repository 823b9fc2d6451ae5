#include "rag/bake.h"

#include <atomic>
#include <deque>
#include <filesystem>
#include <future>
#include <mutex>
#include <utility>

#include "kv/tiers/span_folder.h"
#include "rag/answerer.h"

namespace spanwise::rag {
namespace {

// Requests under way at a time: enough for full steps.
constexpr size_t kInFlight = 16;

// More than the disk has: it is full, and says so, before anything that is wanted is evicted.
uint64_t NoBudget(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  const auto space = std::filesystem::space(folder, error);
  return error ? uint64_t{1} << 40 : 2 * space.capacity;
}

class Reading {
 public:
  Reading(Engine& engine, const std::string& system, BakeReport* report)
      : engine_(engine), system_(system), report_(report) {}
  ~Reading() {
    for (auto& one : under_way_) one.wait();
  }

  Status Add(retrieval::StoredChunk chunk) {
    std::vector<Message> messages;
    if (!system_.empty()) messages.push_back({"system", system_});
    messages.push_back({"user", "?"});
    std::vector<Source> sources;
    sources.push_back({std::move(chunk.document_id),
                       std::move(chunk.title),
                       std::move(chunk.text),
                       chunk.begin,
                       {},
                       std::move(chunk.cache_salt)});
    Request request = MakeRequest(std::move(messages), sources, {}, {});
    request.documents_only = true;
    if (under_way_.size() >= kInFlight) SW_RETURN_IF_ERROR(TakeOne());
    auto promise = std::make_shared<std::promise<Result<Answer>>>();
    under_way_.push_back(promise->get_future());
    Status status = engine_.Submit(std::move(request), {}, nullptr,
                                   [promise](Result<Answer> answer) { promise->set_value(std::move(answer)); });
    if (!status.ok()) under_way_.pop_back();
    return status;
  }

  Status Finish() {
    while (!under_way_.empty()) SW_RETURN_IF_ERROR(TakeOne());
    return Status::Ok();
  }

 private:
  Status TakeOne() {
    Result<Answer> answer = under_way_.front().get();
    under_way_.pop_front();
    if (!answer.ok()) return answer.status();
    ++report_->chunks;
    report_->tokens += static_cast<uint64_t>(answer->usage.prompt_tokens);
    report_->found_tokens += static_cast<uint64_t>(answer->usage.cached_tokens);
    return Status::Ok();
  }

  Engine& engine_;
  const std::string& system_;
  BakeReport* const report_;
  std::deque<std::future<Result<Answer>>> under_way_;
};

}  // namespace

std::string BakedFolder(const std::string& corpus_folder) { return corpus_folder + "/kv"; }

Result<BakeReport> Bake(const EngineOptions& engine_options, const std::string& folder, const retrieval::Corpus& corpus,
                        const std::string& system, const std::function<bool(uint64_t done, uint64_t total)>& progress) {
  BakeReport report;
  uint64_t before = 0;
  std::mutex mutex;
  std::string trouble;  // guarded by mutex; what the disk said
  {
    EngineOptions baker = engine_options;
    baker.cache_dir = folder;
    baker.cache_dir_bytes = NoBudget(folder);
    baker.cache_dir_waits = true;
    baker.baked_dirs.clear();
    baker.cache_remote = {};
    std::atomic<bool> opened = false;
    baker.on_warning = [&](const std::string& message) {
      const std::lock_guard lock(mutex);
      if (opened) trouble = message;
      if (!opened && engine_options.on_warning) engine_options.on_warning(message);
    };
    SW_ASSIGN_OR_RETURN(const auto engine, Engine::Open(baker));
    opened = true;
    SW_ASSIGN_OR_RETURN(before, LastUse(folder));
    SW_ASSIGN_OR_RETURN(const retrieval::CorpusStats stats, corpus.Stats());
    SW_ASSIGN_OR_RETURN(const auto documents, corpus.ListDocuments());
    Reading reading(*engine, system, &report);
    for (const retrieval::DocumentInfo& document : documents) {
      SW_ASSIGN_OR_RETURN(auto chunks, corpus.ReadChunks(document.id));
      for (retrieval::StoredChunk& chunk : chunks) {
        SW_RETURN_IF_ERROR(reading.Add(std::move(chunk)));
        if (progress && !progress(report.chunks, stats.chunks)) return Cancelled("the run was cancelled");
      }
    }
    SW_RETURN_IF_ERROR(reading.Finish());
  }  // waits for the disk
  if (!trouble.empty()) return ResourceExhausted(trouble);
  SW_ASSIGN_OR_RETURN(report.removed_spans, RemoveUnusedSince(folder, before));
  SW_ASSIGN_OR_RETURN(const SpanFolderReport held, CheckSpanFolder(folder, /*verify=*/false));
  report.spans = held.spans;
  report.bytes = held.file_bytes;
  return report;
}

}  // namespace spanwise::rag

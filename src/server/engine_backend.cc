#include "server/engine_backend.h"

#include "base/hash.h"
#include "base/str.h"

namespace spanwise::server {

namespace {

class EngineBackend final : public Backend {
 public:
  EngineBackend(Engine& engine, const retrieval::Corpus* corpus, const EngineBackendOptions& options)
      : engine_(engine), corpus_(corpus), options_(options) {
    const ModelInfo& info = engine.model();
    card_.id = options.model_id.empty() ? info.name : options.model_id;
    card_.context_tokens = info.context_tokens;
    card_.tokenizer = info.tokenizer;
    card_.vocab_size = info.vocab_size;
    const Hash256 hash =
        Hasher().Field(info.name).Field(info.parameters).Field(info.weight_dtype).Field(info.kv_dtype).Finish();
    card_.fingerprint = "fp_" + hash.Hex().substr(0, 12);
  }

  const ModelCard& model() const override { return card_; }

  Status Submit(Job job, RequestObserver observer, std::shared_ptr<CancelFlag> cancel,
                std::function<void(Result<JobAnswer>)> done) override {
    SW_ASSIGN_OR_RETURN(std::vector<rag::Source> sources, FindSources(job));
    const ComposeOptions compose{
        .mode = job.compose.value_or(options_.compose.mode),
        .order = job.order.value_or(options_.compose.order),
        .documents_temperature =
            job.documents_temperature ? job.documents_temperature : options_.compose.documents_temperature,
        .documents_scale = job.documents_scale ? job.documents_scale : options_.compose.documents_scale,
        .repair_fraction = job.repair_fraction.value_or(options_.compose.repair_fraction),
        .repair_policy = job.repair_policy.value_or(options_.compose.repair_policy),
        .repair_threshold = job.repair_threshold ? job.repair_threshold : options_.compose.repair_threshold,
        .search_trials = job.search_trials.value_or(options_.compose.search_trials),
        .search_draft = job.search_draft.value_or(options_.compose.search_draft),
        .force = job.force || options_.compose.force};
    Request request = std::move(job.request);
    if (!request.messages.empty()) request.documents = rag::MakeRequest({}, sources, compose, {}).documents;
    request.compose = compose;
    return engine_.Submit(std::move(request), std::move(observer), std::move(cancel),
                          [sources = std::move(sources), done = std::move(done)](Result<Answer> answer) mutable {
                            if (!answer.ok()) return done(answer.status());
                            done(JobAnswer{std::move(*answer), std::move(sources)});
                          });
  }

  EngineStats stats() const override { return engine_.stats(); }
  Result<std::vector<int32_t>> Tokenize(const std::string& text, bool parse_special) const override {
    return engine_.Tokenize(text, parse_special);
  }
  Result<std::vector<int32_t>> PromptTokens(const Request& request) const override {
    return engine_.PromptTokens(request);
  }
  std::string TokenText(int32_t id) const override { return engine_.TokenText(id); }
  Result<std::string> Detokenize(const std::vector<int32_t>& ids, bool keep_special) const override {
    const int n = engine_.model().vocab_size;
    for (const int32_t id : ids)
      if (id < 0 || id >= n) return InvalidArgument(StrFormat("token {} is outside the vocabulary of {}", id, n));
    return engine_.Detokenize(ids, keep_special);
  }

 private:
  // The request's own documents, or passages for the last thing that the user said.
  Result<std::vector<rag::Source>> FindSources(const Job& job) const {
    std::vector<rag::Source> sources = rag::WholeDocuments(job.request.documents);
    const int top_k = job.top_k.value_or(corpus_ ? options_.top_k : 0);
    if (!sources.empty() || top_k == 0 || job.request.messages.empty()) return sources;
    if (!corpus_) return InvalidArgument("'spanwise.top_k' asks for passages, but the server has no corpus");
    SW_ASSIGN_OR_RETURN(sources, rag::Retrieve(*corpus_, job.request.messages, static_cast<size_t>(top_k)));
    for (rag::Source& source : sources)
      if (options_.public_corpus && !source.cache_salt) source.cache_salt = "";
    return sources;
  }

  Engine& engine_;
  const retrieval::Corpus* const corpus_;
  const EngineBackendOptions options_;
  ModelCard card_;
};

}  // namespace

std::unique_ptr<Backend> NewEngineBackend(Engine& engine, const retrieval::Corpus* corpus,
                                          const EngineBackendOptions& options) {
  return std::make_unique<EngineBackend>(engine, corpus, options);
}

}  // namespace spanwise::server

// What the server needs from whoever answers: a narrow seam, so that the protocol is tested without a model.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "rag/answerer.h"
#include "spanwise/engine.h"

namespace spanwise::server {

struct Job {
  Request request;  // its compose member is not used
  std::optional<ComposeMode> compose;
  std::optional<DocumentOrder> order;
  std::optional<double> repair_fraction, repair_threshold, documents_temperature, documents_scale;
  std::optional<std::string> repair_policy, search_draft;
  std::optional<int> search_trials;
  bool force = false;        // ComposeOptions::force
  std::optional<int> top_k;  // passages to retrieve for messages that bring no documents; 0: none
  bool cite = true;          // citations with the answer: as it is written, or by attention where the request asks
  // Where a value is absent the backend's own default holds.
};

struct JobAnswer {
  Answer answer;
  std::vector<rag::Source> sources;  // what stood in the prompt as documents, in the request's order
};

struct ModelCard {
  std::string id;
  int context_tokens = 0;
  TokenizerInfo tokenizer;
  int vocab_size = 0;
  std::string
      fingerprint;  // changes when equal requests may get different answers: the types of weights and KV, the version
};

// Thread-safe.
class Backend {
 public:
  virtual ~Backend() = default;

  virtual const ModelCard& model() const = 0;

  // As Engine::Submit: fails at once, or calls `done` exactly once from another thread, the observer before that.
  // Callbacks must return quickly. `cancel` is not null.
  virtual Status Submit(Job job, RequestObserver observer, std::shared_ptr<CancelFlag> cancel,
                        std::function<void(Result<JobAnswer>)> done) = 0;

  virtual EngineStats stats() const = 0;
  virtual Result<std::vector<int32_t>> Tokenize(const std::string& text, bool parse_special) const = 0;
  // As Engine::PromptTokens.
  virtual Result<std::vector<int32_t>> PromptTokens(const Request& request) const = 0;
  virtual std::string TokenText(int32_t id) const = 0;
  virtual Result<std::string> Detokenize(const std::vector<int32_t>& ids, bool keep_special) const = 0;
};

}  // namespace spanwise::server

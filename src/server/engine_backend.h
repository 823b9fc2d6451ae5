// The backend over an engine and, where there is one, a corpus to retrieve from.
#pragma once

#include <memory>

#include "retrieval/corpus.h"
#include "server/backend.h"

namespace spanwise::server {

struct EngineBackendOptions {
  std::string model_id;    // how clients name the model; empty: the engine's own name
  ComposeOptions compose;  // of requests that do not choose
  int top_k = 8;           // passages from the corpus, for requests that do not say
  // Passages are everybody's: those that say nothing else have the empty salt.
  bool public_corpus = false;
};

// Neither the engine nor the corpus is owned; corpus may be null.
std::unique_ptr<Backend> NewEngineBackend(Engine& engine, const retrieval::Corpus* corpus,
                                          const EngineBackendOptions& options);

}  // namespace spanwise::server

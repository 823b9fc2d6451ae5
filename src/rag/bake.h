// Reads a corpus ahead of its questions, so that their prompts find every chunk read already.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "retrieval/corpus.h"
#include "spanwise/engine.h"
#include "spanwise/status.h"

namespace spanwise::rag {

// Where a corpus' KV is kept unless another folder is named.
std::string BakedFolder(const std::string& corpus_folder);

struct BakeReport {
  uint64_t chunks = 0, tokens = 0;
  uint64_t found_tokens = 0;   // of these, that had been read before
  uint64_t removed_spans = 0;  // of texts that the corpus does not hold any more, or of another model
  uint64_t spans = 0, bytes = 0;
};

// Opens an engine whose cache_dir is `folder`, whatever `engine` says of that, and has it read every chunk of the
// corpus in the way in which prompts composed of it take them, behind the system message `system` (empty: none). Then
// it removes, in one transaction at the end, all that is not of this. What was there already is not computed again. A
// run that ends early has removed nothing and goes on where it was the next time. ResourceExhausted: the disk is full.
// Cancelled: `progress` returned false.
Result<BakeReport> Bake(const EngineOptions& engine, const std::string& folder, const retrieval::Corpus& corpus,
                        const std::string& system, const std::function<bool(uint64_t done, uint64_t total)>& progress);

}  // namespace spanwise::rag

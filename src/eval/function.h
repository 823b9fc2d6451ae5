// What a model does, told from what its files say: by digests where those prove it, by probes where they do not.
#pragma once

#include <string>
#include <vector>

#include "base/hash.h"
#include "spanwise/engine.h"
#include "spanwise/status.h"

namespace spanwise::eval {

// Hashes of a model's answers to fixed probes (Unified Functional Hashing, 2023): equal for models that do the same,
// whatever files they are made of. All are exact: two that differ in one bit of one probe differ.
struct ModelFunction {
  std::string kv;  // ModelInfo::kv_digest: a proof, not a probe
  Hash256 logits;  // of all positions of a text of token ids, every bit
  Hash256 tokens;  // the ids of texts of many kinds, and of the prompts that they make
  // The ids of conversations with and without documents, one hash each; of one that the template refuses, that it does.
  std::vector<Hash256> prompts;

  static constexpr int kProbeTokens = 96;
};

// Opens the model, asks it, and closes it. Deterministic.
Result<ModelFunction> ProbeModel(const EngineOptions& options);

}  // namespace spanwise::eval

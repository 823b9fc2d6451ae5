// How far composed prompts are from the flat prompt: in the distributions over a reference answer, in the answers
// given, and what they save.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "eval/divergence.h"
#include "eval/qa.h"

namespace spanwise::eval {

// One record read in one way. The flat prompt is read with nothing kept. A composed one is read when its documents have
// been read before, in the opposite order and for another question, and nothing else is kept.
struct FidelitySample {
  std::string kind;
  int documents = 0;
  int prompt_tokens = 0;
  std::vector<TokenDivergence> answer;       // of the reference answer's tokens, to the flat prompt
  bool right = false;                        // the greedy answer has the value
  bool as_exact = false;                     // ... is the flat prompt's to the letter
  double ttft_ms = 0;                        // of the greedy answer
  int recomputed_tokens = 0;                 // of its prompt
  std::optional<double> repair_change = {};  // ComposeReport's
};

struct FidelityOptions {
  std::vector<ComposeOptions> composed;  // compared with the flat prompt; limits of the calibration do not apply
  std::vector<int> documents;  // numbers of documents to cut each prompt to; empty: all of them. What the answer cites
                               // stays; a record that cites more, or has fewer, is left out
  bool answers = true;         // also give greedy answers; without, only `answer` of a sample is measured
};

// One way of reading, over some records.
struct FidelityScore {
  int n = 0;                          // prompts
  double documents = 0, tokens = 0;   // of the prompts, mean
  Divergence divergence;              // over the tokens of all reference answers
  double accuracy = 0, as_exact = 0;  // shares of the greedy answers
  double ttft_ms = 0;                 // median
  double recomputed_tokens = 0;       // mean
};

// One list of samples for the flat prompt, then one for each of options.composed, records in the same order in each.
Result<std::vector<std::vector<FidelitySample>>> MeasureFidelity(Engine& engine, const std::vector<QaRecord>& records,
                                                                 const FidelityOptions& options,
                                                                 const std::function<void(size_t done)>& progress);

FidelityScore Score(const std::vector<const FidelitySample*>& samples);
FidelityScore Score(const std::vector<FidelitySample>& samples);

// The ways of composing that this engine has, apart from the flat prompt, each with its default parameters.
std::vector<ComposeOptions> ComposedModes();

// The record with n documents: those that the answer cites, and the first others. nullopt when there are fewer than n
// or more are cited.
std::optional<QaRecord> WithDocuments(const QaRecord& record, int n);

}  // namespace spanwise::eval

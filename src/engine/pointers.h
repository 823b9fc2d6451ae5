// Pointers from an answer into its documents: how much attention its tokens pay to each stretch of them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/ops.h"
#include "model/weights.h"
#include "prompt/plan.h"
#include "retrieval/sentences.h"
#include "spanwise/engine.h"

namespace spanwise {

// A document and the stretches of its text that are told apart.
struct PointedDocument {
  std::string id;
  std::vector<retrieval::ByteRange> stretches;  // in order
};
std::vector<PointedDocument> PointInto(const std::vector<Document>& documents);

// Counts the attention of one answer. Thread-compatible.
class Pointers {
 public:
  // REQUIRES: the plan's documents are among `documents`, and pieces of text have their bytes.
  Pointers(const Plan& plan, const std::vector<PointedDocument>& documents, const ModelConfig& config);

  // All keys that the tail sees when it holds n_tail tokens, as Executor::Turn wants them. Valid until the next call.
  std::span<const KeyRange> Ranges(int n_tail);
  // What a step adds their masses to.
  std::span<int64_t> Mass();
  int first_layer() const { return first_layer_; }
  // Takes what the step added as the attention of one token of the answer.
  void Count();

  AttentionReport Report() const;

 private:
  // Shares of the report: these, then of each document what stands around its text and each of its stretches.
  enum : size_t { kPrompt, kAnswer, kFirstTokens, kDocuments };
  void Cover(int run, int end, size_t share);
  void CoverDocument(int run, const PlannedPiece& piece, const PointedDocument& document, size_t share);

  int first_layer_;
  double n_heads_;  // that count, over all layers
  std::vector<KeyRange> ranges_;
  std::vector<size_t> share_of_;  // of each range
  std::vector<int64_t> mass_;     // of each range, of one token
  std::vector<double> shares_;    // in units of mass
  int n_counted_ = 0;
  AttentionReport report_;  // without shares
};

}  // namespace spanwise

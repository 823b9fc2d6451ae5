// How often answers are right by the order of the documents, and by where those stand that the answer comes from.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "eval/qa.h"

namespace spanwise::eval {

struct OrderOptions {
  std::vector<ComposeOptions> ways;  // each with its order; limits of the calibration do not apply
  std::vector<double> places;  // where the documents that the answer cites are put, together: 0 first to 1 last; empty:
                               // where the record has them
  int documents = 0;           // cut each prompt to so many, as WithDocuments does; 0: all
};

// One record answered in one way.
struct OrderSample {
  std::string kind;
  size_t way = 0;
  std::optional<double> place;  // absent: as the record has it, or the way's order is the same for every place
  bool right = false;           // the greedy answer has the value
};

// Documents get scores for orders that need them: BM25 of the record's own documents for its question.
// InvalidArgument: a way whose mode has no such order; no record has as many documents, or cites any.
Result<std::vector<OrderSample>> MeasureOrders(Engine& engine, const std::vector<QaRecord>& records,
                                               const OrderOptions& options,
                                               const std::function<void(size_t done)>& progress);

// The record with the documents that its answer cites put together at that place, 0 first to 1 last, in their order.
QaRecord WithCitedAt(const QaRecord& record, double place);

// Gives every document of the record its BM25 score (k1 1.2, b 0.75, over title and text).
void ScoreDocuments(QaRecord* record);

}  // namespace spanwise::eval

// How well a model predicts text, and how far its predictions are from those of another reading of the same text, such
// as the same model in other weights.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "eval/divergence.h"
#include "eval/qa.h"

namespace spanwise::eval {

// A request whose scored tokens count, but for the first n_unscored.
struct Passage {
  Request request;
  size_t n_unscored = 0;
};

// Text cut into windows of `context` tokens that do not overlap, each read by itself behind `prefix`, a plain prompt
// (Request::prompt): the model's begin tokens and the prefix do not count. InvalidArgument: they leave no room.
Result<std::vector<Passage>> TextPassages(const Engine& engine, const std::vector<std::string>& texts, int context,
                                          const std::string& prefix);

// The reference answers of records, each after its question in one flat prompt.
Result<std::vector<Passage>> AnswerPassages(const Engine& engine, const std::vector<QaRecord>& records);

// Over all tokens that count. Without a reference (null) the other reading is compared with itself.
Result<Divergence> MeasurePerplexity(Engine& engine, Engine* reference, const std::vector<Passage>& passages,
                                     const std::function<void(size_t done)>& progress);

}  // namespace spanwise::eval

// Answers that come about in steps, and contexts from which finished subtasks are cut (TIMRUN).
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "engine/generation.h"
#include "prompt/plan.h"
#include "spanwise/engine.h"
#include "spanwise/status.h"
#include "tokenizer/tokenizer.h"

namespace spanwise {

// A step: text that is given, and what is generated behind it.
struct Passage {
  std::vector<int32_t> given;
  Generation::Setup setup;
};

struct Course {
  std::vector<Passage> passages = {};  // after the first, whose text the plan ends with
  size_t n_watched = 0;                // tokens at the end of the plan in which subtasks may begin
  std::optional<size_t> keep_subtasks = {};
  size_t n_steps = 0;                                 // of the request
  int most_tokens = std::numeric_limits<int>::max();  // that the last run may hold
};

// Settles the steps of a request, and puts the first one's text behind the plan. nullopt: it has none, nor subtasks to
// cut. InvalidArgument: the request is wrong. `first` is what every step is generated with, and becomes the first
// one's.
Result<std::optional<Course>> PrepareCourse(const Request& request, const Tokenizer& tokenizer, Plan* plan,
                                            Generation::Setup* first);

}  // namespace spanwise

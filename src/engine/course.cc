#include "engine/course.h"

#include <algorithm>
#include <utility>

#include "base/str.h"
#include "engine/fork.h"

namespace spanwise {
namespace {

Status CheckRequest(const Request& request) {
  const std::string_view name = request.steps.empty() ? "keep_subtasks" : "steps";
  if (request.keep_subtasks && *request.keep_subtasks < 0)
    return InvalidArgument(StrFormat("'keep_subtasks' is {}, expected 0 or more", *request.keep_subtasks));
  if (request.steps.size() > Request::kMostSteps)
    return InvalidArgument(
        StrFormat("'steps' has {} entries, expected at most {}", request.steps.size(), Request::kMostSteps));
  if (request.echo) return InvalidArgument(StrFormat("'echo' does not go with '{}'", name));
  if (!request.branches.empty()) return InvalidArgument(StrFormat("'branches' do not go with '{}'", name));
  return Status::Ok();
}

}  // namespace

Result<std::optional<Course>> PrepareCourse(const Request& request, const Tokenizer& tokenizer, Plan* plan,
                                            Generation::Setup* first) {
  if (request.steps.empty() && !request.keep_subtasks) return std::optional<Course>();
  SW_RETURN_IF_ERROR(CheckRequest(request));
  Course course{.n_steps = request.steps.size()};
  first->max_tokens = first->sampling.max_tokens;
  if (request.keep_subtasks) course.keep_subtasks = static_cast<size_t>(*request.keep_subtasks);
  if (!first->sampling.seed) first->sampling.seed = DrawSeed();  // one for all steps
  for (size_t i = 0; i < request.steps.size(); ++i) {
    const Continuation& step = request.steps[i];
    Passage passage{.given = {}, .setup = *first};
    SW_ASSIGN_OR_RETURN(passage.given, tokenizer.Encode(step.prompt, /*parse_special=*/request.messages.empty()));
    if (i > 0 && passage.given.empty())
      return InvalidArgument(StrFormat("'steps[{}].prompt' is empty, which only the first step's may be", i));
    SamplingParams& sampling = passage.setup.sampling;
    sampling.max_tokens = step.max_tokens.value_or(sampling.max_tokens);
    if (sampling.max_tokens < 0)
      return InvalidArgument(StrFormat("'steps[{}].max_tokens' is {}, expected at least 0", i, sampling.max_tokens));
    sampling.min_tokens = std::min(sampling.min_tokens, sampling.max_tokens);
    passage.setup.max_tokens = sampling.max_tokens;
    passage.setup.stream = static_cast<uint32_t>(i);
    course.passages.push_back(std::move(passage));
  }
  if (course.passages.empty()) return std::optional(std::move(course));

  *first = std::move(course.passages[0].setup);
  const std::vector<int32_t> given = std::move(course.passages[0].given);
  course.passages.erase(course.passages.begin());
  if (!given.empty()) {
    std::vector<int32_t>& tail = plan->runs.back().tokens;
    const int begin = static_cast<int>(tail.size()), run = static_cast<int>(plan->runs.size()) - 1;
    tail.insert(tail.end(), given.begin(), given.end());
    plan->pieces.push_back({{}, run, begin, static_cast<int>(tail.size())});
    course.n_watched = given.size();
  }
  return std::optional(std::move(course));
}

}  // namespace spanwise

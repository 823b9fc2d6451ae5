#include "engine/fork.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <utility>

#include "base/hash.h"
#include "base/str.h"
#include "kernels/kv_view.h"

namespace spanwise {
namespace {

int64_t BlocksOf(int64_t n_tokens) { return (n_tokens + kKvBlockTokens - 1) / kKvBlockTokens; }

// A branch's own noise, the same in whatever company it is generated and at whatever place: of its prompt and, where
// several have that, of how many come before it. 0 is left to the answer.
uint32_t StreamOf(const std::vector<int32_t>& seed, int n_before) {
  Hasher hasher;
  for (const int32_t token : seed) hasher.Field(static_cast<uint64_t>(token));
  const Hash256 hash = hasher.Field(static_cast<uint64_t>(n_before)).Finish();
  uint32_t stream;
  std::memcpy(&stream, hash.bytes.data(), sizeof stream);
  return stream | 1u;
}

Status CheckRequest(const Request& request) {
  if (request.branches.size() > Request::kMostBranches)
    return InvalidArgument(
        StrFormat("'branches' has {} entries, expected at most {}", request.branches.size(), Request::kMostBranches));
  if (request.echo) return InvalidArgument("'echo' does not go with 'branches'");
  return Status::Ok();
}

// What is settled before any branch: where they begin and what is left for them.
struct Place {
  const ForkLimits& limits;
  int position = 0;
  int n_follow = 0;  // positions that what follows them needs
  int64_t context_blocks = 0;
};

Result<Fork::Branch> PrepareBranch(const Continuation& branch, const std::string& name, const Place& place,
                                   std::vector<int32_t> seed, Generation::Setup setup) {
  if (seed.empty()) return InvalidArgument(StrFormat("'{}.prompt' is empty, expected text to begin with", name));
  const int n_seed = static_cast<int>(seed.size());
  SamplingParams& sampling = setup.sampling;
  sampling.max_tokens = branch.max_tokens.value_or(sampling.max_tokens);
  if (sampling.max_tokens < 0)
    return InvalidArgument(StrFormat("'{}.max_tokens' is {}, expected at least 0", name, sampling.max_tokens));
  sampling.min_tokens = std::min(sampling.min_tokens, sampling.max_tokens);
  const int least = std::min(1, sampling.max_tokens);
  const int room = place.limits.context_tokens - place.position - n_seed - place.n_follow;
  if (room < least)
    return ContextExceeded(
        StrFormat("'{}' begins at position {} with {} tokens, and {} follow it: the model's context "
                  "holds {} tokens",
                  name, place.position, n_seed, place.n_follow, place.limits.context_tokens));
  const int64_t memory =  // when it is alone
      (static_cast<int64_t>(place.limits.n_blocks) - place.context_blocks) * kKvBlockTokens - n_seed;
  if (memory < least)
    return ContextExceeded(StrFormat("'{}' does not fit into the memory for KV, {} blocks of {} tokens", name,
                                     place.limits.n_blocks, kKvBlockTokens));
  setup.max_tokens = static_cast<int>(std::min<int64_t>({sampling.max_tokens, room, memory}));
  return Fork::Branch{.seed = std::move(seed), .setup = std::move(setup)};
}

// Shortens the answer to the memory that is left whatever the branches become.
Status FitJoin(const Fork& fork, const Place& place, Generation::Setup* answer) {
  int64_t n_tokens = 0, n_blocks = place.context_blocks;
  for (const Fork::Branch& branch : fork.branches) {
    const int64_t n = static_cast<int64_t>(branch.seed.size()) + branch.setup.max_tokens;
    n_tokens += n;
    n_blocks += BlocksOf(n);
  }
  const int64_t memory = (static_cast<int64_t>(place.limits.n_blocks) - n_blocks) * kKvBlockTokens;
  if (memory < place.n_follow)
    return ContextExceeded(StrFormat(
        "the branches may come to {} tokens, which the join keeps together: with the context they do not fit into the "
        "memory for KV, {} blocks of {} tokens; use fewer branches or a smaller 'max_tokens'",
        n_tokens, place.limits.n_blocks, kKvBlockTokens));
  answer->max_tokens =
      static_cast<int>(std::min<int64_t>(answer->max_tokens, memory - static_cast<int64_t>(fork.join->size())));
  return Status::Ok();
}

}  // namespace

uint64_t DrawSeed() {
  std::random_device device;
  return std::uniform_int_distribution<uint64_t>()(device);
}

Result<Fork> PrepareFork(const Request& request, const Plan& context, const PlanKeys& keys, const Tokenizer& tokenizer,
                         const ForkLimits& limits, Generation::Setup* answer) {
  SW_RETURN_IF_ERROR(CheckRequest(request));
  // One for all of them, so that the answer can report it.
  if (!answer->sampling.seed) answer->sampling.seed = DrawSeed();
  const bool parse_special = request.messages.empty();  // as in the prompt itself
  Fork fork{.keys = keys, .context_tokens = limits.context_tokens, .branches = {}, .join = {}};
  if (!request.join.empty()) {
    SW_ASSIGN_OR_RETURN(fork.join, tokenizer.Encode(request.join, parse_special));
    if (fork.join->empty()) return InvalidArgument("'join' holds no token");
  }
  Place place{.limits = limits, .position = context.end_position()};
  if (fork.join) place.n_follow = static_cast<int>(fork.join->size()) + std::min(1, answer->max_tokens);
  place.context_blocks = 1;  // one that a copy may be made from
  for (const PlannedRun& run : context.runs) place.context_blocks += BlocksOf(static_cast<int64_t>(run.tokens.size()));

  std::map<std::vector<int32_t>, int> n_same;
  for (size_t i = 0; i < request.branches.size(); ++i) {
    const Continuation& branch = request.branches[i];
    SW_ASSIGN_OR_RETURN(std::vector<int32_t> seed, tokenizer.Encode(branch.prompt, parse_special));
    Generation::Setup setup = *answer;
    setup.stream = StreamOf(seed, n_same[seed]++);
    SW_ASSIGN_OR_RETURN(Fork::Branch prepared,
                        PrepareBranch(branch, StrFormat("branches[{}]", i), place, std::move(seed), std::move(setup)));
    fork.branches.push_back(std::move(prepared));
  }
  if (fork.join) SW_RETURN_IF_ERROR(FitJoin(fork, place, answer));
  return fork;
}

}  // namespace spanwise

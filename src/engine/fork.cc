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
  if (request.compose.mode != ComposeMode::kExact && request.compose.mode != ComposeMode::kSet)
    return Unimplemented(StrFormat("'branches' go with compose modes exact and set, not with {}",
                                   ComposeModeName(request.compose.mode)));
  return Status::Ok();
}

// What the branches come to at most: positions of the longest, tokens and blocks of all.
struct Extent {
  int longest = 0;
  int64_t n_tokens = 0, n_blocks = 0;
};

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
  const int join_tokens = fork.join ? static_cast<int>(fork.join->size()) : 0;
  const int join_least = join_tokens + (fork.join && answer->max_tokens > 0 ? 1 : 0);

  int64_t context_blocks = 1;  // one that a copy may be made from
  for (const PlannedRun& run : context.runs) context_blocks += BlocksOf(static_cast<int64_t>(run.tokens.size()));
  std::map<std::vector<int32_t>, int> n_same;
  Extent extent;
  for (size_t i = 0; i < request.branches.size(); ++i) {
    const Continuation& branch = request.branches[i];
    const std::string name = StrFormat("branches[{}]", i);
    SW_ASSIGN_OR_RETURN(std::vector<int32_t> seed, tokenizer.Encode(branch.prompt, parse_special));
    if (seed.empty()) return InvalidArgument(StrFormat("'{}.prompt' is empty, expected text to begin with", name));
    const int n_seed = static_cast<int>(seed.size());
    Generation::Setup setup = *answer;
    setup.sampling.max_tokens = branch.max_tokens.value_or(setup.sampling.max_tokens);
    if (setup.sampling.max_tokens < 0)
      return InvalidArgument(StrFormat("'{}.max_tokens' is {}, expected at least 0", name, setup.sampling.max_tokens));
    setup.sampling.min_tokens = std::min(setup.sampling.min_tokens, setup.sampling.max_tokens);
    const int room = limits.context_tokens - context.end_position() - n_seed - join_least;
    if (room < std::min(1, setup.sampling.max_tokens))
      return InvalidArgument(
          StrFormat("'{}' begins at position {} with {} tokens, and {} follow it: the model's context "
                    "holds {} tokens",
                    name, context.end_position(), n_seed, join_least, limits.context_tokens));
    const int64_t memory =
        (static_cast<int64_t>(limits.n_blocks) - context_blocks) * kKvBlockTokens - n_seed;  // when it is alone
    if (memory < std::min(1, setup.sampling.max_tokens))
      return InvalidArgument(StrFormat("'{}' does not fit into the memory for KV, {} blocks of {} tokens", name,
                                       limits.n_blocks, kKvBlockTokens));
    setup.max_tokens = static_cast<int>(std::min<int64_t>({setup.sampling.max_tokens, room, memory}));
    setup.stream = StreamOf(seed, n_same[seed]++);
    extent.longest = std::max(extent.longest, n_seed + setup.max_tokens);
    extent.n_tokens += n_seed + setup.max_tokens;
    extent.n_blocks += BlocksOf(n_seed + setup.max_tokens);
    fork.branches.push_back({.seed = std::move(seed), .setup = std::move(setup)});
  }
  if (!fork.join) return fork;

  const int64_t memory = (static_cast<int64_t>(limits.n_blocks) - context_blocks - extent.n_blocks) * kKvBlockTokens;
  if (memory < join_least)
    return InvalidArgument(StrFormat(
        "the branches may come to {} tokens, which the join keeps together: with the context they do not fit into the "
        "memory for KV, {} blocks of {} tokens; use fewer branches or a smaller 'max_tokens'",
        extent.n_tokens, limits.n_blocks, kKvBlockTokens));
  answer->max_tokens = static_cast<int>(std::min<int64_t>(answer->max_tokens, memory - join_tokens));
  return fork;
}

}  // namespace spanwise

// From a prompt tree to the runs of a context: which tokens stand where, what they see, and under which address.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kv/span.h"
#include "prompt/repair/repair.h"
#include "prompt/tree.h"
#include "spanwise/prompt.h"
#include "spanwise/status.h"

namespace spanwise {

// How a run was read that is then placed where it sees more: kept under its own address, with its own view.
struct PlannedSource {
  RunAddress address;
  int base = 0;
  std::vector<int> visible;
};

// One run to be found or encoded.
struct PlannedRun {
  RunAddress address;
  int base = 0;  // position of its first token
  std::vector<int32_t> tokens;
  std::vector<int> visible;  // earlier runs that its tokens see besides themselves, in canonical order
  // Set: the run begins with the source's KV, of which some tokens are recomputed where the run stands (Plan::repair).
  std::optional<PlannedSource> source = {};
  std::vector<int32_t> sentences = {};  // as PromptNode::sentences, of a run with a source
  int group = 0;  // of Plan::groups, from 1 on; 0: none. Members of a group stand together in `visible`
};

// How some runs enter the attention of those that see them; see RunGroup in kernels/ops.h.
struct PlannedGroup {
  double inverse_temperature = 1;
  double lse_scale = 1;
};

// Which tokens of the runs with a source are recomputed. The policy may look at what is asked, the beginning of a run;
// what comes to stand behind that changes nothing.
struct PlannedRepair {
  const RepairPolicy* policy = nullptr;
  int question_run = 0, question_tokens = 0;
};

// A stretch of the prompt for the report, in the prompt's own order.
struct PlannedPiece {
  std::string document;
  int run = 0;
  int begin = 0, end = 0;             // tokens of that run
  std::vector<TextRange> bytes = {};  // as PromptNode::bytes
};

// What Plan::exactness says where the result is the flat prompt's, to the bit.
inline constexpr std::string_view kCausalExact = "causal-exact";

// Runs in an order in which each sees only earlier ones; the last holds the end of the prompt and is the one that
// grows. Its tokens are never empty.
struct Plan {
  ComposeOptions options;
  std::string exactness;
  std::vector<PlannedRun> runs;
  std::vector<PlannedGroup> groups;
  std::optional<PlannedRepair> repair = {};
  std::vector<PlannedPiece> pieces;

  int n_tokens() const;
  int end_position() const;  // the position of the first generated token
};

// What a run's KV depends on besides its own tokens: the runs it sees, how far before it they stand, and how they are
// weighed. The zero hash where it sees none.
SpanKey ContextKey(const Plan& plan, const PlannedRun& run);

// Puts a text at a run's end, its salts into the run's address.
void AppendText(const PromptNode& text, PlannedRun* run);

struct PlanKeys {
  Hash256 model;     // weights, KV format and kernels
  std::string salt;  // of what is generated, and of text that comes behind the tree; empty: none
};

// Arranges sets by options.order, then composes by options.mode.
// InvalidArgument: nothing stands after the last set, or the prompt is empty. Unimplemented: a mode, order or nesting
// that this engine does not do.
Result<Plan> MakePlan(const PromptNode& tree, const ComposeOptions& options, const PlanKeys& keys);

}  // namespace spanwise

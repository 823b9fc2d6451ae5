#include <algorithm>
#include <utility>

#include "bench/prefill.h"
#include "bench/speed.h"

namespace spanwise::bench {
namespace {

struct Case {
  std::string name;
  ComposeOptions compose;
  bool cached = true;
};

std::vector<Case> Cases(const Options& o) {
  std::vector<Case> cases = {{"exact", {}, false}, {"exact-warm", {}}};
  const double sixteen = std::min(1.0, 16.0 / o.document_tokens);
  const std::vector<ComposeOptions> usual = {
      {.mode = ComposeMode::kSet},
      {.mode = ComposeMode::kApe},
      {.mode = ComposeMode::kRepair},
      {.mode = ComposeMode::kRepair, .repair_fraction = sixteen, .repair_policy = "first"}};
  for (const ComposeOptions& compose : o.composed.value_or(usual))
    cases.push_back({std::string(ComposeModeName(compose.mode)), compose});
  return cases;
}

// Prompts over the same documents, each with a new question.
class Prompts {
 public:
  explicit Prompts(const Options& o) : options_(o), executor_(o.weights, o.kv_dtype, kKvBudget, o.threads) {
    for (int i = 0; i < o.documents; ++i)
      documents_.push_back(PromptNode::Text(RandomTokens(o.document_tokens, 1000 + static_cast<uint32_t>(i), vocab()),
                                            std::to_string(i)));
  }

  struct Measured {
    double ms = 0;
    KvTraffic traffic;
    int repaired_tokens = 0;
  };
  Result<Measured> Read(const Case& c) {
    const PromptNode tree =
        PromptNode::Sequence({PromptNode::Text({1}), PromptNode::Set(documents_),
                              PromptNode::Text(RandomTokens(options_.question_tokens, ++n_questions_, vocab()))});
    SW_ASSIGN_OR_RETURN(Plan plan, MakePlan(tree, c.compose, {Sha256("bench"), ""}));
    Status status = Status::Ok();
    Measured measured;
    const KvTraffic before = executor_.traffic();
    const double seconds = Seconds([&] {
      Sequence sequence = executor_.Begin(std::move(plan), c.cached);
      status = Prefill(executor_, sequence);
      measured.repaired_tokens = sequence.n_repaired;
    });
    SW_RETURN_IF_ERROR(status);
    measured.ms = 1000 * seconds;
    measured.traffic = executor_.traffic() - before;
    return measured;
  }

 private:
  int vocab() const { return options_.weights->config().vocab_size; }

  const Options& options_;
  Executor executor_;
  std::vector<PromptNode> documents_;
  uint32_t n_questions_ = 0;
};

double Median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

}  // namespace

Status BenchReuse(const Options& o, const Report& report) {
  Prompts prompts(o);
  const std::vector<Case> cases = Cases(o);
  std::vector<Prompts::Measured> last(cases.size());
  for (const Case& c : cases)
    if (c.cached) SW_RETURN_IF_ERROR(prompts.Read(c).status());  // from now on its documents are kept
  // Round by round, so that what the machine gives is the same for all.
  std::vector<std::vector<double>> times(cases.size()), ratios(cases.size());
  for (int round = 0; round < o.repeats; ++round)
    for (size_t i = 0; i < cases.size(); ++i) {
      SW_ASSIGN_OR_RETURN(last[i], prompts.Read(cases[i]));
      times[i].push_back(last[i].ms);
      ratios[i].push_back(times[0].back() / last[i].ms);
    }
  for (size_t i = 0; i < cases.size(); ++i) {
    const ComposeOptions& compose = cases[i].compose;
    json::object of = {{"mode", cases[i].name},
                       {"shape", o.shape},
                       {"dtype", json::string(WeightTypeName(o.weights->main_type()))},
                       {"documents", o.documents},
                       {"document_tokens", o.document_tokens},
                       {"question_tokens", o.question_tokens}};
    if (compose.mode == ComposeMode::kRepair) {
      of["repair_fraction"] = compose.repair_fraction;
      of["repair_policy"] = compose.repair_policy;
    }
    Row row = Summarise("reuse", std::move(of), "ms", times[i]);
    row.beside = {{"exact_ratio", Median(ratios[i])},
                  {"repaired_tokens", last[i].repaired_tokens},
                  {"kv_read_bytes", last[i].traffic.read_bytes},
                  {"kv_written_bytes", last[i].traffic.written_bytes},
                  {"kv_copied_bytes", last[i].traffic.copied_bytes}};
    report(row);
  }
  return Status::Ok();
}

}  // namespace spanwise::bench


#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "base/file.h"
#include "base/str.h"
#include "cli/evals.h"
#include "cli/records.h"
#include "engine/calibration.h"
#include "eval/fidelity.h"
#include "eval/plot.h"

namespace spanwise::cli {
namespace {

struct Options {
  CommonOptions common;
  RecordOptions records;
  ModeOptions modes;
  std::vector<int> documents;
  std::string by = "size", plot;
};

// 1, 2, 3-4, 5-8, 9-16, ...: the upper end.
int UpperEnd(int n) {
  int end = 1;
  while (end < n) end *= 2;
  return end;
}

std::string Range(int end) { return end <= 2 ? std::to_string(end) : StrFormat("{}-{}", end / 2 + 1, end); }

// What a sample is grouped under, in the order of the table.
struct Group {
  std::string kind;               // with --by kind
  int documents = 0, tokens = 0;  // with --by size: upper ends
  auto operator<=>(const Group&) const = default;
};

Group GroupOf(const eval::FidelitySample& s, const std::string& by) {
  if (by == "kind") return {.kind = s.kind};
  if (by == "size")
    return {.kind = {}, .documents = UpperEnd(s.documents), .tokens = UpperEnd(std::max(s.prompt_tokens, 128))};
  return {};
}

json::object CaseOf(const ComposeOptions& compose, const Group& group) {
  json::object of{{"mode", json::string(ComposeModeName(compose.mode))}};
  if (compose.mode == ComposeMode::kRepair) {
    of["repair_fraction"] = compose.repair_fraction;
    of["repair_policy"] = compose.repair_policy;
    if (compose.repair_threshold) of["repair_threshold"] = *compose.repair_threshold;
  }
  if (!group.kind.empty()) of["kind"] = group.kind;
  if (group.documents > 0) {
    of["documents"] = Range(group.documents);
    of["tokens"] = Range(group.tokens);
  }
  return of;
}

void PrintRow(const Options& o, const ComposeOptions& compose, const Group& group, const eval::FidelityScore& s) {
  if (o.common.json) {
    const json::object of = CaseOf(compose, group);
    const auto n = static_cast<size_t>(s.n);
    PrintFigure("fidelity", "kl", of, s.divergence.kl, s.divergence.n);
    PrintFigure("fidelity", "kl_p99", of, s.divergence.kl_p99, s.divergence.n);
    PrintFigure("fidelity", "top1_agreement", of, s.divergence.agreement, s.divergence.n);
    PrintFigure("fidelity", "accuracy", of, s.accuracy, n);
    PrintFigure("fidelity", "same_answer", of, s.as_exact, n);
    PrintFigure("fidelity", "ttft_ms", of, s.ttft_ms, n);
    PrintFigure("fidelity", "prompt_tokens", of, s.tokens, n);
    PrintFigure("fidelity", "recomputed_tokens", of, s.recomputed_tokens, n);
    return;
  }
  std::string where = group.kind.empty() ? "all" : group.kind;
  if (group.documents > 0) where = StrFormat("{} / {}", Range(group.documents), Range(group.tokens));
  Print("{:<40} {:<18} {:>5} {:>9.3g} {:>9.3g} {:>7.2f} {:>7.1f} {:>7.1f} {:>9.1f} {:>8.0f} {:>8.0f}\n",
        CompositionName(compose), where, s.n, s.divergence.kl, s.divergence.kl_p99, 100 * s.divergence.agreement,
        100 * s.accuracy, 100 * s.as_exact, s.ttft_ms, s.tokens, s.recomputed_tokens);
}

// KL over the fraction repaired where several were measured, a line a policy; else over the number of documents, a line
// a way of composing.
eval::Plot PlotOf(const std::vector<ComposeOptions>& ways,
                  const std::vector<std::vector<eval::FidelitySample>>& samples) {
  std::set<double> fractions;
  for (const ComposeOptions& way : ways)
    if (way.mode == ComposeMode::kRepair) fractions.insert(way.repair_fraction);
  const bool swept = fractions.size() > 1;
  eval::Plot plot{.title = "Distance from the flat prompt",
                  .x_label = swept ? "fraction of the documents' tokens repaired" : "documents",
                  .y_label = "mean KL, nats a token of the answer",
                  .series = {}};
  std::map<std::string, size_t> series;
  const auto add = [&](const std::string& name, double x, double y) {
    const auto [at, fresh] = series.emplace(name, plot.series.size());
    if (fresh) plot.series.push_back({name, {}});
    plot.series[at->second].points.emplace_back(x, y);
  };
  for (size_t i = 1; i < ways.size(); ++i) {
    if (swept) {
      const double kl = Score(samples[i]).divergence.kl;
      if (ways[i].mode == ComposeMode::kRepair) {
        add("repair " + ways[i].repair_policy, ways[i].repair_fraction, kl);
      } else {
        for (const double x : {*fractions.begin(), *fractions.rbegin()}) add(CompositionName(ways[i]), x, kl);
      }
      continue;
    }
    std::map<int, std::vector<const eval::FidelitySample*>> by_documents;
    for (const eval::FidelitySample& s : samples[i]) by_documents[UpperEnd(s.documents)].push_back(&s);
    for (const auto& [end, some] : by_documents) {
      const eval::FidelityScore score = eval::Score(some);
      add(CompositionName(ways[i]), score.documents, score.divergence.kl);
    }
  }
  return plot;
}

Status EvalFidelity(const Options& o) {
  SW_ASSIGN_OR_RETURN(const auto records, LoadRecords(o.records));
  SW_ASSIGN_OR_RETURN(const auto modes, ToModes(o.modes));
  SW_ASSIGN_OR_RETURN(const auto engine, OpenEngine(o.common));
  Progress progress("comparing", o.common.quiet);
  SW_ASSIGN_OR_RETURN(
      const auto samples,
      eval::MeasureFidelity(*engine, records, {.composed = modes, .documents = o.documents}, [&](size_t done) {
        progress.Update(static_cast<double>(done), static_cast<double>(records.size()));
      }));
  std::vector<ComposeOptions> ways = {{}};
  ways.insert(ways.end(), modes.begin(), modes.end());

  if (!o.common.json)
    Print("{:<40} {:<18} {:>5} {:>9} {:>9} {:>7} {:>7} {:>7} {:>9} {:>8} {:>8}\n", "mode",
          o.by == "size" ? "documents / tokens" : o.by, "n", "KL", "KL p99", "top-1 %", "right %", "same %", "TTFT ms",
          "tokens", "computed");
  std::map<Group, std::vector<std::vector<const eval::FidelitySample*>>> groups;
  for (size_t i = 0; i < ways.size(); ++i)
    for (const eval::FidelitySample& s : samples[i]) {
      auto& of_group = groups[GroupOf(s, o.by)];
      of_group.resize(ways.size());
      of_group[i].push_back(&s);
    }
  for (const auto& [group, of_group] : groups)
    for (size_t i = 0; i < ways.size(); ++i) PrintRow(o, ways[i], group, eval::Score(of_group[i]));
  if (groups.size() > 1)
    for (size_t i = 0; i < ways.size(); ++i) PrintRow(o, ways[i], {}, eval::Score(samples[i]));
  if (!o.plot.empty()) SW_RETURN_IF_ERROR(WriteFileAtomic(o.plot, eval::ToSvg(PlotOf(ways, samples))));
  return Status::Ok();
}

}  // namespace

Verb EvalFidelityVerb(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("fidelity", "How far composed prompts are from the flat prompt");
  AddRecordOptions(verb, &o->records);
  verb->get_option("--data")->required();
  AddModeOptions(verb, &o->modes);
  verb->add_option("--documents", o->documents,
                   "Cut each prompt to so many documents, cited ones first; several numbers, separated by commas")
      ->delimiter(',')
      ->check(CLI::Range(1, 100000));
  verb->add_option("--by", o->by, "Group by size, kind or mode alone")
      ->check(CLI::IsMember({"size", "kind", "mode"}))
      ->capture_default_str();
  verb->add_option("--plot", o->plot, "Write a plot to this SVG file");
  AddModelOptions(verb, &o->common);
  AddOutputOptions(verb, &o->common);
  return {verb, [o] {
            const Status status = EvalFidelity(*o);
            return status.ok() ? kDone : Fail(status);
          }};
}

}  // namespace spanwise::cli

#include "cli/records.h"

#include <algorithm>
#include <map>

#include "eval/fidelity.h"

namespace spanwise::cli {

void AddRecordOptions(CLI::App* app, RecordOptions* o) {
  app->add_option("--data", o->data, "Question records: .jsonl files or folders of them");
  app->add_option("--kind", o->kinds, "Only this kind of question (repeatable)");
  app->add_option("--except", o->except, "Not this kind of question (repeatable)")->capture_default_str();
  app->add_option("--limit", o->limit, "At most this many questions of a kind");
}

Result<std::vector<eval::QaRecord>> LoadRecords(const RecordOptions& o) {
  SW_ASSIGN_OR_RETURN(auto records, eval::ReadQaRecords(o.data));
  std::map<std::string, size_t> taken;
  std::erase_if(records, [&](const eval::QaRecord& r) {
    const auto named = [&](const std::vector<std::string>& kinds) {
      return std::ranges::find(kinds, r.kind) != kinds.end();
    };
    if (o.kinds.empty() ? named(o.except) : !named(o.kinds)) return true;
    return o.limit > 0 && ++taken[r.kind] > o.limit;
  });
  if (records.empty()) return NotFound("no question records of the kinds asked for");
  return records;
}

void AddModeOptions(CLI::App* app, ModeOptions* o) {
  app->add_option("--modes", o->modes, "Ways of composing, separated by commas (default: all there are)")
      ->delimiter(',');
  app->add_option("--repair-fractions", o->repair_fractions, "Fractions of repair, separated by commas")
      ->delimiter(',')
      ->check(CLI::Range(0.0, 1.0));
  app->add_option("--repair-policies", o->repair_policies, "Policies of repair, separated by commas")->delimiter(',');
}

Result<std::vector<ComposeOptions>> ToModes(const ModeOptions& o) {
  std::vector<ComposeOptions> modes;
  if (o.modes.empty()) modes = eval::ComposedModes();
  for (const std::string& name : o.modes) {
    SW_ASSIGN_OR_RETURN(const ComposeMode mode, ParseComposeMode(name));
    if (mode != ComposeMode::kExact) modes.push_back({.mode = mode});  // exact is always measured
  }
  std::vector<ComposeOptions> out;
  for (const ComposeOptions& mode : modes) {
    if (mode.mode != ComposeMode::kRepair) {
      out.push_back(mode);
      continue;
    }
    for (const std::string& policy :
         o.repair_policies.empty() ? std::vector<std::string>{mode.repair_policy} : o.repair_policies)
      for (const double fraction :
           o.repair_fractions.empty() ? std::vector<double>{mode.repair_fraction} : o.repair_fractions)
        out.push_back({.mode = mode.mode, .repair_fraction = fraction, .repair_policy = policy});
  }
  return out;
}

void PrintFigure(std::string_view eval, std::string_view metric, const json::object& of, double value, size_t n) {
  PrintJson(json::object{
      {"eval", json::string(eval)}, {"metric", json::string(metric)}, {"case", of}, {"value", value}, {"n", n}});
}

}  // namespace spanwise::cli

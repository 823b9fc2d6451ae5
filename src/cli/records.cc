#include "cli/records.h"

#include <algorithm>
#include <charconv>
#include <map>

#include "base/str.h"
#include "eval/fidelity.h"

namespace spanwise::cli {

void AddRecordOptions(CLI::App* app, RecordOptions* o) {
  app->add_option("--data", o->data, "Question records: .jsonl files or folders of them");
  app->add_option("--kind", o->kinds, "Only this kind of question (repeatable)");
  app->add_option("--except", o->except, "Not this kind of question (repeatable)")->capture_default_str();
  app->add_option("--limit", o->limit, "At most this many questions of a kind");
  app->add_option("--skip", o->skip, "... after leaving out so many of a kind");
  app->add_option("--shard", o->shard,
                  "I/N: of these questions the I-th of every N, so that N processes share them (1 to N)");
}

namespace {

struct Shard {
  size_t index = 0, of = 1;
};

Result<Shard> ParseShard(const std::string& text) {
  Shard shard;
  if (text.empty()) return shard;
  const size_t slash = std::min(text.find('/'), text.size());
  const char *begin = text.data(), *middle = begin + slash, *end = begin + text.size();
  size_t index = 0;
  if (middle == end || std::from_chars(begin, middle, index).ptr != middle ||
      std::from_chars(middle + 1, end, shard.of).ptr != end || index < 1 || index > shard.of)
    return InvalidArgument(StrFormat("--shard {} is not I/N with I from 1 to N", Quoted(text)));
  shard.index = index - 1;
  return shard;
}

}  // namespace

Result<std::vector<eval::QaRecord>> LoadRecords(const RecordOptions& o) {
  SW_ASSIGN_OR_RETURN(const Shard shard, ParseShard(o.shard));
  SW_ASSIGN_OR_RETURN(auto records, eval::ReadQaRecords(o.data));
  std::map<std::string, size_t> taken;
  size_t n = 0;
  std::erase_if(records, [&](const eval::QaRecord& r) {
    const auto named = [&](const std::vector<std::string>& kinds) {
      return std::ranges::find(kinds, r.kind) != kinds.end();
    };
    if (o.kinds.empty() ? named(o.except) : !named(o.kinds)) return true;
    const size_t place = taken[r.kind]++;
    if (place < o.skip || (o.limit > 0 && place - o.skip >= o.limit)) return true;
    return n++ % shard.of != shard.index;
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
  app->add_option("--repair-thresholds", o->repair_thresholds,
                  "Thresholds of repair, separated by commas (default: as calibrated)")
      ->delimiter(',')
      ->check(CLI::NonNegativeNumber);
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
    std::vector<std::optional<double>> thresholds(o.repair_thresholds.begin(), o.repair_thresholds.end());
    if (thresholds.empty()) thresholds.emplace_back();
    for (const std::string& policy :
         o.repair_policies.empty() ? std::vector<std::string>{mode.repair_policy} : o.repair_policies)
      for (const double fraction :
           o.repair_fractions.empty() ? std::vector<double>{mode.repair_fraction} : o.repair_fractions)
        for (const std::optional<double> threshold : thresholds)
          out.push_back(
              {.mode = mode.mode, .repair_fraction = fraction, .repair_policy = policy, .repair_threshold = threshold});
  }
  return out;
}

void PrintFigure(std::string_view eval, std::string_view metric, const json::object& of, double value, size_t n) {
  PrintJson(json::object{
      {"eval", json::string(eval)}, {"metric", json::string(metric)}, {"case", of}, {"value", value}, {"n", n}});
}

}  // namespace spanwise::cli

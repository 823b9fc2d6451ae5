#include "eval/calibrate.h"

#include "base/file.h"
#include "cli/records.h"

namespace spanwise::cli {
namespace {

struct Options {
  CommonOptions common;
  RecordOptions records{.data = {}, .kinds = {}, .except = {"latest", "refprev", "split"}, .limit = 10};
  ModeOptions modes;
  CalibrationLimits limits;
  size_t search = 2;
};

// Up to n questions of each kind that will not be measured, to search a mode's parameters on.
Result<std::vector<eval::QaRecord>> SearchRecords(const Options& o, RecordOptions others, size_t n) {
  if (o.records.limit == 0)
    return InvalidArgument(
        "a search of a mode's parameters needs questions that are not measured: give a --limit, or --search 0");
  others.skip = o.records.limit;
  others.limit = n;
  auto records = LoadRecords(others);
  if (records.ok()) return records;
  return records.status().WithContext("for the search of a mode's parameters (--search 0 leaves it out)");
}

// Sets the temperature and the scale of `ape` where they are best.
Status SearchApe(const Options& o, Engine& engine, ComposeOptions* ape, CalibratedDefaults* defaults) {
  SW_ASSIGN_OR_RETURN(const auto records, SearchRecords(o, o.records, o.search));
  Progress progress("searching", o.common.quiet);
  const auto n = static_cast<double>(records.size() * eval::kApeSearchPasses);
  SW_ASSIGN_OR_RETURN(const eval::ApeSearch found, eval::SearchApe(engine, records, [&](size_t pass, size_t done) {
                        progress.Update(static_cast<double>(pass * records.size() + done), n);
                      }));
  defaults->documents_temperature = ape->documents_temperature = found.temperature;
  defaults->documents_scale = ape->documents_scale = found.scale;
  if (o.common.json) {
    const json::object of{{"documents_temperature", found.temperature}, {"documents_scale", found.scale}};
    PrintFigure("calibrate", "search_kl", of, found.kl, records.size());
    PrintFigure("calibrate", "search_set_kl", of, found.set_kl, records.size());
  } else if (!o.common.quiet) {
    Note("ape: temperature {} and scale {} of {} pairs, KL {:.3g} on {} other questions; as a set {:.3g}\n",
         found.temperature, found.scale, found.n_tried, found.kl, records.size(), found.set_kl);
  }
  return Status::Ok();
}

// Sets the threshold of `repair` where it is best. Documents that depend on one another are what repair is for, so no
// kind of question is left out.
Status SearchThreshold(const Options& o, Engine& engine, ComposeOptions* repair, CalibratedDefaults* defaults) {
  RecordOptions all = o.records;
  all.except.clear();
  // A threshold rests on the few prompts that repair changes; each is read three times, not dozens of times as for ape.
  SW_ASSIGN_OR_RETURN(const auto records, SearchRecords(o, all, 8 * o.search));
  Progress progress("searching", o.common.quiet);
  SW_ASSIGN_OR_RETURN(const eval::ThresholdSearch found,
                      eval::SearchThreshold(engine, records, *repair, [&](size_t done) {
                        progress.Update(static_cast<double>(done), static_cast<double>(records.size()));
                      }));
  defaults->repair_threshold = repair->repair_threshold = found.threshold;
  if (o.common.json) {
    const json::object of{{"repair_threshold", found.threshold}};
    PrintFigure("calibrate", "search_kl", of, found.kl, records.size());
    PrintFigure("calibrate", "search_always_kl", of, found.always_kl, records.size());
    PrintFigure("calibrate", "search_never_kl", of, found.never_kl, records.size());
  } else if (!o.common.quiet) {
    Note("repair: threshold {}, KL {:.3g} on {} other questions; always repaired {:.3g}, never {:.3g}\n",
         found.threshold, found.kl, records.size(), found.always_kl, found.never_kl);
  }
  return Status::Ok();
}

Status Calibrate(Options o) {
  if (o.records.data.empty()) {
    SW_ASSIGN_OR_RETURN(o.records.data.emplace_back(), BundledFolder("tests/data/qa", "data"));
  }
  SW_ASSIGN_OR_RETURN(const auto records, LoadRecords(o.records));
  SW_ASSIGN_OR_RETURN(auto modes, ToModes(o.modes));
  if (modes.empty()) return InvalidArgument("exact is what the other modes are measured against; name composed modes");
  SW_RETURN_IF_ERROR(SetLogLevel(o.common));
  SW_ASSIGN_OR_RETURN(EngineOptions options, ToEngineOptions(o.common));
  options.calibration = false;
  SW_ASSIGN_OR_RETURN(const auto engine, Engine::Open(options));
  CalibratedDefaults defaults;
  for (ComposeOptions& mode : modes) {
    if (o.search == 0) break;
    if (mode.mode == ComposeMode::kApe) SW_RETURN_IF_ERROR(SearchApe(o, *engine, &mode, &defaults));
    if (mode.mode != ComposeMode::kRepair || mode.repair_threshold || mode.repair_fraction == 1) continue;
    if (defaults.repair_threshold) {  // one for all fractions and policies, found on the first
      mode.repair_threshold = defaults.repair_threshold;
    } else {
      SW_RETURN_IF_ERROR(SearchThreshold(o, *engine, &mode, &defaults));
    }
  }
  Progress progress("measuring", o.common.quiet);
  SW_ASSIGN_OR_RETURN(Calibration calibration, eval::Calibrate(*engine, records, modes, o.limits, [&](size_t done) {
                        progress.Update(static_cast<double>(done), static_cast<double>(records.size()));
                      }));
  calibration.defaults = defaults;
  if (!o.common.json)
    Print("{:<40} {:>5} {:>9} {:>8} {:>9} {:>9}  {}\n", "mode", "n", "KL", "same %", "right %", "exact %", "");
  for (const CalibratedMode& m : calibration.modes) {
    const std::string name = CompositionName(m.compose);
    if (o.common.json) {
      for (const auto& [metric, value] : {std::pair{"kl", m.kl},
                                          {"agreement", m.agreement},
                                          {"accuracy", m.accuracy},
                                          {"exact_accuracy", m.exact_accuracy}})
        PrintFigure("calibrate", metric, {{"mode", name}, {"passes", calibration.Passes(m)}}, value,
                    static_cast<size_t>(m.n));
    } else {
      Print("{:<40} {:>5} {:>9.3g} {:>8.1f} {:>9.1f} {:>9.1f}  {}\n", name, m.n, m.kl, 100 * m.agreement,
            100 * m.accuracy, 100 * m.exact_accuracy, calibration.Passes(m) ? "passes" : "is refused");
    }
  }
  const std::string path = CalibrationPath(options.model);
  SW_RETURN_IF_ERROR(WriteFileAtomic(path, calibration.ToJson()));
  if (!o.common.quiet) Note("wrote {}\n", path);
  return Status::Ok();
}

}  // namespace

Verb CalibrateVerb(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand(
      "calibrate", "Measure composed modes against full recompute for this model, and keep the result beside it");
  AddRecordOptions(verb, &o->records);
  verb->get_option("--data")->description("Question records: .jsonl files or folders (default: those of the sources)");
  verb->get_option("--except")->description("Not this kind of question; by default those about the order of documents");
  verb->get_option("--limit")->capture_default_str();
  AddModeOptions(verb, &o->modes);
  verb->add_option("--most-kl", o->limits.kl, "Refuse modes with a larger mean KL to the flat prompt, in nats a token")
      ->check(CLI::Range(0.0, 1000.0))
      ->capture_default_str();
  verb->add_option("--most-loss", o->limits.accuracy_loss, "Refuse modes that answer a larger share less often right")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  verb->add_option(
          "--search", o->search,
          "Find ape's temperature and scale on so many further questions of each kind, and repair's threshold on "
          "eight times as many (0: leave them)")
      ->capture_default_str();
  for (const char* name : {"--skip", "--shard"}) verb->remove_option(verb->get_option(name));
  AddModelOptions(verb, &o->common);
  AddOutputOptions(verb, &o->common);
  return {verb, [o] {
            const Status status = Calibrate(*o);
            return status.ok() ? kDone : Fail(status);
          }};
}

}  // namespace spanwise::cli

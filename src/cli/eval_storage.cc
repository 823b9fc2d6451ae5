
#include "cli/evals.h"
#include "cli/records.h"
#include "eval/storage.h"

namespace spanwise::cli {
namespace {

struct Options {
  CommonOptions common;
  RecordOptions records;
  std::vector<std::string> codecs = {"none", "fp8", "int8", "int4"};
  std::string compose = "set";
};

void PrintRow(const Options& o, const eval::StorageScore& s) {
  if (!o.common.json) {
    Print(
        "{:<6} {:>5} {:>9.4g} {:>9.4g} {:>9.3g} {:>9.3g} {:>7.2f} {:>7.1f} {:>7.1f} {:>9.1f} {:>8.0f} {:>9.2f} "
        "{:>9.2f}\n",
        s.codec, s.n, s.keys, s.values, s.divergence.kl, s.divergence.kl_p99, 100 * s.divergence.agreement,
        100 * s.accuracy, 100 * s.as_exact, s.ttft_ms, s.bytes_per_token, s.encode_ms, s.decode_ms);
    return;
  }
  const json::object of{{"codec", s.codec}, {"mode", o.compose}};
  PrintFigure("storage", "key_error", of, s.keys, s.n);
  PrintFigure("storage", "value_error", of, s.values, s.n);
  PrintFigure("storage", "kl", of, s.divergence.kl, s.divergence.n);
  PrintFigure("storage", "kl_p99", of, s.divergence.kl_p99, s.divergence.n);
  PrintFigure("storage", "top1_agreement", of, s.divergence.agreement, s.divergence.n);
  PrintFigure("storage", "accuracy", of, s.accuracy, s.n);
  PrintFigure("storage", "same_answer", of, s.as_exact, s.n);
  PrintFigure("storage", "ttft_ms", of, s.ttft_ms, s.n);
  PrintFigure("storage", "from_disk", of, s.from_disk, s.n);
  PrintFigure("storage", "bytes_per_token", of, s.bytes_per_token, s.n);
  PrintFigure("storage", "encode_ms", of, s.encode_ms, s.n);
  PrintFigure("storage", "decode_ms", of, s.decode_ms, s.n);
}

Status EvalStorage(const Options& o) {
  SW_ASSIGN_OR_RETURN(const auto records, LoadRecords(o.records));
  eval::StorageOptions options{.codecs = o.codecs, .compose = {}};
  SW_ASSIGN_OR_RETURN(options.compose.mode, ParseComposeMode(o.compose));
  SW_ASSIGN_OR_RETURN(const EngineOptions engine, ToEngineOptions(o.common));
  Progress progress("comparing", o.common.quiet);
  SW_ASSIGN_OR_RETURN(const auto scores,
                      eval::MeasureStorage(engine, records, options, [&](double done) { progress.Update(done, 1); }));
  if (!o.common.json)
    Print("{:<6} {:>5} {:>9} {:>9} {:>9} {:>9} {:>7} {:>7} {:>7} {:>9} {:>8} {:>9} {:>9}\n", "codec", "n", "keys",
          "values", "KL", "KL p99", "top-1 %", "right %", "same %", "TTFT ms", "B/token", "encode ms", "decode ms");
  for (const eval::StorageScore& score : scores) PrintRow(o, score);
  return Status::Ok();
}

}  // namespace

Verb EvalStorageVerb(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("storage", "What rounding kept keys and values costs in answers, and saves");
  AddRecordOptions(verb, &o->records);
  verb->get_option("--data")->required();
  verb->add_option("--codecs", o->codecs, "Codecs, separated by commas")->delimiter(',')->capture_default_str();
  verb->add_option("--compose", o->compose, "How documents enter the context")->capture_default_str();
  AddModelOptions(verb, &o->common);
  AddOutputOptions(verb, &o->common);
  return {verb, [o] {
            const Status status = EvalStorage(*o);
            return status.ok() ? kDone : Fail(status);
          }};
}

}  // namespace spanwise::cli

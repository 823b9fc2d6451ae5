#include <fmt/format.h>

#include "bench/serve.h"
#include "bench/speed.h"
#include "cli/bench_cache.h"
#include "cli/common.h"
#include "cli/records.h"
#include "model/weights.h"

namespace spanwise::cli {
namespace {

struct Options {
  CommonOptions common;
  std::string what, shape;
  int repeats = 3, prompt_tokens = 512, decode_tokens = 64;
  int documents = 10, document_tokens = 512, question_tokens = 32;
  bench::ServeOptions serve;
  CacheBenchOptions cache;
  ModeOptions modes;
};

Status Bench(const Options& o) {
  if (o.what == "cache") return CacheBench(o.cache, o.common.json);
  std::optional<WeightType> type;
  if (!o.common.dtype.empty()) {
    SW_ASSIGN_OR_RETURN(type, ParseWeights(o.common.dtype));
  }
  ThreadPool pool(o.common.threads);
  bench::Options options{.weights = nullptr,
                         .shape = o.shape,
                         .kv_dtype = DType::kBf16,
                         .threads = pool.n_threads(),
                         .repeats = o.repeats,
                         .prompt_tokens = o.prompt_tokens,
                         .decode_tokens = o.decode_tokens,
                         .documents = o.documents,
                         .document_tokens = o.document_tokens,
                         .question_tokens = o.question_tokens,
                         .composed = std::nullopt};
  const auto report = [&](const bench::Row& row) {
    if (o.common.json) {
      PrintJson(bench::RowJson(row));
      return;
    }
    const std::string of_floor =
        row.floor ? fmt::format(", {:.0f} % of the limit {:.3g}",
                                100 * (row.unit == "ms" ? *row.floor / row.value : row.value / *row.floor), *row.floor)
                  : "";
    Print("{:<8} {:<90} {:>10.4g} {} ({:.4g} to {:.4g}){}{}\n", row.bench, json::serialize(row.what), row.value,
          row.unit, row.min, row.max, of_floor, row.beside.empty() ? "" : "  " + json::serialize(row.beside));
    WriteOut();
  };
  if (!o.modes.modes.empty() || !o.modes.repair_policies.empty() || !o.modes.repair_fractions.empty()) {
    SW_ASSIGN_OR_RETURN(options.composed, ToModes(o.modes));
  }
  if (o.what == "limits") return bench::BenchLimits(options, report);
  if (!o.shape.empty()) {
    SW_ASSIGN_OR_RETURN(const ModelConfig config, bench::ParseShape(o.shape));
    options.weights = ModelWeights::Random(config, type.value_or(WeightType::kBf16), pool);
  } else {
    SW_ASSIGN_OR_RETURN(const std::string folder, ModelPath(o.common));
    SW_ASSIGN_OR_RETURN(options.weights, ModelWeights::Load(folder, type, pool));
    options.shape = folder.substr(folder.find_last_of('/') + 1);
  }
  if (o.what == "kernels") return bench::BenchKernels(options, report);
  if (o.what == "prefill") return bench::BenchPrefill(options, report);
  if (o.what == "decode") return bench::BenchDecode(options, report);
  if (o.what == "reuse") return bench::BenchReuse(options, report);
  if (o.what == "serve") return bench::BenchServe(options, o.serve, report);
  return Unimplemented(
      fmt::format("bench {} is not available; use limits, kernels, prefill, decode, reuse, serve or cache", o.what));
}

}  // namespace

Verb BenchVerb(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("bench", "Measure speed");
  verb->add_option("what", o->what, "limits, kernels, prefill, decode, reuse, serve or cache")->required();
  verb->add_option("--shape", o->shape,
                   "Random weights: 1b, 8b or LAYERSxHIDDENxFFNxHEADSxKVHEADS (default: the model)");
  verb->add_option("--repeats", o->repeats, "Measured runs of each case")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  verb->add_option("--prompt-tokens", o->prompt_tokens, "Prompt, or context of decode")
      ->check(CLI::Range(1, 131072))
      ->capture_default_str();
  verb->add_option("--decode-tokens", o->decode_tokens, "Tokens decoded")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  verb->add_option("--documents", o->documents, "Documents of reuse")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  verb->add_option("--document-tokens", o->document_tokens, "Tokens of each")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  verb->add_option("--question-tokens", o->question_tokens, "Tokens of the question")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  verb->add_option("--streams", o->serve.streams, "Streams of serve that decode together")
      ->check(CLI::Range(2, 1024))
      ->capture_default_str();
  verb->add_option("--model", o->common.model, "Model folder or GGUF file (default: the bundled model)");
  verb->add_option("--dtype", o->common.dtype, kDTypeHelp);
  verb->add_option("--threads", o->common.threads, "Threads (0: as many as there are CPUs for this process)")
      ->capture_default_str();
  AddModeOptions(verb, &o->modes);
  AddCacheBenchOptions(verb, &o->cache);
  verb->add_flag("--json", o->common.json, "One JSON object a line");
  return {verb, [o] {
            const Status status = Bench(*o);
            return status.ok() ? kDone : Fail(status);
          }};
}

}  // namespace spanwise::cli

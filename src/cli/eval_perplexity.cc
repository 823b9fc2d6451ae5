
#include "cli/evals.h"
#include "cli/records.h"
#include "cli/sources.h"
#include "eval/perplexity.h"
#include "retrieval/document.h"

namespace spanwise::cli {
namespace {

struct Options {
  CommonOptions common;
  std::vector<std::string> data, answers;
  std::string reference_model, reference_dtype, prefix;
  int context = 512;
  size_t limit = 0;
};

json::object CaseOf(const ModelInfo& model, const ModelInfo* reference) {
  json::object of{{"model", model.name}, {"dtype", model.weight_dtype}};
  if (reference) {
    of["reference_model"] = reference->name;
    of["reference_dtype"] = reference->weight_dtype;
  }
  return of;
}

void PrintDivergence(const Options& o, const ModelInfo& model, const ModelInfo* reference, const eval::Divergence& d) {
  if (!o.common.json) {
    Print("{} ({}), {} tokens\n  perplexity            {:.4f}\n", model.name, model.weight_dtype, d.n, d.perplexity());
    if (!reference) return;
    Print(
        "to {} ({})\n  perplexity            {:.4f}\n  mean KL               {:.4g} nats\n"
        "  99th percentile KL    {:.4g} nats\n  same most probable    {:.3f} %\n",
        reference->name, reference->weight_dtype, d.reference_perplexity(), d.kl, d.kl_p99, 100 * d.agreement);
    return;
  }
  const json::object of = CaseOf(model, reference);
  PrintFigure("perplexity", "perplexity", of, d.perplexity(), d.n);
  if (!reference) return;
  PrintFigure("perplexity", "reference_perplexity", of, d.reference_perplexity(), d.n);
  PrintFigure("perplexity", "kl", of, d.kl, d.n);
  PrintFigure("perplexity", "kl_p99", of, d.kl_p99, d.n);
  PrintFigure("perplexity", "top1_agreement", of, d.agreement, d.n);
}

Status EvalPerplexity(const Options& o) {
  if (o.data.empty() == o.answers.empty())
    return InvalidArgument("name either texts with --data or records with --answers");
  SW_ASSIGN_OR_RETURN(const auto engine, OpenEngine(o.common));
  std::vector<eval::Passage> passages;
  if (!o.answers.empty()) {
    SW_ASSIGN_OR_RETURN(const auto records,
                        LoadRecords({.data = o.answers, .kinds = {}, .except = {}, .limit = o.limit}));
    SW_ASSIGN_OR_RETURN(passages, eval::AnswerPassages(*engine, records));
  } else {
    SW_ASSIGN_OR_RETURN(const auto set, retrieval::ReadDocuments(o.data));
    PrintSkipped(set.skipped, kFewSkipped);
    std::vector<std::string> texts;
    for (const auto& d : set.documents) texts.push_back(d.text);
    SW_ASSIGN_OR_RETURN(passages, eval::TextPassages(*engine, texts, o.context, o.prefix));
  }
  std::unique_ptr<Engine> reference;
  if (!o.reference_model.empty() || !o.reference_dtype.empty()) {
    CommonOptions other = o.common;
    if (!o.reference_model.empty()) other.model = o.reference_model;
    other.dtype = o.reference_dtype;
    SW_ASSIGN_OR_RETURN(reference, OpenEngine(other));
  }
  Progress progress("reading", o.common.quiet);
  SW_ASSIGN_OR_RETURN(const eval::Divergence d,
                      eval::MeasurePerplexity(*engine, reference.get(), passages, [&](size_t done) {
                        progress.Update(static_cast<double>(done), static_cast<double>(passages.size()));
                      }));
  PrintDivergence(o, engine->model(), reference ? &reference->model() : nullptr, d);
  return Status::Ok();
}

}  // namespace

Verb EvalPerplexityVerb(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* verb =
      app.add_subcommand("perplexity", "How well the model predicts text, and how far it is from a reference model");
  verb->add_option("--data", o->data, "Texts to predict: documents or folders of them");
  verb->add_option(
      "--answers", o->answers,
      "Question records instead (.jsonl files or folders): their answers are predicted, after their prompts");
  verb->add_option("--limit", o->limit, "At most this many records of a kind");
  verb->add_option("--context", o->context, "Tokens of a window of text")->capture_default_str();
  verb->add_option(
      "--prefix", o->prefix,
      "Text before each window, behind the model's begin tokens; not scored, special tokens in it are parsed");
  verb->add_option("--reference-model", o->reference_model, "Compare with this model (default: the same)");
  verb->add_option("--reference-dtype", o->reference_dtype,
                   "Compare with these weights: f32, bf16, q8 or q4 (default: as stored)");
  AddModelOptions(verb, &o->common);
  AddOutputOptions(verb, &o->common);
  return {verb, [o] {
            const Status status = EvalPerplexity(*o);
            return status.ok() ? kDone : Fail(status);
          }};
}

}  // namespace spanwise::cli

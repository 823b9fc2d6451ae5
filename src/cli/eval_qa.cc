
#include "cli/evals.h"
#include "cli/records.h"

namespace spanwise::cli {
namespace {

struct Options {
  CommonOptions common;
  RecordOptions records;
  bool answers = false, attention = false;
};

void PrintScores(const Options& o, const std::string& mode, const std::map<std::string, eval::QaScore>& scores) {
  if (!o.common.json)
    Print("{:<14} {:>5} {:>7} {:>7} {:>7} {:>10} {:>9} {:>8}{}\n", "kind (" + mode + ")", "n", "exact", "value", "f1",
          "cite prec.", "cite rec.", "refused", o.attention ? "  attention   quote" : "");
  for (const auto& [kind, s] : scores) {
    if (o.common.json) {
      const auto line = [&, &kind = kind](const char* metric, double value, int n) {
        PrintFigure("qa", metric, {{"kind", kind}, {"mode", mode}}, value, static_cast<size_t>(n));
      };
      line("exact", s.exact, s.n);
      line("value", s.value, s.n);
      line("f1", s.f1, s.n);
      line("citation_precision", s.citation_precision, s.n_cited);
      line("citation_recall", s.citation_recall, s.n_to_cite);
      line("refusal", s.refusal, s.n);
      if (o.attention) line("attention_precision", s.attention, s.n_attention);
      if (o.attention) line("attention_quote", s.attention_quote, s.n_attention_quote);
    } else {
      Print("{:<14} {:>5} {:>7.1f} {:>7.1f} {:>7.1f} {:>10.1f} {:>9.1f} {:>8.1f}", kind, s.n, 100 * s.exact,
            100 * s.value, 100 * s.f1, 100 * s.citation_precision, 100 * s.citation_recall, 100 * s.refusal);
      if (o.attention) Print("  {:>9.1f} {:>7.1f}", 100 * s.attention, 100 * s.attention_quote);
      Print("\n");
    }
  }
}

Status EvalQa(const Options& o) {
  SW_ASSIGN_OR_RETURN(const auto records, LoadRecords(o.records));
  SW_ASSIGN_OR_RETURN(const ComposeOptions compose, ToComposeOptions(o.common));
  SW_ASSIGN_OR_RETURN(const auto engine, OpenEngine(o.common));
  Progress progress("answering", o.common.quiet);
  SW_ASSIGN_OR_RETURN(
      const auto scores,
      eval::ScoreQa(
          *engine, records, compose, o.attention,
          [&](size_t done) { progress.Update(static_cast<double>(done), static_cast<double>(records.size())); },
          [&](const eval::QaRecord& r, const Answer& a) {
            if (!o.answers) return;
            const std::string gold = eval::ReferenceAnswer(r, a.document_labels);
            PrintJson(json::object{{"kind", r.kind},
                                   {"question", r.question},
                                   {"gold", gold},
                                   {"answer", a.text},
                                   {"exact", a.text == gold}});
          }));
  PrintScores(o, std::string(ComposeModeName(compose.mode)), scores);
  return Status::Ok();
}

}  // namespace

Verb EvalQaVerb(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("qa", "How often answers, values, citations and refusals are right");
  AddRecordOptions(verb, &o->records);
  verb->get_option("--data")->required();
  verb->add_flag("--answers", o->answers, "Print every answer as JSON");
  verb->add_flag("--attention", o->attention, "Also measure citations by attention");
  AddComposeOptions(verb, &o->common);
  AddModelOptions(verb, &o->common);
  AddOutputOptions(verb, &o->common);
  return {verb, [o] {
            const Status status = EvalQa(*o);
            return status.ok() ? kDone : Fail(status);
          }};
}

}  // namespace spanwise::cli

#include <fmt/format.h>

#include <algorithm>

#include "cli/common.h"
#include "eval/qa.h"

namespace spanwise::cli {
namespace {

struct Options {
  CommonOptions common;
  std::string what;
  std::vector<std::string> data;
  std::vector<std::string> kinds;
  size_t limit = 0;
  bool answers = false;
};

// Keeps the kinds asked for, and the first `limit` records of each.
void Select(const Options& o, std::vector<eval::QaRecord>* records) {
  std::map<std::string, size_t> taken;
  std::erase_if(*records, [&](const eval::QaRecord& r) {
    if (!o.kinds.empty() && std::ranges::find(o.kinds, r.kind) == o.kinds.end()) return true;
    return o.limit > 0 && ++taken[r.kind] > o.limit;
  });
}

void PrintScores(const Options& o, const std::string& mode, const std::map<std::string, eval::QaScore>& scores) {
  if (!o.common.json)
    fmt::print("{:<14} {:>5} {:>7} {:>7} {:>7} {:>10} {:>9} {:>8}\n", "kind (" + mode + ")", "n", "exact", "value",
               "f1", "cite prec.", "cite rec.", "refused");
  for (const auto& [kind, s] : scores) {
    if (o.common.json) {
      const auto line = [&, &kind = kind](const char* metric, double value, int n) {
        PrintJson(json::object{{"eval", "qa"},
                               {"metric", metric},
                               {"case", json::object{{"kind", kind}, {"mode", mode}}},
                               {"value", value},
                               {"n", n}});
      };
      line("exact", s.exact, s.n);
      line("value", s.value, s.n);
      line("f1", s.f1, s.n);
      line("citation_precision", s.citation_precision, s.n_cited);
      line("citation_recall", s.citation_recall, s.n_to_cite);
      line("refusal", s.refusal, s.n);
    } else {
      fmt::print("{:<14} {:>5} {:>7.1f} {:>7.1f} {:>7.1f} {:>10.1f} {:>9.1f} {:>8.1f}\n", kind, s.n, 100 * s.exact,
                 100 * s.value, 100 * s.f1, 100 * s.citation_precision, 100 * s.citation_recall, 100 * s.refusal);
    }
  }
}

int Eval(const Options& o) {
  if (o.what != "qa") return Fail(Unimplemented("eval " + o.what + " is not available; use qa"));
  auto records = eval::ReadQaRecords(o.data);
  if (!records.ok()) return Fail(records.status());
  Select(o, &*records);
  auto compose = ToComposeOptions(o.common);
  if (!compose.ok()) return Fail(compose.status());
  auto engine = OpenEngine(o.common);
  if (!engine.ok()) return Fail(engine.status());
  Progress progress("answering", o.common.quiet);
  auto scores = eval::ScoreQa(
      **engine, *records, *compose,
      [&](size_t done) { progress.Update(static_cast<double>(done), static_cast<double>(records->size())); },
      [&](const eval::QaRecord& r, const Answer& a) {
        if (o.answers)
          PrintJson(json::object{{"kind", r.kind},
                                 {"question", r.question},
                                 {"gold", r.answer},
                                 {"answer", a.text},
                                 {"exact", a.text == r.answer}});
      });
  if (!scores.ok()) return Fail(scores.status());
  PrintScores(o, std::string(ComposeModeName(compose->mode)), *scores);
  return kDone;
}

}  // namespace

Verb EvalVerb(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("eval", "Measure quality");
  verb->add_option("what", o->what, "qa")->required();
  verb->add_option("--data", o->data, "Question records: .jsonl files or folders of them")->required();
  verb->add_option("--kind", o->kinds, "Only this kind of question (repeatable)");
  verb->add_option("--limit", o->limit, "At most this many questions of a kind");
  verb->add_flag("--answers", o->answers, "Print every answer as JSON");
  AddComposeOptions(verb, &o->common);
  AddModelOptions(verb, &o->common);
  AddOutputOptions(verb, &o->common);
  return {verb, [o] { return Eval(*o); }};
}

}  // namespace spanwise::cli

#include "base/str.h"
#include "cli/common.h"
#include "cli/sources.h"

namespace spanwise::cli {
namespace {

struct Options {
  CommonOptions common;
  SamplingOptions sampling;
  SourceOptions sources;
  AnswerOptions answer;
  PartOptions parts;
  std::string question;
  std::string system;
};

void PrintAnswer(const rag::GroundedAnswer& grounded, const PartOptions& parts, bool quiet) {
  PrintParts(parts, grounded.answer);
  if (parts.branches.empty() || !parts.join.empty()) Print("{}\n", grounded.answer.text);
  for (const rag::Citation& c : grounded.citations) {
    Print("\n[{}] {}", c.label, Printable(c.document_id));
    if (!c.title.empty()) Print(" ({})", Printable(c.title));
    Print(", bytes {} to {}:\n    {}\n", c.begin, c.end, Printable(c.quote, "\n\t"));
  }
  for (const rag::UnsupportedCitation& c : grounded.unsupported) Print("\n{}\n", UnsupportedLine(c));
  if (quiet) return;
  const Answer& a = grounded.answer;
  Note("\n{} documents, {} prompt tokens, {} reused; first token after {:.0f} ms, then {:.0f} tokens/s; {}\n",
       grounded.sources.size(), a.usage.prompt_tokens, a.usage.cached_tokens, a.timings.ttft_ms,
       a.timings.decode_tokens_per_s, a.compose.exactness);
}

int Ask(const Options& o) {
  auto params = ToSamplingParams(o.sampling);
  if (!params.ok()) return Fail(params.status());
  auto compose = ToComposeOptions(o.common);
  if (!compose.ok()) return Fail(compose.status());
  auto engine = OpenEngine(WithBaked(o.common, o.sources.corpus));
  if (!engine.ok()) return Fail(engine.status());
  auto finder = SourceFinder::Open(o.sources, **engine, o.common.quiet);
  if (!finder.ok()) return Fail(finder.status());
  std::vector<Message> messages;
  if (!o.system.empty()) messages.push_back({"system", o.system});
  messages.push_back({"user", o.question});
  auto sources = (*finder)->Find(messages);
  if (!sources.ok()) return Fail(sources.status());
  Request request = rag::MakeRequest(std::move(messages), *sources, *compose, *params);
  request.use_cache = !o.common.no_cache;
  Apply(o.answer, &request);
  Apply(o.parts, &request);
  Progress progress("reading documents", o.common.quiet);
  auto answer = RunWatched(**engine, std::move(request), progress, false);
  if (!answer.ok()) return Fail(answer.status());
  const rag::GroundedAnswer grounded = rag::Ground(std::move(*answer), std::move(*sources));
  if (o.common.json) {
    PrintJson(AnswerJson(grounded, (*engine)->model().name, o.sampling.logprobs.has_value()));
  } else {
    PrintAnswer(grounded, o.parts, o.common.quiet);
  }
  return kDone;
}

}  // namespace

Verb AskVerb(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("ask", "Answer a question from documents, once");
  verb->add_option("question", o->question, "The question")->required();
  verb->add_option("--system", o->system, "Instructions that stand before the documents");
  AddSourceOptions(verb, &o->sources);
  AddAnswerOptions(verb, &o->answer);
  AddPartOptions(verb, &o->parts);
  AddComposeOptions(verb, &o->common);
  AddSamplingOptions(verb, &o->sampling, /*as_recommended=*/false);
  AddModelOptions(verb, &o->common);
  AddOutputOptions(verb, &o->common);
  return {verb, [o] { return Ask(*o); }};
}

}  // namespace spanwise::cli

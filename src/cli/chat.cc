#include <unistd.h>

#include <iostream>

#include "base/str.h"
#include "cli/common.h"
#include "cli/sources.h"
#include "rag/conversation.h"

namespace spanwise::cli {
namespace {

struct Options {
  CommonOptions common;
  SamplingOptions sampling;
  SourceOptions sources;
  AnswerOptions answer;
  std::string system;
};

// Leaves out what the model's context has no room for any more, and says so.
Result<Answer> Answered(Engine& engine, Request* request, Progress& progress, bool print_text) {
  const auto size = [&](const Request& one) { return engine.Measure(one); };
  SW_ASSIGN_OR_RETURN(const int n_left_out, rag::FitConversation(size, engine.model().context_tokens, request));
  if (n_left_out > 0) {
    SW_ASSIGN_OR_RETURN(const PromptSize now, engine.Measure(*request));
    if (now.room > 0)
      Note("spanwise: the conversation has outgrown the model's context of {} tokens: {} left out\n",
           engine.model().context_tokens,
           n_left_out == 1 ? "its oldest turn is" : StrFormat("its {} oldest turns are", n_left_out));
  }
  return RunWatched(engine, *request, progress, print_text);
}

int Chat(const Options& o) {
  if (const auto params = ToSamplingParams(o.sampling); !params.ok()) return Fail(params.status());
  auto compose = ToComposeOptions(o.common);
  if (!compose.ok()) return Fail(compose.status());
  auto engine = OpenEngine(WithBaked(o.common, o.sources.corpus));
  if (!engine.ok()) return Fail(engine.status());
  const SamplingParams params = ToSamplingParams(o.sampling, (*engine)->model().sampling).value();
  std::unique_ptr<SourceFinder> finder;
  if (!o.sources.documents.empty() || !o.sources.corpus.empty()) {
    auto opened = SourceFinder::Open(o.sources, **engine, o.common.quiet);
    if (!opened.ok()) return Fail(opened.status());
    finder = std::move(*opened);
  }
  const bool terminal = isatty(STDIN_FILENO) && !o.common.quiet;
  if (terminal) Note("Ask something; an empty line or Ctrl-D ends.\n");
  std::vector<Message> messages;
  if (!o.system.empty()) messages.push_back({"system", o.system});
  for (std::string line;;) {
    if (terminal) Note("\n> ");
    if (!std::getline(std::cin, line) || Trim(line).empty()) return kDone;
    messages.push_back({"user", line});
    std::vector<rag::Source> sources;
    if (finder) {
      auto found = finder->Find(messages);
      if (!found.ok()) return Fail(found.status());
      sources = std::move(*found);
    }
    Request request = rag::MakeRequest(messages, sources, *compose, params);
    request.use_cache = !o.common.no_cache;
    Apply(o.answer, &request);
    Progress progress("reading documents", o.common.quiet);
    auto answer = Answered(**engine, &request, progress, !o.common.json);
    if (!answer.ok()) {
      // The turn is taken back, so that a question that does not fit leaves the conversation as it was.
      messages.pop_back();
      Fail(answer.status());
      if (terminal && WriteOut()) continue;
      return kFailed;
    }
    messages = std::move(request.messages);
    const rag::GroundedAnswer grounded = rag::Ground(std::move(*answer), std::move(sources));
    messages.push_back({"assistant", grounded.answer.text});
    if (o.common.json) {
      PrintJson(AnswerJson(grounded, (*engine)->model().name, o.sampling.logprobs.has_value()));
      if (!WriteOut()) return kDone;  // which is said where it ends
      continue;
    }
    Print("\n");
    for (const rag::Citation& c : grounded.citations)
      Print("  [{}] {}: {}\n", c.label, Printable(c.document_id), Printable(c.quote, "\n\t"));
    for (const rag::UnsupportedCitation& c : grounded.unsupported) Print("  {}\n", UnsupportedLine(c));
    if (!WriteOut()) return kDone;
    if (!o.common.quiet)
      Note("({} of {} prompt tokens reused, first token after {:.0f} ms)\n", grounded.answer.usage.cached_tokens,
           grounded.answer.usage.prompt_tokens, grounded.answer.timings.ttft_ms);
  }
}

}  // namespace

Verb ChatVerb(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("chat", "Ask turn by turn in the terminal");
  verb->add_option("--system", o->system, "Instructions that stand before the documents");
  AddSourceOptions(verb, &o->sources);
  AddAnswerOptions(verb, &o->answer);
  AddComposeOptions(verb, &o->common);
  AddSamplingOptions(verb, &o->sampling, /*as_recommended=*/true);
  AddModelOptions(verb, &o->common);
  AddOutputOptions(verb, &o->common);
  return {verb, [o] { return Chat(*o); }};
}

}  // namespace spanwise::cli

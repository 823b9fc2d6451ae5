
#include <iostream>
#include <iterator>

#include "cli/common.h"

namespace spanwise::cli {
namespace {

struct Options {
  CommonOptions common;
  SamplingOptions sampling;
  std::string prompt;
  PartOptions parts;
  bool echo = false;
};

int Generate(Options o) {
  if (const auto params = ToSamplingParams(o.sampling); !params.ok()) return Fail(params.status());
  if (o.prompt == "-") o.prompt.assign(std::istreambuf_iterator<char>(std::cin), {});
  auto engine = OpenEngine(o.common);
  if (!engine.ok()) return Fail(engine.status());
  Request request;
  request.prompt = o.prompt;
  request.sampling = ToSamplingParams(o.sampling, (*engine)->model().sampling).value();
  request.echo = o.echo;
  request.use_cache = !o.common.no_cache;
  Apply(o.parts, &request);
  const bool whole = !o.parts.branches.empty() || !o.parts.steps.empty();  // is printed when all of it is there
  Progress progress("reading the prompt", o.common.quiet);
  auto answer = RunWatched(**engine, std::move(request), progress, !o.common.json && !whole);
  if (!answer.ok()) return Fail(answer.status());
  if (o.common.json) {
    const rag::GroundedAnswer grounded{.answer = std::move(*answer), .sources = {}, .citations = {}};
    PrintJson(AnswerJson(grounded, (*engine)->model().name, o.sampling.logprobs.has_value()));
  } else {
    if (whole) {
      PrintParts(o.parts, *answer);
      Print("{}", answer->text);
    }
    if (o.parts.branches.empty() || !o.parts.join.empty()) Print("\n");
  }
  return kDone;
}

}  // namespace

Verb GenerateVerb(CLI::App& app) {
  auto o = std::make_shared<Options>();
  o->sampling.params.max_tokens = 64;
  CLI::App* verb = app.add_subcommand(
      "generate", "Continue a plain prompt; special tokens in it are parsed, and it begins as the model's files ask");
  verb->add_option("prompt", o->prompt, "The prompt, or - for standard input")->required();
  verb->add_flag("--echo", o->echo, "Begin the answer with the prompt");
  AddPartOptions(verb, &o->parts);
  AddSamplingOptions(verb, &o->sampling, /*as_recommended=*/true);
  AddModelOptions(verb, &o->common);
  verb->add_flag("--no-cache", o->common.no_cache, "Recompute everything, keep nothing");
  AddOutputOptions(verb, &o->common);
  return {verb, [o] { return Generate(*o); }};
}

}  // namespace spanwise::cli

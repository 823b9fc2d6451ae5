
#include <iostream>
#include <iterator>

#include "cli/common.h"
#include "engine/model_text.h"
#include "rag/report.h"

namespace spanwise::cli {
namespace {

struct Options {
  CommonOptions common;
  std::string text;
  bool special = false, prompt = false;
};

Status Tokenize(Options o) {
  SW_ASSIGN_OR_RETURN(const std::string path, ModelPath(o.common));
  SW_ASSIGN_OR_RETURN(const ModelText model, LoadModelText(path));
  for (const std::string& warning : model.warnings) Note("spanwise: {}\n", warning);
  const auto& tokenizer = model.tokenizer;
  if (o.text == "-") o.text.assign(std::istreambuf_iterator<char>(std::cin), {});
  SW_ASSIGN_OR_RETURN(auto tokens, tokenizer->EncodeWithOffsets(o.text, o.special || o.prompt));
  if (o.prompt) {
    SW_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, model.EncodePrompt(o.text));
    // What it has in front stands for no byte of the text.
    std::vector<EncodedToken> begin;
    for (size_t i = 0; i + tokens.size() < ids.size(); ++i) begin.push_back({.id = ids[i], .begin = 0, .end = 0});
    tokens.insert(tokens.begin(), begin.begin(), begin.end());
  }
  if (o.common.json) {
    json::array ids, texts, offsets;
    for (const EncodedToken& t : tokens) {
      ids.push_back(t.id);
      texts.push_back(json::string(rag::TokenJsonText(tokenizer->TokenBytes(t.id, true))));
      offsets.push_back(json::array{t.begin, t.end});
    }
    PrintJson(json::object{{"tokens", std::move(ids)},
                           {"texts", std::move(texts)},
                           {"offsets", std::move(offsets)},
                           {"count", tokens.size()}});
    return Status::Ok();
  }
  for (const EncodedToken& t : tokens)
    Print("{:>7}  {:>6}-{:<6} {}\n", t.id, t.begin, t.end,
          json::serialize(json::value(rag::TokenJsonText(tokenizer->TokenBytes(t.id, true)))));
  Print("{} tokens\n", tokens.size());
  return Status::Ok();
}

}  // namespace

Verb TokenizeVerb(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("tokenize", "Show the tokens of a text");
  verb->add_option("text", o->text, "The text, or - for standard input")->required();
  verb->add_flag("--special", o->special, "Parse special tokens");
  verb->add_flag("--prompt", o->prompt,
                 "As generate reads it: special tokens parsed, and the begin tokens that the model's files ask for");
  verb->add_option("--model", o->common.model, "Model folder or GGUF file (default: the bundled model)");
  verb->add_flag("--json", o->common.json, "Print JSON");
  return {verb, [o] {
            const Status status = Tokenize(*o);
            return status.ok() ? kDone : Fail(status);
          }};
}

}  // namespace spanwise::cli

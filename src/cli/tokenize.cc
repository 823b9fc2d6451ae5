
#include <iostream>
#include <iterator>

#include "base/file.h"
#include "cli/common.h"
#include "rag/report.h"
#include "tokenizer/tokenizer.h"

namespace spanwise::cli {
namespace {

struct Options {
  CommonOptions common;
  std::string text;
  bool special = false;
};

Status Tokenize(Options o) {
  SW_ASSIGN_OR_RETURN(const std::string folder, ModelFolder(o.common));
  SW_ASSIGN_OR_RETURN(const std::string json_text, ReadFile(folder + "/tokenizer.json"));
  SW_ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::FromJson(json_text, folder + "/tokenizer.json"));
  if (o.text == "-") o.text.assign(std::istreambuf_iterator<char>(std::cin), {});
  SW_ASSIGN_OR_RETURN(const auto tokens, tokenizer->EncodeWithOffsets(o.text, o.special));
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
  verb->add_option("--model", o->common.model, "Model folder (default: the bundled model)");
  verb->add_flag("--json", o->common.json, "Print JSON");
  return {verb, [o] {
            const Status status = Tokenize(*o);
            return status.ok() ? kDone : Fail(status);
          }};
}

}  // namespace spanwise::cli

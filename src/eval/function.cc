#include "eval/function.h"

#include <algorithm>
#include <utility>

#include "engine/model_text.h"
#include "formats/model_file.h"
#include "prompt/labels.h"

namespace spanwise::eval {
namespace {

constexpr const char* kTexts[] = {
    "The Cawick T40 weighs 12.5 kg.",
    "  leading, doubled  and trailing spaces \n\n\tand tabs\r\n",
    "1234567890 3.14159 -2e10 0x1F",
    "don't can't I'll we've O'Brien's",
    "na\u00efve caf\u00e9, cafe\u0301, \u00c5ngstr\u00f6m, stra\u00dfe, \u0130stanbul",
    "\u4e2d\u6587\u6587\u672c \u65e5\u672c\u8a9e \ud55c\uad6d\uc5b4",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2192 \u221e \u00a0\u2003\u200b",
    "for (int i = 0; i < n; ++i) { sum += a[i] * b[i]; }  // ok?",
    "| a | b |\n|---|---|\n| 1 | 2 |\n",
    "<|end|><|system|></s><eos>[INST]",
    "HTTP/1.1 404 https://example.org/x?y=1&z=%20",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
};

void AddTokens(const std::vector<int32_t>& ids, Hasher* hasher) {
  hasher->Field(ids.size());
  for (const int32_t id : ids) hasher->Field(static_cast<uint64_t>(id));
}

Result<Hash256> HashLogits(Engine& engine) {
  Request request;
  std::vector<int32_t>& ids = request.prompt_tokens.emplace();
  const int n = std::min(ModelFunction::kProbeTokens, engine.model().context_tokens - 1);
  for (int i = 0; i < n; ++i) ids.push_back((i * 7919 + 13) % engine.model().vocab_size);
  request.echo = true;
  request.use_cache = false;
  request.sampling.max_tokens = 0;
  request.sampling.logprobs = 0;
  Hasher hasher;
  RequestObserver observer;
  observer.on_logits = [&](int32_t, std::span<const float> logits) {
    hasher.Field(std::string_view(reinterpret_cast<const char*>(logits.data()), logits.size_bytes()));
  };
  SW_RETURN_IF_ERROR(engine.Run(std::move(request), std::move(observer)).status());
  return hasher.Finish();
}

void AddNode(const PromptNode& node, Hasher* hasher) {
  hasher->Field(static_cast<uint64_t>(node.kind)).Field(node.children.size());
  AddTokens(node.tokens, hasher);
  for (const PromptNode& child : node.children) AddNode(child, hasher);
}

std::vector<Hash256> HashPrompts(const ModelText& text) {
  const std::vector<std::vector<Message>> conversations = {
      {{"user", "Who runs Harlow Instruments?"}},
      {{"system", "Be brief."}, {"user", "Who?"}},
      {{"user", "a"}, {"assistant", "b"}, {"user", "c"}},
      {{"system", " Spaces around \n"}, {"user", " q\n"}, {"assistant", "<think>x</think>\n\ny "}, {"user", "z"}},
      {{"system", "only"}},
      {{"user", "a"}, {"user", "b"}},
      {{"assistant", "first"}, {"user", "then"}},
      {{"user", ""}},
      {{"user", "<|end|></s>[INST]{{ x }}"}},
  };
  const std::vector<std::vector<Document>> sets = {
      {},
      {{"7", "A title", "One document.\n\nTwo paragraphs."}},
      {{"1", "", "Without a title."}, {"22", "B", ""}, {"999", "C", "{% if x %}<|/doc|>{% endif %}"}},
  };
  std::vector<Hash256> hashes;
  for (const auto& documents : sets)
    for (const auto& messages : conversations) {
      Hasher hasher;
      const auto tree =
          text.chat ? text.chat->Build(messages, documents, AssignLabels(documents)) : Result<PromptNode>(text.no_chat);
      if (tree.ok()) {
        AddNode(*tree, &hasher);
      } else {
        hasher.Field("refused");
      }
      hashes.push_back(hasher.Finish());
    }
  return hashes;
}

}  // namespace

Result<ModelFunction> ProbeModel(const EngineOptions& options) {
  SW_ASSIGN_OR_RETURN(const auto engine, Engine::Open(options));
  SW_ASSIGN_OR_RETURN(const std::string path, FindModel(options.model));
  SW_ASSIGN_OR_RETURN(const ModelText text, LoadModelText(path));
  ModelFunction function{.kv = engine->model().kv_digest, .logits = {}, .tokens = {}, .prompts = HashPrompts(text)};
  SW_ASSIGN_OR_RETURN(function.logits, HashLogits(*engine));
  Hasher tokens;
  for (const char* probe : kTexts) {
    SW_ASSIGN_OR_RETURN(const std::vector<int32_t> plain, engine->Tokenize(probe, /*parse_special=*/false));
    SW_ASSIGN_OR_RETURN(const std::vector<int32_t> prompt, engine->TokenizePrompt(probe));
    AddTokens(plain, &tokens);
    AddTokens(prompt, &tokens);
  }
  function.tokens = tokens.Finish();
  return function;
}

}  // namespace spanwise::eval

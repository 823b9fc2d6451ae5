#include "eval/perplexity.h"

#include <algorithm>
#include <span>

#include "base/str.h"

namespace spanwise::eval {

Result<std::vector<Passage>> TextPassages(const Engine& engine, const std::vector<std::string>& texts, int context,
                                          const std::string& prefix) {
  SW_ASSIGN_OR_RETURN(const std::vector<int32_t> before, engine.TokenizePrompt(prefix));
  const int most = engine.model().context_tokens;
  if (context < 2 || context > most)
    return InvalidArgument(StrFormat("the window is {} tokens, expected 2 to {}, the model's context", context, most));
  if (before.size() + 2 > static_cast<size_t>(context))
    return InvalidArgument(
        StrFormat("the prefix has {} tokens, which leaves no room in a window of {}", before.size(), context));
  const size_t step = static_cast<size_t>(context) - before.size();
  std::vector<Passage> passages;
  for (const std::string& text : texts) {
    SW_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens, engine.Tokenize(text, /*parse_special=*/false));
    for (size_t at = 0; at < tokens.size(); at += step) {
      const auto window = std::span(tokens).subspan(at, std::min(step, tokens.size() - at));
      // What stands first in a prompt has no probability.
      if (before.size() + window.size() < 2) continue;
      Passage& passage = passages.emplace_back();
      std::vector<int32_t>& prompt = passage.request.prompt_tokens.emplace(before);
      prompt.insert(prompt.end(), window.begin(), window.end());
      passage.request.echo = true;
      passage.request.use_cache = false;
      passage.request.sampling.max_tokens = 0;
      passage.n_unscored = before.empty() ? 0 : before.size() - 1;
    }
  }
  return passages;
}

Result<std::vector<Passage>> AnswerPassages(const Engine& engine, const std::vector<QaRecord>& records) {
  std::vector<Passage> passages;
  for (const QaRecord& record : records) {
    Passage& passage = passages.emplace_back();
    passage.request = QuestionOf(record, {});
    passage.request.use_cache = false;
    SW_ASSIGN_OR_RETURN(passage.request.forced_tokens, ReferenceTokens(engine, record));
  }
  return passages;
}

Result<Divergence> MeasurePerplexity(Engine& engine, Engine* reference, const std::vector<Passage>& passages,
                                     const std::function<void(size_t done)>& progress) {
  std::vector<TokenDivergence> tokens;
  size_t done = 0;
  for (const Passage& passage : passages) {
    SW_ASSIGN_OR_RETURN(const Reading reading, Read(engine, passage.request));
    if (reference) {
      SW_ASSIGN_OR_RETURN(const Reading expected, Read(*reference, passage.request));
      SW_ASSIGN_OR_RETURN(const auto compared, CompareReadings(expected, reading));
      tokens.insert(tokens.end(), compared.begin() + static_cast<ptrdiff_t>(passage.n_unscored), compared.end());
    } else {
      for (size_t i = passage.n_unscored; i < reading.tokens.size(); ++i) {
        SW_ASSIGN_OR_RETURN(const double logprob, LogProb(reading.row(i), reading.tokens[i]));
        tokens.push_back({.reference_logprob = logprob, .logprob = logprob});
      }
    }
    if (progress) progress(++done);
  }
  if (tokens.empty()) return InvalidArgument("there is nothing to score: the texts have fewer than two tokens");
  return Summarise(tokens);
}

}  // namespace spanwise::eval

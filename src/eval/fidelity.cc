#include "eval/fidelity.h"

#include <algorithm>
#include <utility>

#include "base/str.h"
#include "prompt/compose/composer.h"

namespace spanwise::eval {
namespace {

// Reads a record's documents so that they are kept, as some earlier question would have. Every composed way begins with
// what this leaves, and what it makes of it has an address of its own.
Status Prepare(Engine& engine, const QaRecord& record, const std::string& salt) {
  Request earlier = QuestionOf(record, {.mode = ComposeMode::kSet});
  earlier.compose.force = true;
  earlier.cache_salt = salt;
  earlier.messages.back().content = record.question.starts_with("What") ? "Who is named?" : "What is said?";
  std::ranges::reverse(earlier.documents);
  earlier.sampling.max_tokens = 0;
  return engine.Run(std::move(earlier)).status();
}

struct OneRead {
  FidelitySample sample;
  Reading reading;  // of the reference answer
  std::string text;
};

Result<OneRead> ReadOnce(Engine& engine, const QaRecord& record, const ComposeOptions& compose, const std::string& salt,
                         bool answers) {
  Request request = QuestionOf(record, compose);
  request.compose.force = true;
  request.cache_salt = salt;
  OneRead out;
  Answer answer;
  if (answers) {
    SW_ASSIGN_OR_RETURN(answer, engine.Run(request));
  }
  SW_ASSIGN_OR_RETURN(request.forced_tokens, ReferenceTokens(engine, record));
  SW_ASSIGN_OR_RETURN(out.reading, Read(engine, std::move(request)));
  out.sample = {.kind = record.kind,
                .documents = static_cast<int>(record.documents.size()),
                .prompt_tokens = answer.usage.prompt_tokens,
                .answer = {},
                .right = answers && IsRight(record, answer),
                .as_exact = true,
                .ttft_ms = answer.timings.ttft_ms,
                .recomputed_tokens = answer.usage.prompt_tokens - answer.usage.cached_tokens,
                .repair_change = (answers ? answer : out.reading.answer).compose.repair_change};
  out.text = std::move(answer.text);
  return out;
}

}  // namespace

Result<std::vector<std::vector<FidelitySample>>> MeasureFidelity(Engine& engine, const std::vector<QaRecord>& records,
                                                                 const FidelityOptions& options,
                                                                 const std::function<void(size_t done)>& progress) {
  std::vector<ComposeOptions> ways = {{.mode = ComposeMode::kExact}};
  ways.insert(ways.end(), options.composed.begin(), options.composed.end());
  std::vector<std::vector<FidelitySample>> samples(ways.size());
  const auto measure = [&](const QaRecord& record) -> Status {
    Reading flat;
    std::string flat_text;
    const size_t n = samples[0].size();
    for (size_t i = 0; i < ways.size(); ++i) {
      // Salts of their own: the flat prompt finds nothing, the others what was prepared for this record.
      const std::string salt = StrFormat("fidelity {} {}", n, i == 0 ? "flat" : "composed");
      if (i == 1) SW_RETURN_IF_ERROR(Prepare(engine, record, salt));
      auto read = ReadOnce(engine, record, ways[i], salt, options.answers);
      if (!read.ok()) return read.status().WithContext("question " + Quoted(record.question));
      if (i == 0) {
        flat = std::move(read->reading);
        flat_text = read->text;
        SW_ASSIGN_OR_RETURN(read->sample.answer, CompareReadings(flat, flat));
      } else {
        SW_ASSIGN_OR_RETURN(read->sample.answer, CompareReadings(flat, read->reading));
      }
      read->sample.as_exact = read->text == flat_text;
      samples[i].push_back(std::move(read->sample));
    }
    return Status::Ok();
  };
  for (size_t i = 0; i < records.size(); ++i) {
    if (options.documents.empty()) SW_RETURN_IF_ERROR(measure(records[i]));
    for (const int n : options.documents)
      if (const auto cut = WithDocuments(records[i], n)) SW_RETURN_IF_ERROR(measure(*cut));
    if (progress) progress(i + 1);
  }
  if (samples[0].empty()) return InvalidArgument("no record has as many documents as asked for");
  return samples;
}

FidelityScore Score(const std::vector<const FidelitySample*>& samples) {
  FidelityScore score;
  score.n = static_cast<int>(samples.size());
  if (samples.empty()) return score;
  std::vector<TokenDivergence> tokens;
  std::vector<double> ttft;
  for (const FidelitySample* s : samples) {
    tokens.insert(tokens.end(), s->answer.begin(), s->answer.end());
    ttft.push_back(s->ttft_ms);
    score.documents += s->documents;
    score.tokens += s->prompt_tokens;
    score.accuracy += s->right;
    score.as_exact += s->as_exact;
    score.recomputed_tokens += s->recomputed_tokens;
  }
  for (double* sum : {&score.documents, &score.tokens, &score.accuracy, &score.as_exact, &score.recomputed_tokens})
    *sum /= score.n;
  score.divergence = Summarise(tokens);
  std::ranges::sort(ttft);
  score.ttft_ms = (ttft[(ttft.size() - 1) / 2] + ttft[ttft.size() / 2]) / 2;
  return score;
}

FidelityScore Score(const std::vector<FidelitySample>& samples) {
  std::vector<const FidelitySample*> all;
  for (const FidelitySample& s : samples) all.push_back(&s);
  return Score(all);
}

std::vector<ComposeOptions> ComposedModes() {
  std::vector<ComposeOptions> modes;
  for (const ComposeMode mode : {ComposeMode::kSet, ComposeMode::kApe, ComposeMode::kRepair})
    if (FindComposer(mode).ok()) modes.push_back({.mode = mode});
  return modes;
}

std::optional<QaRecord> WithDocuments(const QaRecord& record, int n) {
  const auto cited = [&](const Document& d) {
    return std::ranges::find(record.citations, d.id) != record.citations.end();
  };
  auto room = n - std::ranges::count_if(record.documents, cited);
  if (room < 0 || static_cast<size_t>(n) > record.documents.size()) return std::nullopt;
  QaRecord cut = record;
  std::erase_if(cut.documents, [&](const Document& d) { return !cited(d) && room-- <= 0; });
  return cut;
}

}  // namespace spanwise::eval

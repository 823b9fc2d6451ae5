#include "rag/answerer.h"

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "base/str.h"
#include "retrieval/quote.h"

namespace spanwise::rag {
namespace {

// A chunk's id in requests: the document's, with where the chunk begins when that is not the start.
std::string SourceId(const Source& source) {
  return source.begin == 0 ? source.document_id : StrFormat("{}@{}", source.document_id, source.begin);
}

// The [labels] in a text, with the sentence each ends: what stands between the previous citation or sentence end and
// it.
struct LabelMention {
  std::string label;
  std::string_view sentence;
};

std::vector<LabelMention> FindLabels(std::string_view text) {
  std::vector<LabelMention> mentions;
  size_t sentence = 0;
  for (size_t open = 0; (open = text.find('[', open)) != std::string_view::npos;) {
    const size_t close = text.find(']', open);
    if (close == std::string_view::npos) break;
    const std::string_view said = Trim(text.substr(sentence, open - sentence));
    // "See [4]." says nothing before the label; then the previous mention's sentence, if any, is meant.
    mentions.push_back({std::string(text.substr(open + 1, close - open - 1)),
                        said.size() < 4 && !mentions.empty() ? mentions.back().sentence : said});
    sentence = open = close + 1;
  }
  return mentions;
}

}  // namespace

Request MakeRequest(std::vector<Message> messages, const std::vector<Source>& sources, const ComposeOptions& compose,
                    const SamplingParams& sampling) {
  Request request;
  request.messages = std::move(messages);
  for (const Source& source : sources)
    request.documents.push_back({SourceId(source), source.title, source.text, source.score, source.cache_salt});
  request.compose = compose;
  request.sampling = sampling;
  return request;
}

std::vector<Citation> CitationsByAttention(const AttentionReport& report, const std::vector<Source>& sources,
                                           const std::vector<std::string>& labels) {
  constexpr double kOfBest = 0.5, kLeast = 0.15;
  double all = 0, best = 0;
  for (const AttentionReport::Document& document : report.documents) {
    all += document.share;
    best = std::max(best, document.share);
  }
  std::vector<Citation> citations;
  for (size_t i = 0; i < report.documents.size(); ++i) {
    const AttentionReport::Document& document = report.documents[i];
    if (document.share <= 0 || document.share < kOfBest * best || document.share < kLeast * all) continue;
    const Source& source = sources[i];
    AttentionReport::Stretch quote{.begin = 0, .end = source.text.size()};
    for (const AttentionReport::Stretch& stretch : document.stretches)
      if (stretch.share > quote.share) quote = stretch;
    citations.push_back({.document_id = source.document_id,
                         .title = source.title,
                         .label = labels[i],
                         .quote = source.text.substr(quote.begin, quote.end - quote.begin),
                         .begin = source.begin + quote.begin,
                         .end = source.begin + quote.end,
                         .score = document.share / all});
  }
  std::ranges::stable_sort(citations, std::greater(), &Citation::score);
  return citations;
}

GroundedAnswer Ground(Answer answer, std::vector<Source> sources) {
  GroundedAnswer grounded;
  std::map<std::string, size_t> by_label;
  std::map<std::string, const Source*> by_id;
  for (size_t i = 0; i < sources.size(); ++i) {
    if (sources[i].document_id.empty()) sources[i].document_id = std::to_string(i + 1);
    by_label.emplace(answer.document_labels[i], i);
    by_id.emplace(SourceId(sources[i]), &sources[i]);
  }
  for (PieceReport& span : answer.compose.spans)
    if (const auto it = by_id.find(span.document); it != by_id.end()) span.document = it->second->document_id;

  const auto extracted = answer.extraction ? by_id.find(answer.extraction->document) : by_id.end();
  if (extracted != by_id.end()) {
    const Source& source = *extracted->second;
    grounded.citations.push_back(
        {.document_id = source.document_id,
         .title = source.title,
         .label = answer.document_labels[static_cast<size_t>(&source - sources.data())],
         .quote = source.text.substr(answer.extraction->begin, answer.extraction->end - answer.extraction->begin),
         .begin = source.begin + answer.extraction->begin,
         .end = source.begin + answer.extraction->end,
         .score = 1});
    grounded.answer = std::move(answer);
    grounded.sources = std::move(sources);
    return grounded;
  }
  if (answer.attention) {
    grounded.citations = CitationsByAttention(*answer.attention, sources, answer.document_labels);
    grounded.answer = std::move(answer);
    grounded.sources = std::move(sources);
    return grounded;
  }

  std::set<std::pair<size_t, size_t>> seen;  // (source, begin of the quote)
  for (const LabelMention& mention : FindLabels(answer.text)) {
    const auto it = by_label.find(mention.label);
    if (it == by_label.end()) continue;
    const Source& source = sources[it->second];
    retrieval::Quote quote = retrieval::BestQuote(source.text, mention.sentence);
    if (quote.range.begin == quote.range.end)
      quote.range = {0, source.text.size()};  // no word in common: the whole source
    if (!seen.emplace(it->second, quote.range.begin).second) continue;
    grounded.citations.push_back({.document_id = source.document_id,
                                  .title = source.title,
                                  .label = mention.label,
                                  .quote = source.text.substr(quote.range.begin, quote.range.end - quote.range.begin),
                                  .begin = source.begin + quote.range.begin,
                                  .end = source.begin + quote.range.end,
                                  .score = quote.score});
  }
  grounded.answer = std::move(answer);
  grounded.sources = std::move(sources);
  return grounded;
}

std::vector<Source> WholeDocuments(const std::vector<retrieval::SourceDocument>& documents) {
  std::vector<Source> sources;
  for (const auto& d : documents) sources.push_back({d.id, d.title, d.text, 0, {}, d.cache_salt});
  return sources;
}

std::vector<Source> WholeDocuments(const std::vector<Document>& documents) {
  std::vector<Source> sources;
  for (const Document& d : documents) sources.push_back({d.id, d.title, d.text, 0, d.score, d.cache_salt});
  return sources;
}

Result<std::vector<Source>> Retrieve(const retrieval::Corpus& corpus, const std::string& question, size_t k) {
  SW_ASSIGN_OR_RETURN(std::vector<retrieval::Hit> hits, corpus.Search(question, k));
  std::vector<Source> sources;
  for (retrieval::Hit& hit : hits)
    sources.push_back({std::move(hit.document_id), std::move(hit.title), std::move(hit.text), hit.begin, hit.score,
                       std::move(hit.cache_salt)});
  return sources;
}

}  // namespace spanwise::rag

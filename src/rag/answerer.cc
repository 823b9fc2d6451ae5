#include "rag/answerer.h"

#include <algorithm>
#include <cstddef>
#include <functional>
#include <iterator>
#include <map>
#include <set>

#include "base/str.h"
#include "rag/conversation.h"
#include "rag/names.h"
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
  size_t group = 0;  // mentions of one sentence, one behind the other
};

std::vector<LabelMention> FindLabels(std::string_view text) {
  std::vector<LabelMention> mentions;
  size_t sentence = 0;
  for (size_t open = 0; (open = text.find('[', open)) != std::string_view::npos;) {
    const size_t close = text.find(']', open);
    if (close == std::string_view::npos) break;
    const std::string_view said = Trim(text.substr(sentence, open - sentence));
    LabelMention mention{std::string(text.substr(open + 1, close - open - 1)), said, mentions.size()};
    // "and [4]" says nothing before the label: the previous mention's sentence is meant; and of "See [4]. It is heavy."
    // the one behind it.
    if (said.size() < 4 && !mentions.empty()) {
      mention.sentence = mentions.back().sentence;
      mention.group = mentions.back().group;
    } else if (said.size() < 4) {
      const std::string_view behind = text.substr(close + 1);
      const size_t word = std::min(behind.find_first_not_of(" .,:;"), behind.size());
      mention.sentence = Trim(behind.substr(word, behind.find('[', word) - word));
    }
    mentions.push_back(std::move(mention));
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

  struct Mentioned {
    const LabelMention& mention;
    size_t source;
    retrieval::Quote quote;
  };
  const std::vector<LabelMention> mentions = FindLabels(answer.text);
  std::vector<Mentioned> mentioned;  // of the sources
  for (const LabelMention& mention : mentions) {
    const auto it = by_label.find(mention.label);
    if (it == by_label.end()) continue;
    const std::string& text = sources[it->second].text;
    retrieval::Quote quote = retrieval::BestQuote(text, mention.sentence);
    if (quote.range.begin == quote.range.end) quote.range = {0, text.size()};  // no word in common: the whole source
    mentioned.push_back({mention, it->second, quote});
  }
  std::set<std::pair<size_t, size_t>> seen;  // (source, begin of the quote)
  std::set<size_t> seen_unsupported;
  for (size_t begin = 0, end = 0; begin < mentioned.size(); begin = end) {
    std::vector<ClaimSource> together;
    for (; end < mentioned.size() && mentioned[end].mention.group == mentioned[begin].mention.group; ++end) {
      const Source& source = sources[mentioned[end].source];
      const retrieval::ByteRange quoted = mentioned[end].quote.range;
      together.push_back(
          {source.title, source.text, std::string_view(source.text).substr(quoted.begin, quoted.size())});
    }
    for (size_t i = begin; i < end; ++i) {
      const auto& [mention, n, quote] = mentioned[i];
      const Source& source = sources[n];
      std::vector<std::string> missing = Unsupported(mention.sentence, together, i - begin);
      if (!missing.empty()) {
        if (seen_unsupported.insert(n).second)
          grounded.unsupported.push_back({.document_id = source.document_id,
                                          .title = source.title,
                                          .label = mention.label,
                                          .missing = std::move(missing)});
        continue;
      }
      if (!seen.emplace(n, quote.range.begin).second) continue;
      grounded.citations.push_back({.document_id = source.document_id,
                                    .title = source.title,
                                    .label = mention.label,
                                    .quote = std::string(together[i - begin].quote),
                                    .begin = source.begin + quote.range.begin,
                                    .end = source.begin + quote.range.end,
                                    .score = quote.score});
    }
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

Result<std::vector<Source>> Retrieve(const retrieval::Corpus& corpus, const std::vector<Message>& messages, size_t k) {
  const SearchQuestion question = QuestionToSearch(messages);
  SW_ASSIGN_OR_RETURN(std::vector<retrieval::Hit> hits, corpus.Search(question.complete, k));
  if (question.complete != question.alone) {
    const auto n_complete = std::min<size_t>(hits.size(), (k * static_cast<size_t>(question.quarters) + 3) / 4);
    const auto rest = hits.begin() + static_cast<std::ptrdiff_t>(n_complete);
    std::vector<retrieval::Hit> others(std::make_move_iterator(rest), std::make_move_iterator(hits.end()));
    hits.erase(rest, hits.end());
    SW_ASSIGN_OR_RETURN(std::vector<retrieval::Hit> alone, corpus.Search(question.alone, k));
    alone.insert(alone.end(), std::make_move_iterator(others.begin()), std::make_move_iterator(others.end()));
    for (retrieval::Hit& hit : alone)
      if (hits.size() < k && std::ranges::find(hits, hit.chunk_id, &retrieval::Hit::chunk_id) == hits.end())
        hits.push_back(std::move(hit));
    // More words only add to a score, so that scores of the two searches can be compared.
    std::ranges::stable_sort(hits, std::greater(), &retrieval::Hit::score);
  }
  std::vector<Source> sources;
  for (retrieval::Hit& hit : hits)
    sources.push_back({std::move(hit.document_id), std::move(hit.title), std::move(hit.text), hit.begin, hit.score,
                       std::move(hit.cache_salt)});
  return sources;
}

}  // namespace spanwise::rag

#include "eval/order.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <set>

#include "base/str.h"
#include "eval/fidelity.h"
#include "prompt/order/order.h"

namespace spanwise::eval {
namespace {

bool Cites(const QaRecord& record, const Document& document) {
  return std::ranges::find(record.citations, document.id) != record.citations.end();
}

// Whether where a document is given shows in where it stands.
bool KeepsPlaces(const ComposeOptions& way) {
  return way.order == DocumentOrder::kGiven || way.order == DocumentOrder::kRepeat;
}

}  // namespace

QaRecord WithCitedAt(const QaRecord& record, double place) {
  QaRecord moved = record;
  std::vector<Document> cited;
  std::ranges::copy_if(record.documents, std::back_inserter(cited),
                       [&](const Document& d) { return Cites(record, d); });
  std::erase_if(moved.documents, [&](const Document& d) { return Cites(record, d); });
  const auto at = std::lround(place * static_cast<double>(moved.documents.size()));
  moved.documents.insert(moved.documents.begin() + at, cited.begin(), cited.end());
  return moved;
}

void ScoreDocuments(QaRecord* record) {
  constexpr double kSaturation = 1.2, kLength = 0.75;
  std::vector<std::map<std::string, int>> counts;
  std::vector<double> lengths;
  double n_words = 0;
  for (const Document& document : record->documents) {
    const std::vector<std::string> words = Words(document.title + " " + document.text);
    std::map<std::string, int>& of = counts.emplace_back();
    for (const std::string& word : words) ++of[word];
    lengths.push_back(static_cast<double>(words.size()));
    n_words += lengths.back();
  }
  const auto n = static_cast<double>(counts.size());
  for (Document& document : record->documents) document.score = 0;
  const std::vector<std::string> asked = Words(record->question);
  for (const std::string& word : std::set<std::string>(asked.begin(), asked.end())) {
    const auto has =
        static_cast<double>(std::ranges::count_if(counts, [&](const auto& of) { return of.contains(word); }));
    const double rarity = std::log(1 + (n - has + 0.5) / (has + 0.5));
    for (size_t i = 0; i < counts.size(); ++i)
      if (const auto it = counts[i].find(word); it != counts[i].end())
        *record->documents[i].score += rarity * it->second * (kSaturation + 1) /
                                       (it->second + kSaturation * (1 - kLength + kLength * lengths[i] * n / n_words));
  }
}

Result<std::vector<OrderSample>> MeasureOrders(Engine& engine, const std::vector<QaRecord>& records,
                                               const OrderOptions& options,
                                               const std::function<void(size_t done)>& progress) {
  for (const ComposeOptions& way : options.ways) {
    PromptNode none;
    SW_RETURN_IF_ERROR(ArrangeSets(way, &none));
  }
  std::vector<OrderSample> samples;
  for (size_t i = 0; i < records.size(); ++i) {
    auto record = options.documents == 0 ? records[i] : WithDocuments(records[i], options.documents);
    if (record && !options.places.empty() && record->citations.empty()) record.reset();
    if (record) {
      ScoreDocuments(&*record);
      for (size_t w = 0; w < options.ways.size(); ++w) {
        std::vector<std::optional<double>> places(options.places.begin(), options.places.end());
        if (places.empty() || !KeepsPlaces(options.ways[w])) places = {std::nullopt};
        for (const std::optional<double> place : places) {
          Request request = QuestionOf(place ? WithCitedAt(*record, *place) : *record, options.ways[w]);
          request.compose.force = true;
          auto answer = engine.Run(std::move(request));
          if (!answer.ok()) return answer.status().WithContext("question " + Quoted(record->question));
          samples.push_back({.kind = record->kind, .way = w, .place = place, .right = IsRight(*record, *answer)});
        }
      }
    }
    if (progress) progress(i + 1);
  }
  if (samples.empty()) return InvalidArgument("no record has as many documents as asked for, or cites any");
  return samples;
}

}  // namespace spanwise::eval

#include "engine/pointers.h"

#include <algorithm>
#include <map>

#include "retrieval/quote.h"

namespace spanwise {
namespace {

// Early layers look at neighbours and at form; what an answer is read from shows in the later half (measured:
// docs/composition.md, "Pointers").
int FirstLayer(int n_layers) { return n_layers / 2; }

}  // namespace

std::vector<PointedDocument> PointInto(const std::vector<Document>& documents) {
  std::vector<PointedDocument> pointed;
  for (const Document& document : documents) pointed.push_back({document.id, retrieval::Quotable(document.text)});
  return pointed;
}

Pointers::Pointers(const Plan& plan, const std::vector<PointedDocument>& documents, const ModelConfig& config)
    : first_layer_(FirstLayer(config.n_layers)), n_heads_((config.n_layers - first_layer_) * config.n_heads) {
  std::map<std::string, size_t> index, first_share;
  size_t n_shares = kDocuments;
  for (size_t i = 0; i < documents.size(); ++i) {
    const PointedDocument& document = documents[i];
    index[document.id] = i;
    first_share[document.id] = n_shares;
    n_shares += 1 + document.stretches.size();
    AttentionReport::Document& reported = report_.documents.emplace_back();
    reported.document = document.id;
    for (const retrieval::ByteRange stretch : document.stretches)
      reported.stretches.push_back({stretch.begin, stretch.end});
  }
  shares_.resize(n_shares);

  std::vector<int> seen = plan.runs.back().visible;
  seen.push_back(static_cast<int>(plan.runs.size()) - 1);
  for (size_t k = 0; k < seen.size(); ++k) {
    const int run = static_cast<int>(k);  // as the tail counts
    std::vector<const PlannedPiece*> pieces;
    for (const PlannedPiece& piece : plan.pieces)
      if (piece.run == seen[k] && !piece.document.empty()) pieces.push_back(&piece);
    std::ranges::stable_sort(pieces, {}, &PlannedPiece::begin);
    for (const PlannedPiece* piece : pieces) {
      const int covered = !ranges_.empty() && ranges_.back().run == run ? ranges_.back().end : 0;
      if (piece->begin < covered) continue;  // equal documents that were placed once
      Cover(run, piece->begin, kPrompt);
      CoverDocument(run, *piece, documents[index.at(piece->document)], first_share.at(piece->document));
    }
    Cover(run, static_cast<int>(plan.runs[static_cast<size_t>(seen[k])].tokens.size()), kPrompt);
  }
  Cover(static_cast<int>(seen.size()) - 1, static_cast<int>(plan.runs.back().tokens.size()) + 1, kAnswer);
  mass_.resize(ranges_.size());
}

// What is not covered yet of a run, up to `end`.
void Pointers::Cover(int run, int end, size_t share) {
  const bool same_run = !ranges_.empty() && ranges_.back().run == run;
  const int begin = same_run ? ranges_.back().end : 0;
  if (begin >= end) return;
  if (same_run && share_of_.back() == share) {
    ranges_.back().end = end;
    return;
  }
  ranges_.push_back({run, begin, end});
  share_of_.push_back(share);
}

void Pointers::CoverDocument(int run, const PlannedPiece& piece, const PointedDocument& document, size_t share) {
  size_t stretch = 0;
  for (int token = piece.begin; token < piece.end; ++token) {
    const auto i = static_cast<size_t>(token - piece.begin);
    const TextRange bytes = piece.bytes.empty() ? TextRange() : piece.bytes[i];
    // White space between two belongs to the second.
    while (stretch + 1 < document.stretches.size() && document.stretches[stretch].end < bytes.end) ++stretch;
    const bool inside = !bytes.empty() && !document.stretches.empty();
    Cover(run, token + 1, token == piece.begin ? kFirstTokens : inside ? share + 1 + stretch : share);
  }
}

std::span<const KeyRange> Pointers::Ranges(int n_tail) {
  // The last range is the answer's, which begins with the token behind the prompt.
  KeyRange& answer = ranges_.back();
  answer.end = std::max(answer.begin, n_tail);
  return ranges_;
}

std::span<int64_t> Pointers::Mass() {
  std::ranges::fill(mass_, 0);
  return mass_;
}

void Pointers::Count() {
  for (size_t i = 0; i < mass_.size(); ++i) shares_[share_of_[i]] += static_cast<double>(mass_[i]);
  ++n_counted_;
}

AttentionReport Pointers::Report() const {
  AttentionReport report = report_;
  const double all = std::max(1, n_counted_) * n_heads_ * 0x1p40;
  report.prompt = shares_[kPrompt] / all;
  report.answer = shares_[kAnswer] / all;
  report.first_tokens = shares_[kFirstTokens] / all;
  size_t share = kDocuments;
  for (AttentionReport::Document& document : report.documents) {
    document.share = shares_[share++] / all;
    for (AttentionReport::Stretch& stretch : document.stretches)
      document.share += stretch.share = shares_[share++] / all;
  }
  return report;
}

}  // namespace spanwise

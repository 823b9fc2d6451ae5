#include "decode/copier.h"

#include <algorithm>

#include "base/check.h"

namespace spanwise::decode {

void Copier::Accept(int32_t token) {
  std::vector<Match> matches;
  if (n_accepted_ == 0) {
    for (size_t s = 0; s < sources_.size(); ++s)
      for (size_t i = 0; i < sources_[s].tokens.size(); ++i)
        if (sources_[s].tokens[i].first == token) matches.push_back({s, i});
  } else {
    for (const Match& match : matches_) {
      const auto& tokens = sources_[match.source].tokens;
      if (const size_t i = match.begin + n_accepted_; i < tokens.size() && tokens[i].id == token)
        matches.push_back(match);
    }
  }
  SW_CHECK(!matches.empty());
  matches_ = std::move(matches);
  ++n_accepted_;
  FindNext();
}

void Copier::FindNext() {
  next_.clear();
  may_end_ = false;
  if (n_accepted_ == 0) {
    for (const CopySource& source : sources_)
      for (const CopySource::Token& token : source.tokens)
        if (token.first != CopySource::kNone) next_.push_back(token.first);
  }
  for (const Match& match : matches_) {
    const auto& tokens = sources_[match.source].tokens;
    const size_t i = match.begin + n_accepted_;
    may_end_ = may_end_ || tokens[i - 1].may_end;
    if (i < tokens.size() && tokens[i].id != CopySource::kNone) next_.push_back(tokens[i].id);
  }
  std::ranges::sort(next_);
  next_.erase(std::unique(next_.begin(), next_.end()), next_.end());
}

Copier::Place Copier::place() const {
  SW_CHECK(!matches_.empty());
  const auto ends = [&](const Match& match) {
    return sources_[match.source].tokens[match.begin + n_accepted_ - 1].may_end;
  };
  // One that ends with a word, where there is such.
  const auto ended = std::ranges::find_if(matches_, ends);
  const Match& match = ended == matches_.end() ? matches_[0] : *ended;
  const auto& tokens = sources_[match.source].tokens;
  return {&sources_[match.source], tokens[match.begin].first_begin, tokens[match.begin + n_accepted_ - 1].end};
}

}  // namespace spanwise::decode

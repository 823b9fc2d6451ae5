#include "prompt/order/search.h"

#include <algorithm>
#include <numeric>

namespace spanwise {

OrderSearch::OrderSearch(size_t n_members, int most_trials) : most_trials_(most_trials) {
  trial_.emplace(n_members);
  std::iota(trial_->begin(), trial_->end(), size_t{0});
}

void OrderSearch::Record(double value) {
  if (n_trials_++ == 0) first_value_ = value;
  tried_.insert(*trial_);
  if (n_trials_ == 1 || value > best_value_) {
    best_ = *trial_;
    best_value_ = value;
    n_moves_ = 0;
  }
  FindTrial();
}

void OrderSearch::FindTrial() {
  trial_.reset();
  const size_t n = best_.size();
  while (n_trials_ < most_trials_ && n_moves_ + 1 < n) {
    std::vector<size_t> moved = best_;
    const auto member = moved.end() - 2 - static_cast<ptrdiff_t>(n_moves_++);
    std::rotate(member, member + 1, moved.end());
    if (tried_.contains(moved)) continue;
    trial_ = std::move(moved);
    return;
  }
}

}  // namespace spanwise

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
    to_ = best_.empty() ? 0 : best_.size() - 1;
    from_ = to_;
  }
  FindTrial();
}

void OrderSearch::FindTrial() {
  trial_.reset();
  while (n_trials_ < most_trials_ && to_ > 0) {
    if (from_ == 0) {
      from_ = --to_;
      continue;
    }
    std::vector<size_t> moved = best_;
    const auto member = moved.begin() + static_cast<ptrdiff_t>(--from_);
    std::rotate(member, member + 1, moved.begin() + static_cast<ptrdiff_t>(to_) + 1);
    if (tried_.contains(moved)) continue;
    trial_ = std::move(moved);
    return;
  }
}

}  // namespace spanwise

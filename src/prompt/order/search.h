// Looks for the order of a set under which something is most likely, one trial after another.
#pragma once

#include <cstddef>
#include <optional>
#include <set>
#include <vector>

namespace spanwise {

// Climbs from the order given: moves a member further back, to the end first, and of all that go to one place those
// near it first, since the prompts then share most of their beginning; keeps what is better and starts over; ends when
// no such move helps or the trials are used up. Deterministic. Thread-compatible.
class OrderSearch {
 public:
  OrderSearch(size_t n_members, int most_trials);

  // The next order to try, as indexes of members. nullopt: done. Record what came of it before asking again.
  const std::optional<std::vector<size_t>>& trial() const { return trial_; }
  // The value of the trial; larger is better.
  void Record(double value);

  int n_trials() const { return n_trials_; }
  // Of all recorded ones, the first of equals. REQUIRES: something was recorded.
  const std::vector<size_t>& best() const { return best_; }
  double best_value() const { return best_value_; }
  double first_value() const { return first_value_; }

 private:
  void FindTrial();

  const int most_trials_;
  std::optional<std::vector<size_t>> trial_;
  std::vector<size_t> best_;
  double best_value_ = 0, first_value_ = 0;
  size_t from_ = 0, to_ = 0;  // the next move of the best
  int n_trials_ = 0;
  std::set<std::vector<size_t>> tried_;
};

}  // namespace spanwise

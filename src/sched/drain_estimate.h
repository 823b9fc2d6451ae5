// How long it will take until those that wait have had their turn.
#pragma once

#include <cmath>

namespace spanwise::sched {

// Learns how many turns come in a second while somebody waits; without that nothing is learnt, because then turns come
// as requests do. Times are seconds of any one clock that goes forward. Thread-compatible.
class DrainEstimate {
 public:
  // A request left the queue to be worked on; n_left still wait.
  void Took(double now_s, int n_left) {
    if (busy_) {
      const double keep = std::exp((last_s_ - now_s) / kMemory_s);
      n_turns_ = n_turns_ * keep + 1;
      busy_s_ = busy_s_ * keep + (now_s - last_s_);
    }
    busy_ = n_left > 0;
    last_s_ = now_s;
  }

  // Until n_waiting will have left the queue; 0 where nothing is known.
  double Seconds(double now_s, int n_waiting) const {
    if (n_turns_ == 0) return 0;
    return n_waiting * (busy_s_ + (busy_ ? now_s - last_s_ : 0)) / n_turns_;
  }

 private:
  static constexpr double kMemory_s = 30;
  double n_turns_ = 0, busy_s_ = 0, last_s_ = 0;  // the first two fade with kMemory_s
  bool busy_ = false;
};

}  // namespace spanwise::sched

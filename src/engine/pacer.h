// How many prompt tokens a step may carry while others decode.
#pragma once

#include <algorithm>

namespace spanwise {

// Learns from the steps done what one costs without prompt tokens and what a prompt token adds, so that a long prompt
// that arrives slows the streams under way to about half their speed and not to a halt. Decides about time alone:
// results do not depend on how prompts are cut.
class Pacer {
 public:
  // A step over n_prompt prompt tokens beside n_decode others took so long.
  void Record(int n_prompt, int n_decode, double seconds) {
    if (n_prompt == 0) {
      Learn(&decode_s_, seconds);
    } else if (n_decode == 0 || seconds > decode_s_) {
      Learn(&prompt_token_s_, (seconds - (n_decode > 0 ? decode_s_ : 0)) / n_prompt);
    }
  }

  // At most `limit`, at least kLeast: prompts must go on, too.
  int Room(int n_decode, int limit) const {
    if (n_decode == 0) return limit;
    if (decode_s_ == 0 || prompt_token_s_ == 0) return std::min(limit, 16 * kLeast);
    const double room = decode_s_ / prompt_token_s_;
    return std::clamp(room < limit ? static_cast<int>(room) : limit, std::min(kLeast, limit), limit);
  }

 private:
  static constexpr int kLeast = 4;
  static constexpr double kShare = 0.2;  // of the newest value
  static void Learn(double* mean, double value) { *mean = *mean == 0 ? value : (1 - kShare) * *mean + kShare * value; }

  double decode_s_ = 0, prompt_token_s_ = 0;
};

}  // namespace spanwise

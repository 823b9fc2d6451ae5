#include "sched/admission.h"

#include <algorithm>
#include <tuple>

namespace spanwise::sched {

std::optional<std::vector<size_t>> MakeRoom(std::span<const Running> running, const Candidate& candidate,
                                            const Limits& limits) {
  size_t n_running = running.size(), n_blocks = 0;
  int n_sequences = 0;
  for (const Running& r : running) {
    n_blocks += r.n_blocks;
    n_sequences += r.n_sequences;
  }
  const auto fits = [&] {
    return n_running == 0 || (n_sequences + candidate.n_sequences <= limits.max_running &&
                              n_blocks + candidate.n_blocks <= limits.n_blocks);
  };
  std::vector<size_t> lower;
  for (size_t i = 0; i < running.size(); ++i)
    if (running[i].rank < candidate.priority && running[i].n_suspensions < kMostSuspensions) lower.push_back(i);
  std::ranges::sort(lower, [&](size_t a, size_t b) {
    return std::tuple(running[a].rank, running[b].id) < std::tuple(running[b].rank, running[a].id);
  });
  std::vector<size_t> suspended;
  while (!fits()) {
    if (suspended.size() == lower.size()) return {};
    suspended.push_back(lower[suspended.size()]);
    --n_running;
    n_blocks -= running[suspended.back()].n_blocks;
    n_sequences -= running[suspended.back()].n_sequences;
  }
  return suspended;
}

}  // namespace spanwise::sched

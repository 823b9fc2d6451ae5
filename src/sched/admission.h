// Whether a request may run now, and who must make room for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace spanwise::sched {

struct Running {
  uint64_t id = 0;
  int rank = 0;           // FairQueue::Turn's
  int n_suspensions = 0;  // so far
  size_t n_blocks = 0;    // memory set aside for it
  int n_sequences = 1;    // that it has in a step at most
};

struct Candidate {
  int priority = 0;
  size_t n_blocks = 0;
  int n_sequences = 1;
};

struct Limits {
  int max_running = 0;  // sequences
  size_t n_blocks = 0;
};

// Nobody is suspended more often, so that everybody gets done.
inline constexpr int kMostSuspensions = 4;

// Indices into `running` of those to suspend so that the candidate can run: none where there is room, else as few as it
// takes of those that run with a lower rank, the lowest and latest first. nullopt: it has to wait. What needs more than
// there is may run alone. Pure.
std::optional<std::vector<size_t>> MakeRoom(std::span<const Running> running, const Candidate& candidate,
                                            const Limits& limits);

}  // namespace spanwise::sched

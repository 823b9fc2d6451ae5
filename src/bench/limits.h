// What this machine allows: the figures that measured speeds stand beside.
#pragma once

#include "base/thread_pool.h"
#include "kernels/cpu/peak.h"

namespace spanwise::bench {

// Bytes a second that the threads of `pool` read from memory together: sums over a buffer far larger than the caches.
// The best of so many passes of some 20 ms. What a machine shared with others gives changes from one second to the
// next: measure between the runs that are to be compared with it, and take both from all of them.
double ReadBandwidth(ThreadPool& pool, int n_passes = 5);

// Operations a second, two for each multiply-add, of the threads of `pool` together in the widest instructions this
// processor has for such numbers. 0 where it has none.
double PeakRate(ThreadPool& pool, Arithmetic arithmetic);

}  // namespace spanwise::bench

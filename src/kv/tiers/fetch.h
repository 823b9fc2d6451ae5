// Spans on their way from a tier to this machine's memory.
#pragma once

#include <cstdint>

namespace spanwise {

// What came is found by the tier's Find as long as the fetch lives; dropping it ends it. Thread-safe.
class Fetch {
 public:
  virtual ~Fetch() = default;

  struct Progress {
    bool begun = false, done = false;   // done: all has come that will
    uint64_t bytes = 0;                 // that came
    double latency_s = 0, seconds = 0;  // till the server answered at all; till it was done, or till now
  };
  virtual Progress progress() const = 0;
  // progress().done, at the price of a look.
  virtual bool done() const = 0;
};

}  // namespace spanwise

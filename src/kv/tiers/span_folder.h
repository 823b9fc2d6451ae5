// A folder of spans as a whole: what it holds, whether all of it is sound, and what of it is still wanted.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kv/tiers/tier.h"
#include "spanwise/status.h"

namespace spanwise {

bool IsSpanFolder(const std::string& folder);

struct SpanFolderReport {
  struct OfModel {
    SpanFormat format;
    uint64_t spans = 0, tokens = 0;
  };
  uint64_t spans = 0, file_bytes = 0;
  std::vector<OfModel> models;
  uint64_t damaged = 0;   // records that would not be served
  uint64_t misnoted = 0;  // records whose use is not noted, and notes without a record
  bool sound() const { return damaged == 0 && misnoted == 0; }
};

// Reads the headers of all records, with `verify` every byte, and compares what is noted of them. NotFound, Corruption,
// InvalidArgument and Unavailable where the folder cannot be opened.
Result<SpanFolderReport> CheckSpanFolder(const std::string& folder, bool verify,
                                         const std::function<void(uint64_t done, uint64_t total)>& progress = {});

// A moment in the life of a folder, which is made where there is none.
Result<uint64_t> LastUse(const std::string& folder);

// Removes, in one transaction, every span that was neither written nor used since then. Returns how many.
Result<uint64_t> RemoveUnusedSince(const std::string& folder, uint64_t use);

}  // namespace spanwise

// What rounding kept KV costs: answers over documents that came back from disk through a codec, against answers over
// the same documents as they were computed.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "eval/divergence.h"
#include "eval/qa.h"

namespace spanwise::eval {

// One codec, over some records.
struct StorageScore {
  std::string codec;
  size_t n = 0;                       // prompts
  Divergence divergence;              // over the tokens of all reference answers, to the same mode without a cache
  double accuracy = 0, as_exact = 0;  // shares of the greedy answers: right, and the same to the letter
  double ttft_ms = 0;                 // median of these
  double from_disk = 0;               // share of the prompts' tokens
  double bytes_per_token = 0;         // of whole blocks, headers left out
  double encode_ms = 0;               // to round 1000 tokens of whole blocks, one thread
  double decode_ms = 0;               // to check their records and put them back, one thread
  double keys = 0, values = 0;        // relative root mean square error
};

struct StorageOptions {
  std::vector<std::string> codecs;
  ComposeOptions compose;
};

// Keeps the documents of all records in a folder for each codec, which is gone at the end, and answers from there.
// `engine` says what model in which types.
Result<std::vector<StorageScore>> MeasureStorage(const EngineOptions& engine, const std::vector<QaRecord>& records,
                                                 const StorageOptions& options,
                                                 const std::function<void(double done)>& progress);

}  // namespace spanwise::eval

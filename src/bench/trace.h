// Traces of a cache's uses: which blocks of KV each request needs. Read from files or generated.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "spanwise/status.h"

namespace spanwise::bench {

// One block of a run: some tokens, of no use without the block before it.
struct TraceBlock {
  static constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();
  uint32_t parent = kNone;
  uint32_t tokens = 0;
  uint32_t position = 0;  // tokens of its run before it
};

struct TraceRequest {
  std::vector<uint32_t> blocks;  // each once, parents before children
  uint32_t n_shared = 0;         // of them that are not of this session alone
  uint32_t session = TraceBlock::kNone;
  bool ingest = false;               // reads documents into the cache and asks nothing
  std::vector<uint32_t> candidates;  // blocks of documents that the retriever considered but did not place
};

struct Trace {
  std::string name;
  uint32_t block_tokens = 0;  // room of a block
  std::vector<TraceBlock> blocks;
  std::vector<TraceRequest> requests;

  uint64_t n_uses() const;
};

// A Mooncake trace: lines {"timestamp", "input_length", "output_length", "hash_ids"}, plain or gzip. A hash id stands
// for 512 tokens and all before them. InvalidArgument names the line, when an id has two parents or the lengths do not
// agree among others. At most max_requests lines are read.
Result<Trace> ReadTrace(const std::string& path, size_t max_requests);

struct GenerateOptions {
  size_t requests = 20'000;  // rag: besides those that ingest
  uint64_t seed = 1;
  // rag:
  uint32_t documents = 2'000;
  double zipf = 0.9;     // of the documents' popularity, for all kinds
  double drift = 0.1;    // chance of a request that a popular document changes places with another
  double ingest = 0.01;  // chance of a request that a bulk of new documents is read before it
  double turns = 3;      // of a session, in the mean
};

// By kind (docs/replacement.md says how each is made):
//   zipf         one block a request, of 256 by Zipf's law
//   drift        the same, while popularity moves
//   scan         the same as zipf, with scans of 80 blocks that never come back
//   adversarial  257 blocks in a circle
//   rag          sets of documents, sessions, bulk ingests
Result<Trace> GenerateTrace(std::string_view kind, const GenerateOptions& options);

}  // namespace spanwise::bench

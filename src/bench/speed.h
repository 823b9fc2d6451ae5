// How fast a model shape reads, writes and reuses, beside what the machine allows.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "formats/model_config.h"
#include "model/weights.h"
#include "spanwise/prompt.h"
#include "spanwise/status.h"

namespace spanwise::bench {

// One measured case: the median of its repeats, and the machine's limit for it where one is meant.
struct Row {
  std::string bench;
  json::object what;  // the case
  double value = 0;
  std::string unit;
  std::optional<double> floor;
  int repeats = 0;
  double min = 0, max = 0;
  json::object beside = {};  // further figures of the case
};

// {"bench", "case", "value", "unit", "floor", "of_floor", "repeats", "min", "max"}. of_floor is the share of the limit
// reached, for rates and times alike. What is beside the value follows.
json::object RowJson(const Row& row);

// A row of the median of `values`.
Row Summarise(std::string bench, json::object what, std::string unit, std::vector<double> values);

struct Options {
  std::shared_ptr<const ModelWeights> weights;
  std::string shape;  // for the rows
  DType kv_dtype = DType::kBf16;
  int threads = 0;
  int repeats = 3;
  int prompt_tokens = 512;  // prefill; decode's context
  int decode_tokens = 64;
  // Reuse, by `composed` beside exact; absent: set, ape, and repair of 15 % and of 16 tokens a document.
  int documents = 10, document_tokens = 512, question_tokens = 32;
  std::optional<std::vector<ComposeOptions>> composed = {};
};

// "1b" (16 layers, 2048, ffn 8192, 32/8 heads, vocabulary 32000), "8b", or LAYERSxHIDDENxFFNxHEADSxKVHEADS.
Result<ModelConfig> ParseShape(const std::string& shape);

using Report = std::function<void(const Row&)>;
Status BenchLimits(const Options& options, const Report& report);   // what the machine allows; needs no weights
Status BenchKernels(const Options& options, const Report& report);  // ms of a product or attention; floor: the least ms
Status BenchPrefill(const Options& options, const Report& report);  // tokens/s
Status BenchDecode(const Options& options,
                   const Report& report);  // tokens/s; floor: bytes read over measured bandwidth
// ms to the first logits of a new question, by composition mode: "exact" with nothing kept, the others with all that
// they keep of the documents. Beside it exact_ratio, the median over the rounds of exact's time to the mode's, and the
// bytes of KV that a request read, wrote and copied.
Status BenchReuse(const Options& options, const Report& report);

}  // namespace spanwise::bench

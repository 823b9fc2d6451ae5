// `spanwise bench cache`: replacement policies on traces.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "bench/trace.h"
#include "spanwise/status.h"

namespace spanwise::cli {

struct CacheBenchOptions {
  std::string trace, generate, plot;
  bench::GenerateOptions make;
  std::vector<std::string> capacities = {"10%"};
  std::vector<std::string> policies;  // empty: all
  std::vector<std::string> predict = {"sketch", "ingest"};
  std::optional<double> bit_error;
  size_t queue = 8;
};

void AddCacheBenchOptions(CLI::App* verb, CacheBenchOptions* options);
Status CacheBench(const CacheBenchOptions& options, bool json);

}  // namespace spanwise::cli

#include "cli/bench_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/file.h"
#include "bench/cache.h"
#include "bench/speed.h"
#include "cli/common.h"
#include "eval/plot.h"
#include "kv/evict/policy.h"

namespace spanwise::cli {
namespace {

constexpr char kOracle[] = "belady";

// "1000" blocks, or "10%" of those that the trace uses; at least one.
Result<uint64_t> ParseCapacity(const std::string& text, uint64_t used_blocks) {
  const bool share = text.ends_with('%');
  double value = 0;
  const char* end = text.data() + text.size() - (share ? 1 : 0);
  const auto [at, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || at != end || !(value > 0 && value <= (share ? 100 : 1e9)))
    return InvalidArgument(
        fmt::format("--capacity {}: expected blocks, such as 1000, or a share of the trace, such as 10%", text));
  return std::max<uint64_t>(1, static_cast<uint64_t>(share ? value / 100 * static_cast<double>(used_blocks) : value));
}

Result<bench::CacheOptions> ToCacheOptions(const CacheBenchOptions& o) {
  bench::CacheOptions options{.seed = o.make.seed, .oracle_error = o.bit_error, .queue = o.queue};
  options.sketch = options.ingest = false;
  for (const std::string& what : o.predict) {
    if (what == "sketch") {
      options.sketch = true;
    } else if (what == "ingest") {
      options.ingest = true;
    } else if (what == "sessions") {
      options.sessions = true;
    } else if (what == "candidates") {
      options.candidates = true;
    } else if (what != "none") {
      return InvalidArgument(
          fmt::format("--predict {}: unknown; use sketch, ingest, sessions, candidates or none", what));
    }
  }
  return options;
}

double Share(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

void PrintPolicy(const bench::Trace& trace, const bench::CacheOptions& options, const bench::CacheResult& result,
                 const bench::CacheResult& best, bool json) {
  if (!json) {
    Print("{:<12} {:>10} {:>9.2f} {:>14} {:>14} {:>12.3f} {:>9.2f}\n", options.policy, result.misses,
          100 * (1 - Share(result.computed_tokens, result.tokens)), result.computed_tokens, result.recomputed_tokens,
          Share(result.recomputed_tokens, best.recomputed_tokens),
          1e6 * result.seconds / static_cast<double>(result.uses));
    WriteOut();
    return;
  }
  json::object what{{"trace", trace.name},
                    {"requests", trace.requests.size()},
                    {"capacity_blocks", options.capacity_blocks},
                    {"block_tokens", trace.block_tokens},
                    {"policy", options.policy},
                    {"bits", options.oracle_error ? "oracle" : "predicted"}};
  if (options.oracle_error) {
    what["bit_error"] = *options.oracle_error;
  } else {
    what["queue"] = options.queue;
  }
  const auto value = static_cast<double>(result.recomputed_tokens);
  const auto floor = static_cast<double>(best.recomputed_tokens);
  json::object row = bench::RowJson({.bench = "cache",
                                     .what = std::move(what),
                                     .value = value,
                                     .unit = "recomputed tokens",
                                     .floor = floor,
                                     .repeats = 1,
                                     .min = value,
                                     .max = value});
  row["of_floor"] = result.recomputed_tokens == 0 ? json::value(nullptr) : json::value(floor / value);
  row["tokens"] = result.tokens;
  row["computed_tokens"] = result.computed_tokens;
  row["hit_rate"] = 1 - Share(result.computed_tokens, result.tokens);
  row["misses"] = result.misses;
  row["us_per_use"] = 1e6 * result.seconds / static_cast<double>(result.uses);
  PrintJson(row);
}

// Recomputed tokens over the error of the oracle's bits, a line a policy.
Status PlotErrors(const CacheBenchOptions& o, const bench::Trace& trace, bench::CacheOptions options,
                  const std::vector<std::string>& policies) {
  constexpr double kErrors[] = {0, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5};
  eval::Plot plot{
      .title = fmt::format("{}, {} blocks of {} tokens", trace.name, options.capacity_blocks, trace.block_tokens),
      .x_label = "share of wrong bits, %",
      .y_label = "tokens computed again, millions",
      .series = {}};
  for (const std::string& policy : policies) {
    eval::Series series{policy, {}};
    options.policy = policy;
    std::optional<bench::CacheResult> result;
    for (const double error : kErrors) {
      options.oracle_error = error;
      if (!result || UsesDiscardBits(policy)) {
        SW_ASSIGN_OR_RETURN(result, bench::SimulateCache(trace, options));
      }
      series.points.emplace_back(100 * error, 1e-6 * static_cast<double>(result->recomputed_tokens));
    }
    plot.series.push_back(std::move(series));
  }
  return WriteFileAtomic(o.plot, eval::ToSvg(plot));
}

}  // namespace

void AddCacheBenchOptions(CLI::App* verb, CacheBenchOptions* o) {
  CLI::Option* trace = verb->add_option("--trace", o->trace, "Trace of cache: Mooncake lines, plain or gzip");
  verb->add_option("--generate", o->generate, "Trace of cache: zipf, drift, scan, adversarial or rag")->excludes(trace);
  verb->add_option("--capacity", o->capacities, "Blocks that the cache holds, or N% of those the trace uses")
      ->delimiter(',')
      ->capture_default_str();
  verb->add_option("--policies", o->policies, "Replacement policies (default: all)")->delimiter(',');
  verb->add_option("--bit-error", o->bit_error, "Discard bits from the oracle, so many of them wrong")
      ->check(CLI::Range(0.0, 1.0));
  verb->add_option("--predict", o->predict, "Else discard bits from: sketch, ingest, sessions, candidates, none")
      ->delimiter(',')
      ->capture_default_str();
  verb->add_option("--queue", o->queue, "Waiting requests whose blocks are known")
      ->check(CLI::Range(0, 100000))
      ->capture_default_str();
  verb->add_option("--plot", o->plot, "Writes recomputed tokens over the share of wrong bits, an SVG");
  verb->add_option("--trace-requests", o->make.requests, "Requests of a trace")
      ->check(CLI::Range(1, 10'000'000))
      ->capture_default_str();
  verb->add_option("--trace-seed", o->make.seed, "Seed of a generated trace and of the policies")
      ->capture_default_str();
  verb->add_option("--trace-documents", o->make.documents, "Documents of rag at the start")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  verb->add_option("--zipf", o->make.zipf, "Exponent of popularity")
      ->check(CLI::Range(0.0, 5.0))
      ->capture_default_str();
  verb->add_option("--drift", o->make.drift, "Chance of a request that popularity moves")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  verb->add_option("--ingest", o->make.ingest, "Chance of a request of rag that 50 to 200 documents are read before it")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  verb->add_option("--turns", o->make.turns, "Turns of a session of rag, in the mean")
      ->check(CLI::Range(1.0, 1000.0))
      ->capture_default_str();
}

Status CacheBench(const CacheBenchOptions& o, bool json) {
  if (o.trace.empty() == o.generate.empty()) return InvalidArgument("bench cache: give --trace or --generate");
  SW_ASSIGN_OR_RETURN(const bench::Trace trace, o.trace.empty() ? bench::GenerateTrace(o.generate, o.make)
                                                                : bench::ReadTrace(o.trace, o.make.requests));
  SW_ASSIGN_OR_RETURN(bench::CacheOptions options, ToCacheOptions(o));
  std::vector<std::string> policies = o.policies;
  if (policies.empty())
    for (const std::string_view name : EvictionPolicyNames()) policies.emplace_back(name);
  // The oracle last, as the limit of the others.
  std::erase(policies, kOracle);
  policies.emplace_back(kOracle);

  const uint64_t used = bench::UsedBlocks(trace);
  for (const std::string& text : o.capacities) {
    SW_ASSIGN_OR_RETURN(options.capacity_blocks, ParseCapacity(text, used));
    options.policy = kOracle;
    SW_ASSIGN_OR_RETURN(const bench::CacheResult best, bench::SimulateCache(trace, options));
    if (!json) {
      Print("{}: {} requests, {} tokens in {} blocks of {} at most; room for {} blocks\n", trace.name,
            trace.requests.size(), best.tokens, used, trace.block_tokens, options.capacity_blocks);
      Print("{:<12} {:>10} {:>9} {:>14} {:>14} {:>12} {:>9}\n", "policy", "misses", "hits, %", "computed", "recomputed",
            "of belady's", "us a use");
    }
    for (const std::string& policy : policies) {
      options.policy = policy;
      SW_ASSIGN_OR_RETURN(const bench::CacheResult result, bench::SimulateCache(trace, options));
      PrintPolicy(trace, options, result, best, json);
      SW_RETURN_IF_ERROR(Flush());
    }
    if (!o.plot.empty() && &text == &o.capacities.front()) SW_RETURN_IF_ERROR(PlotErrors(o, trace, options, policies));
  }
  return {};
}

}  // namespace spanwise::cli

// What the measuring verbs share: which question records are used, and which ways of composing are compared.
#pragma once

#include "cli/common.h"
#include "eval/qa.h"

namespace spanwise::cli {

struct RecordOptions {
  std::vector<std::string> data, kinds, except;
  size_t skip = 0, limit = 0;
  std::string shard = {};  // "I/N"; empty: all
};

void AddRecordOptions(CLI::App* app, RecordOptions* options);  // --data --kind --except --limit --skip --shard
// The records of the kinds asked for, `limit` of each kind after `skip`, of those every N-th. NotFound where none is
// left.
Result<std::vector<eval::QaRecord>> LoadRecords(const RecordOptions& options);

struct ModeOptions {
  std::vector<std::string> modes, repair_policies;
  std::vector<double> repair_fractions, repair_thresholds;
};

void AddModeOptions(CLI::App* app,
                    ModeOptions* options);  // --modes --repair-fractions --repair-policies --repair-thresholds
// One for each mode, of repair one for each fraction, policy and threshold.
Result<std::vector<ComposeOptions>> ToModes(const ModeOptions& options);

// {"eval": eval, "metric": metric, "case": ..., "value": value, "n": n} on one line of standard output.
void PrintFigure(std::string_view eval, std::string_view metric, const json::object& of, double value, size_t n);

}  // namespace spanwise::cli

// What a request is made of, and what it reports about how its prompt was composed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "spanwise/status.h"

namespace spanwise {

struct Message {
  std::string role;  // system, user, assistant
  std::string content;
  std::optional<std::string> cache_salt = {};  // see Document
};

struct Document {
  std::string id;     // the caller's; unique in a request. Empty: the place in the list, from 1
  std::string title;  // may be empty
  std::string text;
  std::optional<double> score = {};  // relevance to the question, higher is better; orders by relevance need it
  // KV of the text, and all KV that has seen it, is found only by who gives the same salt with it. Empty: by everybody.
  // Absent: Request::cache_salt.
  static constexpr size_t kMostSaltBytes = 1024;
  std::optional<std::string> cache_salt = {};
};

// How documents' KV enter the context, and so how far the answer may differ from reading one flat prompt.
enum class ComposeMode {
  kExact,   // one flat causal prompt; only common beginnings are reused
  kSet,     // documents do not see each other and share one base: any order gives the same bits
  kApe,     // kSet with a temperature and a scale on the documents
  kRepair,  // kept documents in sequence, some tokens recomputed in place
};

// How a set of documents is arranged before it is composed.
enum class DocumentOrder {
  kGiven,
  kCanonical,  // by content, so that equal sets make equal prompts
  kRelevance,  // by score, the best first
  kSides,      // by score from both ends inwards: the best first, the second last
  kSearch,     // some are tried, and the one kept under which the question, or a draft of the answer, is most likely
  kCached,     // so that as much as possible of the flat prompt is found kept
  kRepeat,     // as given, and all of it once more, so that each document is read after all others
};

std::string_view ComposeModeName(ComposeMode mode);
std::string_view DocumentOrderName(DocumentOrder order);
// InvalidArgument listing the names there are.
Result<ComposeMode> ParseComposeMode(std::string_view name);
Result<DocumentOrder> ParseDocumentOrder(std::string_view name);

struct ComposeOptions {
  ComposeMode mode = ComposeMode::kExact;
  DocumentOrder order = DocumentOrder::kGiven;
  // Of mode kApe: scores of the documents' keys are divided by the temperature, and the log-sum-exp of their union is
  // multiplied by temperature x scale (APE, specs/composition.md section 2). 1 and 1 is kSet, to the bit.
  // Absent: what the model's calibration found best, else the values below.
  std::optional<double> documents_temperature = {};  // 0.01 to 100
  std::optional<double> documents_scale = {};        // 0 to 100
  static constexpr double kDocumentsTemperature = 0.9, kDocumentsScale = 0.9;
  double repair_fraction = 0.15;          // of kRepair: how much of the kept documents is recomputed
  std::string repair_policy = "focused";  // of kRepair: which tokens
  // Of kRepair with a fraction below 1: a set's documents stay as they were kept unless the values of some recomputed
  // token, besides the first two of a document, changed by more than this: the mean over layers of
  // |new - kept|^2 / |kept|^2. Absent: what the model's calibration found best, else 0.
  std::optional<double> repair_threshold = {};  // 0 (repairs always) or more
  // Of kSearch: how many orders are tried at most, and the draft whose likelihood as the answer decides; empty: the
  // likelihood of the text behind the documents does.
  static constexpr int kMostTrials = 1000;
  int search_trials = 16;
  std::string search_draft = {};
  bool force = false;  // composes even where the model's calibration found the mode too far from exact
};

// Where the KV of a piece of the prompt came from.
enum class KvSource { kComputed, kRam, kDisk, kRemote };
std::string_view KvSourceName(KvSource source);  // "computed", "ram", "disk", "remote"

// What happened to one piece of the prompt. A piece partly found and partly computed counts as computed, one found in
// several places as from the farthest.
struct PieceReport {
  std::string document;  // empty for text around the documents
  int tokens = 0;
  int cached_tokens = 0;
  KvSource source = KvSource::kComputed;
};

// How an order was searched for.
struct SearchReport {
  int trials = 0;
  int tokens = 0;     // computed for them
  double given = 0;   // logarithm of the likelihood that decides, under the order given
  double chosen = 0;  // and under the one chosen
};

struct ComposeReport {
  ComposeMode mode = ComposeMode::kExact;
  DocumentOrder order = DocumentOrder::kGiven;
  // "causal-exact": equals reading the flat prompt. "set-exact": equals the same model under the set's visibility and
  // positions, the same for every order of its members. "approximate": kept KV may have been used that a codec rounded.
  std::string exactness;
  std::string kv_codec = "none";   // that codec
  std::vector<PieceReport> spans;  // in the order of the prompt
  int repaired_tokens = 0;         // recomputed in place, and kept
  // The largest change, which decided whether they were kept; absent where that was not in question: with a threshold
  // of 0, where all or nothing is recomputed, and where the repaired documents were found.
  std::optional<double> repair_change = {};
  // The mode and its parameters were measured on this model and came close enough to the flat prompt, or are the flat
  // prompt. Says nothing of kv_codec.
  bool calibrated = false;
  std::optional<SearchReport> search = {};  // of kSearch
};

}  // namespace spanwise

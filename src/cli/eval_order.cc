
#include <map>

#include "base/str.h"
#include "cli/evals.h"
#include "cli/records.h"
#include "engine/calibration.h"
#include "eval/order.h"
#include "prompt/order/order.h"

namespace spanwise::cli {
namespace {

struct Options {
  CommonOptions common;
  RecordOptions records;
  ModeOptions modes;
  std::vector<std::string> orders = {"given", "canonical", "relevance", "sides", "search", "repeat"};
  eval::OrderOptions order;
  std::string by = "mode";
};

// Every mode in every order that it has.
Result<std::vector<ComposeOptions>> ToWays(const Options& o) {
  SW_ASSIGN_OR_RETURN(std::vector<ComposeOptions> modes, ToModes(o.modes));
  if (o.modes.modes.empty() || std::ranges::find(o.modes.modes, "exact") != o.modes.modes.end())
    modes.insert(modes.begin(), ComposeOptions());
  std::vector<ComposeOptions> ways;
  for (ComposeOptions mode : modes)
    for (const std::string& name : o.orders) {
      SW_ASSIGN_OR_RETURN(mode.order, ParseDocumentOrder(name));
      PromptNode none;
      const Status fits = ArrangeSets(mode, &none);
      if (fits.code() == StatusCode::kInvalidArgument) continue;  // this mode's documents have no such order
      SW_RETURN_IF_ERROR(fits);
      ways.push_back(mode);
    }
  if (ways.empty()) return InvalidArgument("none of these modes has any of these orders");
  return ways;
}

std::string PlaceName(const std::optional<double>& place) { return place ? StrFormat("{:.3g}", *place) : "any"; }

struct Share {
  int n = 0, right = 0;
  double value() const { return static_cast<double>(right) / n; }
};

Status EvalOrder(Options o) {
  SW_ASSIGN_OR_RETURN(const auto records, LoadRecords(o.records));
  SW_ASSIGN_OR_RETURN(o.order.ways, ToWays(o));
  SW_ASSIGN_OR_RETURN(const auto engine, OpenEngine(o.common));
  Progress progress("answering", o.common.quiet);
  SW_ASSIGN_OR_RETURN(const auto samples, eval::MeasureOrders(*engine, records, o.order, [&](size_t done) {
                        progress.Update(static_cast<double>(done), static_cast<double>(records.size()));
                      }));
  std::map<std::string, std::map<size_t, std::map<std::optional<double>, Share>>> table;
  for (const eval::OrderSample& s : samples) {
    Share& share = table[o.by == "kind" ? s.kind : "all"][s.way][s.place];
    ++share.n;
    share.right += s.right;
  }
  std::vector<std::optional<double>> columns = {std::nullopt};
  columns.insert(columns.end(), o.order.places.begin(), o.order.places.end());
  if (!o.common.json) {
    Print("{:<40} {:<10} {:<12} {:>5}", "mode", "order", "kind", "n");
    for (const auto& place : columns) Print(" {:>6}", PlaceName(place));
    Print("\n");
  }
  for (const auto& [kind, ways] : table)
    for (const auto& [way, places] : ways) {
      const ComposeOptions& compose = o.order.ways[way];
      if (!o.common.json)
        Print("{:<40} {:<10} {:<12} {:>5}", CompositionName(compose), DocumentOrderName(compose.order), kind,
              places.begin()->second.n);
      for (const auto& place : columns) {
        const auto it = places.find(place);
        if (!o.common.json) {
          Print(" {:>6}", it == places.end() ? "" : StrFormat("{:.1f}", 100 * it->second.value()));
        } else if (it != places.end()) {
          json::object of{{"mode", CompositionName(compose)},
                          {"order", json::string(DocumentOrderName(compose.order))}};
          if (o.by == "kind") of["kind"] = kind;
          if (place) of["place"] = *place;
          PrintFigure("order", "accuracy", of, it->second.value(), static_cast<size_t>(it->second.n));
        }
      }
      if (!o.common.json) Print("\n");
    }
  return Status::Ok();
}

}  // namespace

Verb EvalOrderVerb(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("order", "How often answers are right, by order and place of the documents");
  AddRecordOptions(verb, &o->records);
  verb->get_option("--data")->required();
  AddModeOptions(verb, &o->modes);
  verb->add_option("--orders", o->orders, "Orders of the documents, separated by commas")
      ->delimiter(',')
      ->capture_default_str();
  verb->add_option("--places", o->order.places,
                   "Where the documents that the answer cites are put, 0 first to 1 last; several, separated by commas "
                   "(default: where the record has them)")
      ->delimiter(',')
      ->check(CLI::Range(0.0, 1.0));
  verb->add_option("--documents", o->order.documents, "Cut each prompt to so many documents, cited ones first")
      ->check(CLI::Range(1, 100000));
  verb->add_option("--by", o->by, "Group by kind or mode alone")
      ->check(CLI::IsMember({"kind", "mode"}))
      ->capture_default_str();
  AddModelOptions(verb, &o->common);
  AddOutputOptions(verb, &o->common);
  return {verb, [o] {
            const Status status = EvalOrder(*o);
            return status.ok() ? kDone : Fail(status);
          }};
}

}  // namespace spanwise::cli

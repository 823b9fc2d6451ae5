#include <array>
#include <utility>

#include "base/str.h"
#include "spanwise/prompt.h"

namespace spanwise {
namespace {

constexpr std::array<std::pair<ComposeMode, std::string_view>, 4> kModes = {{{ComposeMode::kExact, "exact"},
                                                                             {ComposeMode::kSet, "set"},
                                                                             {ComposeMode::kApe, "ape"},
                                                                             {ComposeMode::kRepair, "repair"}}};
constexpr std::array<std::pair<DocumentOrder, std::string_view>, 7> kOrders = {
    {{DocumentOrder::kGiven, "given"},
     {DocumentOrder::kCanonical, "canonical"},
     {DocumentOrder::kRelevance, "relevance"},
     {DocumentOrder::kSides, "sides"},
     {DocumentOrder::kSearch, "search"},
     {DocumentOrder::kRepeat, "repeat"},
     {DocumentOrder::kCached, "cached"}}};

template <typename Table, typename Value>
std::string_view NameOf(const Table& table, Value value) {
  for (const auto& [v, name] : table)
    if (v == value) return name;
  return "?";
}

template <typename Value, typename Table>
Result<Value> ValueOf(const Table& table, std::string_view what, std::string_view name) {
  std::string names;
  for (const auto& [v, n] : table) {
    if (n == name) return v;
    names += (names.empty() ? "" : ", ") + std::string(n);
  }
  return InvalidArgument(StrFormat("{} {} is not one of {}", what, Quoted(name), names));
}

}  // namespace

std::string_view ComposeModeName(ComposeMode mode) { return NameOf(kModes, mode); }
std::string_view DocumentOrderName(DocumentOrder order) { return NameOf(kOrders, order); }
Result<ComposeMode> ParseComposeMode(std::string_view name) {
  return ValueOf<ComposeMode>(kModes, "compose mode", name);
}
Result<DocumentOrder> ParseDocumentOrder(std::string_view name) {
  return ValueOf<DocumentOrder>(kOrders, "order", name);
}
std::string_view KvSourceName(KvSource source) {
  switch (source) {
    case KvSource::kComputed:
      return "computed";
    case KvSource::kRam:
      return "ram";
    case KvSource::kDisk:
      return "disk";
    case KvSource::kRemote:
      return "remote";
  }
  return "?";
}

}  // namespace spanwise

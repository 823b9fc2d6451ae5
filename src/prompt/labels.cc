#include "prompt/labels.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "base/hash.h"

namespace spanwise {
namespace {

constexpr int kLabels = 999;

// The number that `id` is, or 0.
int OwnNumber(const std::string& id) {
  if (id.empty() || id.size() > 3 || id[0] == '0') return 0;
  int n = 0;
  for (const char c : id) {
    if (c < '0' || c > '9') return 0;
    n = 10 * n + (c - '0');
  }
  return n;
}

}  // namespace

std::vector<std::string> AssignLabels(const std::vector<Document>& documents) {
  std::vector<size_t> by_id(documents.size());
  std::iota(by_id.begin(), by_id.end(), size_t{0});
  std::ranges::sort(by_id, {}, [&](size_t i) -> const std::string& { return documents[i].id; });
  std::vector<std::string> labels(documents.size());
  std::set<int> taken;
  for (const size_t i : by_id)
    if (const int n = OwnNumber(documents[i].id); n > 0 && taken.insert(n).second) labels[i] = std::to_string(n);
  for (const size_t i : by_id) {
    if (!labels[i].empty()) continue;
    int n = static_cast<int>(Xxh3(documents[i].id) % kLabels) + 1;
    if (taken.size() < kLabels) {
      while (taken.contains(n)) n = n % kLabels + 1;
    } else {
      n = kLabels + 1;
      while (taken.contains(n)) ++n;
    }
    taken.insert(n);
    labels[i] = std::to_string(n);
  }
  return labels;
}

}  // namespace spanwise

#include "prompt/labels.h"

#include <algorithm>
#include <compare>
#include <cstring>
#include <map>
#include <set>
#include <string_view>
#include <utility>

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

// A document as far as its label depends on it.
struct Said {
  bool is_private = false;
  uint64_t hash = 0;
  std::string_view title, text;
  auto operator<=>(const Said&) const = default;
};

Said SaidBy(const Document& document, const std::string& salt) {
  const Hash256 hash = Hasher().Field(document.title).Field(document.text).Finish();
  Said said{!document.cache_salt.value_or(salt).empty(), 0, document.title, document.text};
  std::memcpy(&said.hash, hash.bytes.data(), sizeof said.hash);
  return said;
}

}  // namespace

std::vector<std::string> AssignLabels(const std::vector<Document>& documents, const std::string& salt) {
  std::vector<std::string> labels(documents.size());
  std::set<int> taken;
  std::vector<std::pair<Said, size_t>> others;
  for (size_t i = 0; i < documents.size(); ++i) {
    if (const int n = OwnNumber(documents[i].id); n > 0 && taken.insert(n).second) {
      labels[i] = std::to_string(n);
    } else {
      others.emplace_back(SaidBy(documents[i], salt), i);
    }
  }
  std::ranges::sort(others);
  std::map<std::pair<std::string_view, std::string_view>, int> label_of;
  for (const auto& [said, i] : others) {
    const auto [label, is_new] = label_of.emplace(std::pair(said.title, said.text), 0);
    if (is_new) {
      int n = static_cast<int>(said.hash % kLabels) + 1;
      if (taken.size() < kLabels) {
        while (taken.contains(n)) n = n % kLabels + 1;
      } else {
        n = kLabels + 1;
        while (taken.contains(n)) ++n;
      }
      taken.insert(n);
      label->second = n;
    }
    labels[i] = std::to_string(label->second);
  }
  return labels;
}

void NameDocuments(std::vector<Document>* documents) {
  for (size_t i = 0; i < documents->size(); ++i)
    if ((*documents)[i].id.empty()) (*documents)[i].id = std::to_string(i + 1);
}

}  // namespace spanwise

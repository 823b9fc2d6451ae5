#include "tokenizer/bpe.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <random>

namespace spanwise {
namespace {

// Up to here a linear search for the best pair beats the heap.
constexpr size_t kShort = 32;

}  // namespace

void MergeTable::Build(const std::vector<Merge>& merges) {
  // The seed keeps a crafted file from making every key collide; results do not depend on it.
  std::random_device device;
  seed_ = static_cast<uint64_t>(device()) << 32 | device();
  const size_t size = std::bit_ceil(std::max<size_t>(merges.size() * 2, 16));
  entries_.assign(size, Entry());
  mask_ = size - 1;
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const Merge& merge = merges[rank];
    const uint64_t key =
        static_cast<uint64_t>(static_cast<uint32_t>(merge.left)) << 32 | static_cast<uint32_t>(merge.right);
    size_t i = Slot(key);
    while (entries_[i].key != kEmpty && entries_[i].key != key) i = (i + 1) & mask_;
    entries_[i] = {key, {static_cast<uint32_t>(rank), merge.result}};
  }
}

void Merger::Run(const MergeTable& table, std::vector<int32_t>* symbols) {
  if (symbols->size() < 2) return;
  if (symbols->size() <= kShort) return RunShort(table, symbols);
  RunLong(table, symbols);
}

void Merger::RunShort(const MergeTable& table, std::vector<int32_t>* symbols) {
  std::vector<int32_t>& ids = *symbols;
  pairs_.resize(ids.size() - 1);
  for (size_t i = 0; i + 1 < ids.size(); ++i) pairs_[i] = table.Find(ids[i], ids[i + 1]);
  while (!pairs_.empty()) {
    size_t best = 0;
    for (size_t i = 1; i < pairs_.size(); ++i)
      if (pairs_[i].rank < pairs_[best].rank) best = i;
    if (pairs_[best].rank == MergeTable::kNoRank) return;
    ids[best] = pairs_[best].result;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    pairs_.erase(pairs_.begin() + static_cast<std::ptrdiff_t>(best));
    if (best < pairs_.size()) pairs_[best] = table.Find(ids[best], ids[best + 1]);
    if (best > 0) pairs_[best - 1] = table.Find(ids[best - 1], ids[best]);
  }
}

void Merger::RunLong(const MergeTable& table, std::vector<int32_t>* symbols) {
  std::vector<int32_t>& ids = *symbols;
  const auto n = static_cast<int32_t>(ids.size());
  const auto worse = [](const Candidate& a, const Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.at > b.at;
  };
  nodes_.assign(ids.size(), Node());
  heap_.clear();
  const auto node = [&](int32_t i) -> Node& { return nodes_[static_cast<size_t>(i)]; };
  const auto id = [&](int32_t i) -> int32_t& { return ids[static_cast<size_t>(i)]; };
  for (int32_t i = 0; i < n; ++i) {
    node(i).previous = i - 1;
    node(i).next = i + 1 < n ? i + 1 : -1;
    if (i + 1 == n) break;
    node(i).merge = table.Find(id(i), id(i + 1));
    if (node(i).merge.rank != MergeTable::kNoRank) heap_.push_back({node(i).merge.rank, i});
  }
  std::make_heap(heap_.begin(), heap_.end(), worse);
  const auto renew = [&](int32_t i) {
    Node& left = node(i);
    left.merge = left.next < 0 ? MergeTable::Found() : table.Find(id(i), id(left.next));
    if (left.merge.rank == MergeTable::kNoRank) return;
    heap_.push_back({left.merge.rank, i});
    std::push_heap(heap_.begin(), heap_.end(), worse);
  };
  while (!heap_.empty()) {
    const Candidate best = heap_.front();
    std::pop_heap(heap_.begin(), heap_.end(), worse);
    heap_.pop_back();
    Node& left = node(best.at);
    if (left.merge.rank != best.rank) continue;  // one of the two has merged since
    const int32_t gone = left.next;
    id(best.at) = left.merge.result;
    id(gone) = -1;
    node(gone).merge = {};
    left.next = node(gone).next;
    if (left.next >= 0) node(left.next).previous = best.at;
    renew(best.at);
    if (left.previous >= 0) renew(left.previous);
  }
  std::erase(ids, -1);
}

}  // namespace spanwise

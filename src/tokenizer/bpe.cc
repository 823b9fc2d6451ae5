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
  for (const Merge& merge : merges) {
    const uint64_t key =
        static_cast<uint64_t>(static_cast<uint32_t>(merge.left)) << 32 | static_cast<uint32_t>(merge.right);
    size_t i = Slot(key);
    while (entries_[i].key != kEmpty && entries_[i].key != key) i = (i + 1) & mask_;
    entries_[i] = {key, {merge.rank, merge.result}};
  }
}

void Merger::Run(const MergeTable& table, std::vector<Symbol>* symbols) {
  if (symbols->size() < 2) return;
  if (symbols->size() <= kShort) return RunShort(table, symbols);
  RunLong(table, symbols);
}

void Merger::RunShort(const MergeTable& table, std::vector<Symbol>* symbols) {
  std::vector<Symbol>& all = *symbols;
  const auto find = [&](size_t i) { return table.Find(all[i].id, all[i + 1].id); };
  pairs_.resize(all.size() - 1);
  for (size_t i = 0; i + 1 < all.size(); ++i) pairs_[i] = find(i);
  while (!pairs_.empty()) {
    size_t best = 0;
    for (size_t i = 1; i < pairs_.size(); ++i)
      if (pairs_[i].rank < pairs_[best].rank) best = i;
    if (pairs_[best].rank == MergeTable::kNoRank) return;
    all[best] = {pairs_[best].result, all[best].bytes + all[best + 1].bytes};
    all.erase(all.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    pairs_.erase(pairs_.begin() + static_cast<std::ptrdiff_t>(best));
    if (best < pairs_.size()) pairs_[best] = find(best);
    if (best > 0) pairs_[best - 1] = find(best - 1);
  }
}

void Merger::RunLong(const MergeTable& table, std::vector<Symbol>* symbols) {
  std::vector<Symbol>& all = *symbols;
  const auto n = static_cast<int32_t>(all.size());
  const auto worse = [](const Candidate& a, const Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.at > b.at;
  };
  nodes_.assign(all.size(), Node());
  heap_.clear();
  const auto node = [&](int32_t i) -> Node& { return nodes_[static_cast<size_t>(i)]; };
  const auto symbol = [&](int32_t i) -> Symbol& { return all[static_cast<size_t>(i)]; };
  const auto find = [&](int32_t i, int32_t next) { return table.Find(symbol(i).id, symbol(next).id); };
  for (int32_t i = 0; i < n; ++i) {
    node(i).previous = i - 1;
    node(i).next = i + 1 < n ? i + 1 : -1;
    if (i + 1 == n) break;
    node(i).merge = find(i, i + 1);
    if (node(i).merge.rank != MergeTable::kNoRank) heap_.push_back({node(i).merge.rank, i});
  }
  std::make_heap(heap_.begin(), heap_.end(), worse);
  const auto renew = [&](int32_t i) {
    Node& left = node(i);
    left.merge = left.next < 0 ? MergeTable::Found() : find(i, left.next);
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
    symbol(best.at) = {left.merge.result, symbol(best.at).bytes + symbol(gone).bytes};
    symbol(gone).id = -1;
    node(gone).merge = {};
    left.next = node(gone).next;
    if (left.next >= 0) node(left.next).previous = best.at;
    renew(best.at);
    if (left.previous >= 0) renew(left.previous);
  }
  std::erase_if(all, [](const Symbol& s) { return s.id < 0; });
}

}  // namespace spanwise

#include "kv/span.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <iterator>
#include <limits>

#include "base/check.h"

namespace spanwise {
namespace {

// Memory is taken in pieces of many blocks, so that the system can back it with huge pages: those cost a fifth of what
// small ones do when they are first written.
constexpr size_t kHugePageBytes = size_t{2} << 20;
constexpr size_t kChunkBytes = 16 * kHugePageBytes;

size_t RoundUp(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

}  // namespace

SpanKey RootKey(const Hash256& model, std::string_view method, const SpanKey& context) {
  return Hasher().Field("spanwise run 2").Field(model).Field(method).Field(context).Finish();
}

SpanKey ChildKey(const SpanKey& parent, std::span<const int32_t> tokens) {
  SW_DCHECK(!tokens.empty() && tokens.size() <= kKvBlockTokens);
  Hasher hasher;
  hasher.Field(parent).Field(tokens.size());
  for (const int32_t token : tokens) hasher.Field(static_cast<uint64_t>(token));
  return hasher.Finish();
}

Salts SaltsFrom(const std::string& salt) { return salt.empty() ? Salts() : Salts{Sha256(salt).Hex()}; }

Salts Joined(const Salts& salts) {
  if (salts.size() < 2) return salts;
  Hasher hasher;
  for (const std::string& salt : salts) hasher.Field(salt);
  return {hasher.Finish().Hex()};
}

void RunAddress::AddSalts(int from, const Salts& more) {
  Salts fresh = more;
  for (const Salted& known : salted)
    std::erase_if(fresh, [&](const std::string& salt) { return known.salts.contains(salt); });
  if (fresh.empty()) return;
  SW_DCHECK(salted.empty() || salted.back().from <= from);
  if (salted.empty() || salted.back().from < from) salted.push_back({from, {}});
  salted.back().salts.merge(fresh);
}

SpanKey RunAddress::ParentOf(int first, const SpanKey& before) const {
  Salts salts;
  for (const Salted& known : salted)
    if (known.from >= first && known.from < first + kKvBlockTokens)
      salts.insert(known.salts.begin(), known.salts.end());
  if (salts.empty()) return before;
  Hasher hasher;
  hasher.Field("spanwise salts").Field(before);
  for (const std::string& salt : salts) hasher.Field(salt);
  return hasher.Finish();
}

RunAddress RunAddress::Behind(int n, const SpanKey& key) const {
  RunAddress behind = *this;
  behind.root = key;
  for (Salted& known : behind.salted) known.from -= n;
  return behind;
}

int RunAddress::CommonTokens(const RunAddress& other) const {
  if (root != other.root) return 0;
  const auto [mine, its] = std::ranges::mismatch(salted, other.salted);
  int first = std::numeric_limits<int>::max();
  if (mine != salted.end()) first = mine->from;
  if (its != other.salted.end()) first = std::min(first, its->from);
  return first == std::numeric_limits<int>::max() ? first : std::max(0, first) / kKvBlockTokens * kKvBlockTokens;
}

SpanKey RunKey(const RunAddress& address, std::span<const int32_t> tokens) {
  SpanKey key = address.root;
  for (int first = 0; !tokens.empty(); first += kKvBlockTokens) {
    const auto block = tokens.first(std::min<size_t>(tokens.size(), kKvBlockTokens));
    key = ChildKey(address.ParentOf(first, key), block);
    tokens = tokens.subspan(block.size());
  }
  return key;
}

KvBlock::~KvBlock() {
  if (pool_) pool_->Release(writable_, rows_);
}

std::shared_ptr<const KvBlock> KvBlock::Mapped(std::shared_ptr<const std::byte> data, int rows) {
  SW_DCHECK(reinterpret_cast<uintptr_t>(data.get()) % kAlignment == 0);
  return std::shared_ptr<const KvBlock>(new KvBlock(std::move(data), rows));
}

BlockPool::BlockPool(const KvGeometry& geometry, size_t budget_bytes)
    : geometry_(geometry), n_budget_(budget_bytes / geometry.BlockBytes()) {
  if (n_budget_ > 0) AddChunk();
}

BlockPool::~BlockPool() {
  for (const auto& [chunk, n_blocks] : chunks_) std::free(chunk);
}

bool BlockPool::AddChunk() {
  const size_t stride = geometry_.BlockBytes();
  SW_CHECK(geometry_.BlockBytes(kCutRows.back()) % KvBlock::kAlignment == 0);
  const size_t n = std::min(n_budget_ - n_in_use_, std::max<size_t>(1, kChunkBytes / stride));
  const size_t alignment = n * stride < kHugePageBytes ? KvBlock::kAlignment : kHugePageBytes;
  const size_t bytes = RoundUp(n * stride, alignment);
  auto* const chunk = static_cast<std::byte*>(std::aligned_alloc(alignment, bytes));
  if (!chunk) return false;
  if (alignment == kHugePageBytes) {  // where the system does not know these, it is slower, no more
    madvise(chunk, bytes, MADV_HUGEPAGE);
    // The first request should not have to wait until memory is cleared for it.
    if (chunks_.empty()) madvise(chunk, bytes, MADV_POPULATE_WRITE);
  }
  chunks_.emplace(chunk, n);
  for (size_t i = n; i > 0; --i) free_.push_back(chunk + (i - 1) * stride);
  return true;
}

std::byte* BlockPool::Take(size_t level) {
  if (level == 0) {
    if (n_in_use_ >= n_budget_ || (free_.empty() && !AddChunk())) return nullptr;
    ++n_in_use_;
    std::byte* const data = free_.back();
    free_.pop_back();
    return data;
  }
  std::set<std::byte*>& pieces = cut_[level - 1];
  if (!pieces.empty()) return pieces.extract(pieces.begin()).value();
  std::byte* const data = Take(level - 1);
  if (data) pieces.insert(data + geometry_.BlockBytes(kKvBlockTokens >> level));
  return data;
}

std::shared_ptr<KvBlock> BlockPool::Allocate(int rows) {
  const auto level = static_cast<size_t>(std::countr_zero(static_cast<unsigned>(kKvBlockTokens / rows)));
  SW_DCHECK(level <= kCutRows.size() && kKvBlockTokens >> level == rows);
  std::byte* const data = Take(level);
  return data ? std::make_shared<KvBlock>(shared_from_this(), data, rows) : nullptr;
}

void BlockPool::Release(std::byte* data, int rows) {
#ifndef NDEBUG
  std::fill_n(data, geometry_.BlockBytes(rows), std::byte{0xFF});  // NaN: whoever still reads this shows it
#endif
  auto level = static_cast<size_t>(std::countr_zero(static_cast<unsigned>(kKvBlockTokens / rows)));
  for (; level > 0; --level) {
    const size_t bytes = geometry_.BlockBytes(kKvBlockTokens >> level);
    const auto offset = static_cast<size_t>(data - std::prev(chunks_.upper_bound(data))->first);
    const bool second = offset / bytes % 2 != 0;  // blocks stand side by side: their sizes are multiples of kAlignment
    std::byte* const other = second ? data - bytes : data + bytes;
    if (cut_[level - 1].erase(other) == 0) {
      cut_[level - 1].insert(data);
      return;
    }
    data = std::min(data, other);
  }
  free_.push_back(data);
  --n_in_use_;
}

}  // namespace spanwise

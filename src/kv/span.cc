#include "kv/span.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>

#include "base/check.h"

namespace spanwise {
namespace {

// Memory is taken in pieces of many blocks, so that the system can back it with huge pages: those cost a fifth of what
// small ones do when they are first written.
constexpr size_t kHugePageBytes = size_t{2} << 20;
constexpr size_t kChunkBytes = 16 * kHugePageBytes;

size_t RoundUp(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

}  // namespace

SpanKey RootKey(const Hash256& model, std::string_view method, const SpanKey& context, std::string_view salt) {
  return Hasher().Field("spanwise run 1").Field(model).Field(method).Field(context).Field(salt).Finish();
}

SpanKey ChildKey(const SpanKey& parent, std::span<const int32_t> tokens) {
  SW_DCHECK(!tokens.empty() && tokens.size() <= kKvBlockTokens);
  Hasher hasher;
  hasher.Field(parent).Field(tokens.size());
  for (const int32_t token : tokens) hasher.Field(static_cast<uint64_t>(token));
  return hasher.Finish();
}

SpanKey RunKey(const SpanKey& root, std::span<const int32_t> tokens) {
  SpanKey key = root;
  for (; !tokens.empty(); tokens = tokens.subspan(std::min<size_t>(tokens.size(), kKvBlockTokens)))
    key = ChildKey(key, tokens.first(std::min<size_t>(tokens.size(), kKvBlockTokens)));
  return key;
}

KvBlock::~KvBlock() {
  if (pool_) pool_->Release(writable_);
}

std::shared_ptr<const KvBlock> KvBlock::Mapped(std::shared_ptr<const std::byte> data) {
  SW_DCHECK(reinterpret_cast<uintptr_t>(data.get()) % kAlignment == 0);
  return std::shared_ptr<const KvBlock>(new KvBlock(std::move(data)));
}

BlockPool::BlockPool(const KvGeometry& geometry, size_t budget_bytes)
    : geometry_(geometry), n_budget_(budget_bytes / geometry.BlockBytes()) {
  if (n_budget_ > 0) AddChunk();
}

BlockPool::~BlockPool() {
  for (std::byte* chunk : chunks_) std::free(chunk);
}

bool BlockPool::AddChunk() {
  const size_t stride = RoundUp(geometry_.BlockBytes(), KvBlock::kAlignment);
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
  chunks_.push_back(chunk);
  for (size_t i = n; i > 0; --i) free_.push_back(chunk + (i - 1) * stride);
  return true;
}

std::shared_ptr<KvBlock> BlockPool::Allocate() {
  if (n_in_use_ >= n_budget_) return nullptr;
  if (free_.empty() && !AddChunk()) return nullptr;
  std::byte* const data = free_.back();
  free_.pop_back();
  ++n_in_use_;
  return std::make_shared<KvBlock>(shared_from_this(), data);
}

void BlockPool::Release(std::byte* data) {
#ifndef NDEBUG
  std::fill_n(data, geometry_.BlockBytes(), std::byte{0xFF});  // NaN: whoever still reads this shows it
#endif
  free_.push_back(data);
  --n_in_use_;
}

}  // namespace spanwise

#include "kv/span.h"

#include <algorithm>
#include <cstdlib>

#include "base/check.h"

namespace spanwise {
namespace {

constexpr size_t kBlockAlignment = 64;

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

KvBlock::~KvBlock() { pool_->Release(data_); }

BlockPool::BlockPool(const KvGeometry& geometry, size_t budget_bytes)
    : geometry_(geometry), n_budget_(budget_bytes / geometry.BlockBytes()) {}

BlockPool::~BlockPool() {
  for (std::byte* data : free_) std::free(data);
}

std::shared_ptr<KvBlock> BlockPool::Allocate() {
  if (n_in_use_ >= n_budget_) return nullptr;
  std::byte* data;
  if (free_.empty()) {
    const size_t bytes = (geometry_.BlockBytes() + kBlockAlignment - 1) / kBlockAlignment * kBlockAlignment;
    data = static_cast<std::byte*>(std::aligned_alloc(kBlockAlignment, bytes));
    if (!data) return nullptr;
  } else {
    data = free_.back();
    free_.pop_back();
  }
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

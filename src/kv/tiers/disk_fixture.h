// What tests of the disk tier share.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kv/tiers/disk.h"
#include "kv/tiers/span_fixture.h"

namespace spanwise {

inline std::unique_ptr<DiskTier> Open(const std::string& folder, DiskTierOptions options = {},
                                      const SpanFormat& format = kFormat) {
  options.folder = folder;
  if (options.budget_bytes == 0) options.budget_bytes = uint64_t{1} << 30;
  auto tier = DiskTier::Open(format, options);
  if (!tier.ok()) ADD_FAILURE() << tier.status().message();
  return tier.ok() ? std::move(*tier) : nullptr;
}

inline void Keep(DiskTier& tier, const std::vector<Span>& spans) {
  for (const Span& span : spans) EXPECT_TRUE(tier.Offer(span));
  tier.Flush();
}

// Tokens of a chain that are found, each span as it must be.
inline int FoundTokens(DiskTier& tier, Spans& spans, const SpanKey& root, std::span<const int32_t> tokens) {
  SpanKey parent = root;
  int n = 0;
  while (!tokens.empty()) {
    const auto block = tokens.first(std::min<size_t>(tokens.size(), kKvBlockTokens));
    const auto found = Found(tier, parent, block, 0);
    if (!found) return n;
    EXPECT_TRUE(spans.Holds(parent, *found));
    const auto common = std::ranges::mismatch(found->tokens, block).in1 - found->tokens.begin();
    n += static_cast<int>(common);
    if (common < kKvBlockTokens) return n;
    parent = ChildKey(parent, block);
    tokens = tokens.subspan(kKvBlockTokens);
  }
  return n;
}

// A span's bytes as they are written without a codec: its block, cut behind the last panel.
inline std::vector<std::byte> CutBlock(const Span& span) {
  std::vector<std::byte> rows(RowsBytes(kFormat, span.n_tokens()));
  ExactCodec().encode(kFormat.geometry, span.block->data(), span.n_tokens(), rows.data());
  return rows;
}

}  // namespace spanwise

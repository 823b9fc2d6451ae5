// Spans for tests of tiers: bytes that their address decides, so that anybody can tell what they must be.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "kv/tiers/disk.h"
#include "kv/tiers/record.h"

namespace spanwise {

inline const SpanFormat kFormat{Sha256("model"),
                                {.n_layers = 2, .n_kv_heads = 2, .head_dim = 16, .dtype = DType::kBf16}};

inline SpanFormat FormatOf(const SpanCodec* codec) {
  SpanFormat format = kFormat;
  format.codec = codec;
  return format;
}

// Rows of tests that hold for every codec.
inline const auto kAllCodecs = testing::ValuesIn(SpanCodecs());
inline const auto kCodecName = [](const auto& row) { return std::string(row.param->name); };

inline std::vector<int32_t> Iota(int n, int first = 0) {
  std::vector<int32_t> tokens(static_cast<size_t>(n));
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

class Spans {
 public:
  explicit Spans(const SpanFormat& format = kFormat)
      : format_(format), pool_(std::make_shared<BlockPool>(format.geometry, size_t{1} << 30)) {}

  Span Make(const SpanKey& parent, const std::vector<int32_t>& tokens) {
    const SpanKey key = ChildKey(parent, tokens);
    auto block = pool_->Allocate();
    uint64_t seed;
    std::memcpy(&seed, key.bytes.data(), sizeof seed);
    std::mt19937_64 random(seed);
    for (size_t i = 0; i + 8 <= format_.geometry.BlockBytes(); i += 8) {
      const uint64_t value = random();
      std::memcpy(block->data() + i, &value, 8);
    }
    return {key, parent, tokens, block};
  }

  // The spans of a chain of tokens.
  std::vector<Span> Chain(const SpanKey& root, const std::vector<int32_t>& tokens) {
    std::vector<Span> chain;
    SpanKey parent = root;
    for (size_t i = 0; i < tokens.size(); i += kKvBlockTokens) {
      const size_t end = std::min(tokens.size(), i + kKvBlockTokens);
      chain.push_back(
          Make(parent, {tokens.begin() + static_cast<ptrdiff_t>(i), tokens.begin() + static_cast<ptrdiff_t>(end)}));
      parent = chain.back().key;
    }
    return chain;
  }

  std::vector<std::byte> Record(const Span& span) {
    std::vector<std::byte> record(RecordBytes(format_, span.n_tokens()));
    WriteRecord(format_, span, {}, record);
    return record;
  }

  // Whether rows are those of the span with these tokens.
  bool Holds(const SpanKey& parent, const Tier::Found& found) {
    const std::vector<std::byte> record = Record(Make(parent, found.tokens));
    return found.rows.size() == record.size() - sizeof(RecordHeader) &&
           std::memcmp(found.rows.data(), record.data() + sizeof(RecordHeader), found.rows.size()) == 0;
  }

 private:
  SpanFormat format_;
  std::shared_ptr<BlockPool> pool_;
};

// Waits until a fetch has ended.
inline std::shared_ptr<Fetch> Ended(std::shared_ptr<Fetch> fetch) {
  while (fetch && !fetch->done()) std::this_thread::sleep_for(std::chrono::microseconds(50));
  return fetch;
}

inline std::shared_ptr<Fetch> Prefetch(Tier& tier, const std::vector<Span>& chain, bool urgent = true) {
  std::vector<Tier::Wanted> wanted;
  for (const Span& span : chain) wanted.push_back({.key = span.key, .parent = span.parent, .tokens = span.tokens});
  return tier.Prefetch(wanted, urgent);
}

// What Find gives once a tier was asked for it.
inline std::optional<Tier::Found> Found(Tier& tier, const SpanKey& parent, std::span<const int32_t> tokens,
                                        int more_than = 0) {
  const Tier::Wanted wanted{.key = ChildKey(parent, tokens), .parent = parent, .tokens = tokens};
  const auto fetch = Ended(tier.Prefetch({&wanted, 1}, /*urgent=*/true));
  return tier.Find(wanted.key, tokens, more_than);
}

// A folder of its own, gone at the end.
class Folder {
 public:
  Folder() : path_((std::filesystem::temp_directory_path() / "spans.XXXXXX").string()) {
    if (!mkdtemp(path_.data())) std::abort();
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace spanwise

// Blocks, spans and their addresses: KV that is kept.
//
// A block is memory for kKvBlockTokens tokens of all layers (kernels/kv_view.h gives its layout). A span is a sealed
// block: the KV of up to kKvBlockTokens consecutive tokens of a run, with the tokens and the address that determine its
// bytes. Runs longer than a block are chains of spans, each addressed from its parent's address, so that any common
// beginning of two runs is found and shared, whatever the runs are (a flat prompt, a document, a conversation).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "kernels/kv_view.h"

namespace spanwise {

// What determines a span's bytes: see RootKey and ChildKey.
using SpanKey = Hash256;

// Where a run starts: everything that its tokens' KV depend on besides the tokens themselves.
//   model       digest of weights, KV format and kernels; not of the tokenizer, since tokens stand for themselves
//   method      how the KV is made ("causal"; a lossy or modified method names itself and its parameters)
//   context     key of what the run's tokens can see besides their own run; the zero hash if nothing
SpanKey RootKey(const Hash256& model, std::string_view method, const SpanKey& context);

// The address of the tokens that follow `parent` (a root or a full span) in a run. REQUIRES: 1 to kKvBlockTokens
// tokens.
SpanKey ChildKey(const SpanKey& parent, std::span<const int32_t> tokens);

// What whoever looks for KV has to know besides what determines it: secrets of tenants. Nobody finds, by an answer or
// by its time, what was read under a salt that he does not give.
using Salts = std::set<std::string>;

// What a caller names, as it is kept here: its hash, so that a long one costs no more. None of an empty one.
Salts SaltsFrom(const std::string& salt);
// One that stands for all of them together; none of none.
Salts Joined(const Salts& salts);

// Where a run's blocks are found: its root, and the salts under which it is kept from some tokens on. The block of such
// a token, and so all behind it, has another address for every set of salts; its bytes do not depend on them.
struct RunAddress {
  RunAddress() = default;
  RunAddress(const SpanKey& key) : root(key) {}  // NOLINT(google-explicit-constructor): without salts

  // From token `from` on the run is kept under these salts too, as far as it is not already. REQUIRES: `from` ascends.
  void AddSalts(int from, const Salts& more);

  // The parent's address of the block that begins with token `first`, a multiple of kKvBlockTokens; `before` is the
  // block before that, the root of the first one.
  SpanKey ParentOf(int first, const SpanKey& before) const;

  // The address of what follows the first n tokens, n a multiple of kKvBlockTokens, whose last block is `key`.
  RunAddress Behind(int n, const SpanKey& key) const;

  // How many tokens of runs with these addresses have the same blocks, as far as they are equal.
  int CommonTokens(const RunAddress& other) const;

  bool operator==(const RunAddress&) const = default;

  SpanKey root;
  struct Salted {
    int from = 0;  // negative: before the address's own first token
    Salts salts;
    bool operator==(const Salted&) const = default;
  };
  std::vector<Salted> salted;  // ascending
};

// The address of a whole run: ChildKey over its blocks in turn. The root itself when there are no tokens.
SpanKey RunKey(const RunAddress& address, std::span<const int32_t> tokens);

class BlockPool;

// One block. Memory of a pool, to which it returns when destroyed: written only by the run that is growing in it, and
// only at rows that no span sealed from it covers. Or memory of somebody else, such as a mapped file: never written,
// and kept alive as long as the block lives.
class KvBlock {
 public:
  KvBlock(std::shared_ptr<BlockPool> pool, std::byte* data, int rows)
      : pool_(std::move(pool)), data_(data), writable_(data), rows_(rows) {}
  ~KvBlock();
  KvBlock(const KvBlock&) = delete;
  KvBlock& operator=(const KvBlock&) = delete;

  // A cut block where `rows` says so (kernels/kv_view.h). REQUIRES: `data` is aligned to kAlignment.
  static std::shared_ptr<const KvBlock> Mapped(std::shared_ptr<const std::byte> data, int rows);
  bool is_mapped() const { return hold_ != nullptr; }
  int rows() const { return rows_; }

  std::byte* data() { return writable_; }
  const std::byte* data() const { return data_; }

  static constexpr size_t kAlignment = 64;

 private:
  KvBlock(std::shared_ptr<const std::byte> data, int rows) : hold_(std::move(data)), data_(hold_.get()), rows_(rows) {}

  std::shared_ptr<BlockPool> pool_;        // nullptr if mapped
  std::shared_ptr<const std::byte> hold_;  // nullptr if not
  const std::byte* data_;
  std::byte* writable_ = nullptr;
  int rows_ = kKvBlockTokens;
};

// Memory for blocks under a byte budget; freed blocks are kept for reuse. Cut blocks share the memory of whole ones,
// which are halved for them and made whole again when both halves are free. Thread-compatible (the engine thread).
class BlockPool : public std::enable_shared_from_this<BlockPool> {
 public:
  BlockPool(const KvGeometry& geometry, size_t budget_bytes);
  ~BlockPool();
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  // A block of so many rows: all, or those of kCutRows. nullptr when the budget is used up or the system has no memory
  // left. Contents are not initialised.
  std::shared_ptr<KvBlock> Allocate(int rows = kKvBlockTokens);

  // The rows of the blocks that it has beside whole ones.
  static constexpr std::array<int, 2> kCutRows = {kKvBlockTokens / 2, kKvBlockTokens / 4};

  const KvGeometry& geometry() const { return geometry_; }
  size_t n_blocks_in_use() const { return n_in_use_; }  // wholly or in part
  size_t n_blocks_budget() const { return n_budget_; }

 private:
  friend class KvBlock;
  bool AddChunk();                // false when the system has no memory left
  std::byte* Take(size_t level);  // memory of kKvBlockTokens >> level rows, or nullptr
  void Release(std::byte* data, int rows);

  KvGeometry geometry_;
  size_t n_budget_;
  size_t n_in_use_ = 0;
  std::map<std::byte*, size_t> chunks_;                    // of memory, and how many whole blocks each holds
  std::vector<std::byte*> free_;                           // whole blocks
  std::array<std::set<std::byte*>, kCutRows.size()> cut_;  // free halves, then free quarters
};

// Sealed and immutable. Two spans of one chain may share a block (a run that was sealed, grew, and was sealed again).
struct Span {
  SpanKey key;
  SpanKey parent;
  std::vector<int32_t> tokens;  // 1 to kKvBlockTokens; compared on every hit
  std::shared_ptr<const KvBlock> block;

  int n_tokens() const { return static_cast<int>(tokens.size()); }
};

}  // namespace spanwise

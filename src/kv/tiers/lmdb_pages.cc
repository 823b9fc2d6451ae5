#include "kv/tiers/lmdb_pages.h"

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace spanwise::lmdb {
namespace {

// All little-endian, as the machine is.
struct PageHeader {
  uint64_t number;
  uint16_t pad, flags, lower, upper;  // lower: end of the list of nodes
};
constexpr uint16_t kBranch = 1, kLeaf = 2;

struct TableHeader {
  uint32_t pad;
  uint16_t flags, depth;
  uint64_t branch_pages, leaf_pages, overflow_pages, entries, root;
};

struct MetaPage {
  PageHeader header;
  uint32_t magic, version;
  uint64_t address, map_bytes;
  TableHeader free_pages, tables;
  uint64_t last_page, txn_id;
};
static_assert(sizeof(PageHeader) == 16 && sizeof(TableHeader) == 48 && sizeof(MetaPage) == 152);
constexpr uint32_t kMagic = 0xBEEFC0DE, kVersion = 1;

// In a branch a page number, in a leaf the size of the data, is spread over the first fields. The key follows.
struct NodeHeader {
  uint16_t low, high, flags, key_bytes;
};
constexpr uint16_t kOnPagesOfItsOwn = 1;

class FreeList {
 public:
  FreeList(MDB_env* env, size_t begin, size_t end) : begin_(begin), end_(end) {
    MDB_stat stat;
    MDB_envinfo info;
    mdb_env_get_fd(env, &file_);
    mdb_env_stat(env, &stat);
    mdb_env_info(env, &info);
    page_bytes_ = stat.ms_psize;
    n_left_ = info.me_last_pgno + 1;
  }

  // Of the state after a transaction; false if anything is not as it must be.
  bool Read(size_t txn_id) {
    for (const size_t page : {0, 1}) {
      MetaPage meta;
      if (!ReadBytes(page, 0, &meta, sizeof meta) || meta.magic != kMagic || meta.version != kVersion) return false;
      if (meta.txn_id != txn_id) continue;
      return meta.free_pages.entries == 0 || ReadTree(meta.free_pages.root);
    }
    return false;
  }
  size_t count() const { return count_; }

 private:
  bool ReadBytes(size_t page, size_t offset, void* to, size_t n) const {
    if (page > SIZE_MAX / 2 / page_bytes_) return false;
    return pread(file_, to, n, static_cast<off_t>(page * page_bytes_ + offset)) == static_cast<ssize_t>(n);
  }

  bool ReadTree(size_t page) {
    if (n_left_-- == 0) return false;  // more than there are: a circle
    std::vector<std::byte> bytes(page_bytes_);
    PageHeader header;
    if (!ReadBytes(page, 0, bytes.data(), bytes.size())) return false;
    std::memcpy(&header, bytes.data(), sizeof header);
    const bool leaf = header.flags == kLeaf;
    if (header.number != page || (!leaf && header.flags != kBranch)) return false;
    if (header.lower < sizeof header || header.lower > page_bytes_) return false;
    for (size_t at = sizeof header; at + 2 <= header.lower; at += 2) {
      uint16_t place;
      NodeHeader node;
      std::memcpy(&place, &bytes[at], sizeof place);
      if (place + sizeof node > page_bytes_) return false;
      std::memcpy(&node, &bytes[place], sizeof node);
      const size_t number = node.low | size_t{node.high} << 16;
      if (leaf) {
        if (!ReadList(bytes, place + sizeof node + node.key_bytes, number, node.flags == kOnPagesOfItsOwn))
          return false;
      } else if (!ReadTree(number | size_t{node.flags} << 32)) {
        return false;
      }
    }
    return true;
  }

  // Its length, then page numbers.
  bool ReadList(const std::vector<std::byte>& page, size_t at, size_t n_bytes, bool elsewhere) {
    std::vector<uint64_t> list(n_bytes / sizeof(uint64_t));
    if (at + (elsewhere ? sizeof(uint64_t) : n_bytes) > page.size() || list.empty()) return false;
    if (elsewhere) {
      uint64_t first;
      std::memcpy(&first, &page[at], sizeof first);
      if (!ReadBytes(first, sizeof(PageHeader), list.data(), list.size() * sizeof(uint64_t))) return false;
    } else {
      std::memcpy(list.data(), &page[at], list.size() * sizeof(uint64_t));
    }
    if (list[0] >= list.size()) return false;
    count_ += static_cast<size_t>(std::count_if(list.begin() + 1, list.begin() + 1 + static_cast<ptrdiff_t>(list[0]),
                                                [&](uint64_t n) { return begin_ <= n && n < end_; }));
    return true;
  }

  const size_t begin_, end_;
  int file_ = -1;
  size_t page_bytes_ = 0, n_left_ = 0, count_ = 0;
};

}  // namespace

size_t CountFreePages(MDB_env* env, MDB_txn* txn, size_t begin, size_t end) {
  FreeList list(env, begin, end);
  return list.Read(mdb_txn_id(txn)) ? list.count() : 0;
}

}  // namespace spanwise::lmdb

// A store of 100 GiB opens as fast as a small one. The trees, the records' heads and the file's size are those of a
// full store; the rows are holes in a sparse file, which read as zeros.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>

#include "kv/tiers/span_fixture.h"

namespace spanwise {
namespace {

// As of a model with 8 billion parameters: 8 MiB a block.
const SpanFormat kLarge{Sha256("large"), {.n_layers = 32, .n_kv_heads = 8, .head_dim = 128, .dtype = DType::kBf16}};
constexpr uint64_t kBytes = uint64_t{100} << 30;
constexpr uint64_t kMapBytes = kBytes + (uint64_t{8} << 30);
constexpr int kChainBlocks = 10;

SpanKey RootOf(int chain) { return RootKey(kLarge.model, std::to_string(chain), {}); }
std::vector<int32_t> TokensOf(int block) { return Iota(kKvBlockTokens, block * kKvBlockTokens); }

// A folder's tables, open in the one way that leaves holes where nothing is written.
class SparseStore {
 public:
  explicit SparseStore(const std::string& folder) : folder_(folder) {
    if (!lmdb::Env::Open(folder, false, kMapBytes).ok()) return;  // makes the tables
    mdb_env_create(&env_);
    mdb_env_set_maxdbs(env_, 4);
    mdb_env_set_mapsize(env_, kMapBytes);
    failed_ = mdb_env_open(env_, folder.c_str(), MDB_WRITEMAP | MDB_NOSYNC, 0644);
  }
  ~SparseStore() { mdb_env_close(env_); }
  SparseStore(const SparseStore&) = delete;
  SparseStore& operator=(const SparseStore&) = delete;
  int failed() const { return failed_; }

  // The head of a record for each block of a chain, with the checksum that it has with rows of zeros, or with none.
  void AddChain(int chain, bool checksums) {
    MDB_txn* txn = nullptr;
    ASSERT_EQ(mdb_txn_begin(env_, nullptr, 0, &txn), 0);
    MDB_dbi spans = 0, uses = 0, ages = 0;
    for (const auto& [name, table] : {std::pair("spans", &spans), {"uses", &uses}, {"ages", &ages}})
      ASSERT_EQ(mdb_dbi_open(txn, name, 0, table), 0);
    SpanKey parent = RootOf(chain);
    for (int block = 0; block < kChainBlocks; ++block) {
      const Span span{ChildKey(parent, TokensOf(block)), parent, TokensOf(block), zeros_};
      if (checksums || record_.empty()) {
        record_.resize(RecordBytes(kLarge, kKvBlockTokens));
        WriteRecord(kLarge, span, {}, record_);
      }
      const std::string key = EncodeKey(parent, span.tokens), use = EncodeKey({}, Iota(2, 2 * n_++)).substr(32);
      MDB_val k = lmdb::Val(key), u = lmdb::Val(use), v{record_.size(), nullptr};
      ASSERT_EQ(mdb_put(txn, spans, &k, &v, MDB_RESERVE), 0);
      std::memcpy(v.mv_data, record_.data(), sizeof(RecordHeader));
      ASSERT_EQ(mdb_put(txn, uses, &k, &u, 0), 0);
      ASSERT_EQ(mdb_put(txn, ages, &u, &k, 0), 0);
      parent = span.key;
    }
    ASSERT_EQ(mdb_txn_commit(txn), 0);
  }

 private:
  static std::shared_ptr<const KvBlock> Zeros() {
    const auto block = std::make_shared<BlockPool>(kLarge.geometry, kLarge.geometry.BlockBytes())->Allocate();
    std::memset(block->data(), 0, kLarge.geometry.BlockBytes());
    return block;
  }

  const std::string folder_;
  const std::shared_ptr<const KvBlock> zeros_ = Zeros();
  std::vector<std::byte> record_;
  MDB_env* env_ = nullptr;
  int failed_ = 0;
  int n_ = 0;
};

TEST(LargeStore, OpensAndFindsWithinASecond) {
  const Folder folder;
  const int n_chains = static_cast<int>(kBytes / kLarge.geometry.BlockBytes()) / kChainBlocks;
  {
    SparseStore store(folder.path());
    if (store.failed() != 0) GTEST_SKIP() << "no sparse file of this size here: " << mdb_strerror(store.failed());
    for (int chain = 0; chain < n_chains; ++chain)
      ASSERT_NO_FATAL_FAILURE(store.AddChain(chain, chain == n_chains / 2));
  }
  struct stat file {};
  ASSERT_EQ(stat((folder.path() + "/data.mdb").c_str(), &file), 0);
  ASSERT_GE(static_cast<uint64_t>(file.st_size), kBytes);
  ASSERT_LT(static_cast<uint64_t>(file.st_blocks) * 512, kBytes / 100);

  for (const bool read_only : {true, false}) {
    const auto begin = std::chrono::steady_clock::now();
    const auto tier =
        DiskTier::Open(kLarge, {.folder = folder.path(), .read_only = read_only, .budget_bytes = 2 * kBytes});
    ASSERT_TRUE(tier.ok()) << tier.status().message();
    const auto opened = std::chrono::steady_clock::now();
    const auto found = Found(**tier, RootOf(n_chains / 2), TokensOf(0), 0);
    const std::chrono::duration<double> to_open = opened - begin, to_find = std::chrono::steady_clock::now() - opened;
    EXPECT_TRUE(found);
    EXPECT_FALSE(Found(**tier, RootOf(n_chains), TokensOf(0), 0));
    EXPECT_GE((*tier)->stats().bytes, kBytes);
    EXPECT_EQ((*tier)->stats().damaged_spans, 0u);
    EXPECT_LT((to_open + to_find).count(), 1);
    RecordProperty(read_only ? "open_read_only_us" : "open_us", static_cast<int>(1e6 * to_open.count()));
    RecordProperty(read_only ? "find_read_only_us" : "find_us", static_cast<int>(1e6 * to_find.count()));
    std::printf("%s: open %.2f ms, first find (8 MiB, checked) %.2f ms\n", read_only ? "read only" : "writable",
                1e3 * to_open.count(), 1e3 * to_find.count());
  }
}

}  // namespace
}  // namespace spanwise

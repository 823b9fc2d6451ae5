// Where a file of LMDB may end, against LMDB's own list of free pages.
#include "kv/tiers/lmdb.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "kv/tiers/span_fixture.h"

namespace spanwise {
namespace {

const auto kPage = static_cast<size_t>(sysconf(_SC_PAGESIZE));

// Puts and removes values of up to `most_bytes`, some of them within one transaction.
void Change(const std::shared_ptr<lmdb::Env>& env, std::mt19937& random, int most_bytes) {
  const auto txn = lmdb::Txn::Begin(env, /*read_only=*/false).value();
  for (int i = 0; i < 4; ++i) {
    const std::string value(random() % static_cast<unsigned>(most_bytes), 'x');
    const std::string put = std::to_string(random() % 30), removed = std::to_string(random() % 30);
    MDB_val k = lmdb::Val(put), v = lmdb::Val(value);
    ASSERT_EQ(mdb_put(txn->get(), env->spans, &k, &v, 0), MDB_SUCCESS);
    k = lmdb::Val(removed);
    mdb_del(txn->get(), env->spans, &k, nullptr);
  }
  ASSERT_TRUE(txn->Commit().ok());
}

// Of the last transaction, as LMDB reads them. REQUIRES: the file was not cut.
std::set<size_t> FreePages(const std::shared_ptr<lmdb::Env>& env) {
  const auto txn = lmdb::Txn::Begin(env, /*read_only=*/true).value();
  lmdb::Cursor at(*txn, 0);
  std::set<size_t> pages;
  while (at.Go(MDB_NEXT)) {
    std::vector<size_t> list(at.value().size() / sizeof(size_t));
    std::memcpy(list.data(), at.value().data(), list.size() * sizeof(size_t));
    pages.insert(list.begin() + 1, list.begin() + 1 + static_cast<ptrdiff_t>(list[0]));
  }
  EXPECT_TRUE(at.status().ok());
  return pages;
}

TEST(Lmdb, AFileMayEndBeforePagesThatAreFree) {
  std::mt19937 random(1);
  int n_short = 0, n_sound = 0, n_cut = 0;
  for (int trial = 0; trial < 30; ++trial) {
    const Folder folder;
    const std::string file = folder.path() + "/data.mdb";
    std::set<size_t> free;
    size_t n_pages = 0, n_bytes = 0;
    {
      const auto env = lmdb::Env::Open(folder.path(), /*read_only=*/false, size_t{1} << 28).value();
      const int n = 1 + static_cast<int>(random() % 60), most_bytes = trial % 3 == 0 ? 200'000 : 20'000;
      for (int i = 0; i < n; ++i) ASSERT_NO_FATAL_FAILURE(Change(env, random, most_bytes));
      free = FreePages(env);
      MDB_envinfo info;
      mdb_env_info(env->get(), &info);
      n_pages = info.me_last_pgno + 1;
      n_bytes = std::filesystem::file_size(file);
    }
    if (n_bytes < n_pages * kPage) ++n_short;
    for (int i = 0; i < 20; ++i) {
      const size_t bytes =
          i == 0 ? n_bytes : n_bytes - std::min<size_t>(n_bytes, random() % (i < 10 ? 8 * kPage : n_bytes));
      std::filesystem::resize_file(file, bytes);
      bool sound = true;
      for (size_t page = bytes / kPage; page < n_pages; ++page) sound = sound && free.contains(page);
      for (const bool read_only : {true, false}) {
        const auto env = lmdb::Env::Open(folder.path(), read_only, size_t{1} << 28);
        EXPECT_EQ(env.ok(), sound) << bytes << " of " << n_bytes << " bytes, " << n_pages << " pages";
        if (!env.ok()) {
          EXPECT_EQ(env.status().code(), StatusCode::kCorruption);
        }
      }
      ++(sound ? n_sound : n_cut);
      if (!sound) break;  // what is gone is gone
      n_bytes = bytes;
    }
  }
  EXPECT_GT(n_short, 0);
  EXPECT_GT(n_sound, 20);
  EXPECT_GT(n_cut, 20);
}

// It goes on from there.
TEST(Lmdb, WhatEndsEarlyIsWrittenOn) {
  const Folder folder;
  std::mt19937 random(2);
  int n_short = 0;
  for (int i = 0; i < 400; ++i) {
    const auto env = lmdb::Env::Open(folder.path(), /*read_only=*/false, size_t{1} << 28);
    ASSERT_TRUE(env.ok()) << env.status().message();
    ASSERT_NO_FATAL_FAILURE(Change(*env, random, 20'000));
    MDB_envinfo info;
    mdb_env_info((*env)->get(), &info);
    n_short += std::filesystem::file_size(folder.path() + "/data.mdb") / kPage <= info.me_last_pgno;
  }
  EXPECT_GT(n_short, 0);
}

// A hole in it would be a signal on a disk that is full.
TEST(Lmdb, TheLockFileHasAllItsBlocks) {
  const Folder folder;
  const std::string file = folder.path() + "/lock.mdb";
  const auto check = [&](off_t bytes) {
    struct stat found {};
    ASSERT_EQ(stat(file.c_str(), &found), 0);
    EXPECT_EQ(found.st_size, bytes);
    EXPECT_GE(found.st_blocks * 512, found.st_size);
  };
  const auto open = [&](bool read_only) {
    ASSERT_TRUE(lmdb::Env::Open(folder.path(), read_only, size_t{1} << 28).ok());
  };
  open(/*read_only=*/false);
  constexpr off_t kBytes = 64 * 1026;
  check(kBytes);
  for (const bool read_only : {false, true})
    for (const off_t sparse :
         {off_t{0}, off_t{8192}, kBytes, off_t{200'000}}) {  // as copies and other programs leave it
      ASSERT_EQ(truncate(file.c_str(), 0), 0);
      ASSERT_EQ(truncate(file.c_str(), sparse), 0);
      open(read_only);
      check(std::max(sparse, kBytes));
    }
}

TEST(Lmdb, ManyOpenAFolderAtOnce) {
  for (int trial = 0; trial < 10; ++trial) {
    const Folder folder;
    int go[2];
    ASSERT_EQ(pipe(go), 0);
    std::vector<pid_t> children;
    for (int i = 0; i < 8; ++i) {
      children.push_back(fork());
      if (children.back() != 0) continue;
      close(go[1]);
      char byte;
      const ssize_t n = read(go[0], &byte, 1);  // ends when all are there
      _exit(n == 0 && lmdb::Env::Open(folder.path(), /*read_only=*/false, size_t{1} << 28).ok() ? 0 : 1);
    }
    close(go[0]);
    close(go[1]);
    for (const pid_t child : children) {
      int status = -1;
      ASSERT_EQ(waitpid(child, &status, 0), child);
      EXPECT_EQ(status, 0);
    }
  }
}

TEST(Lmdb, PlacesOfReadersThatWereKilledAreTakenAgain) {
  const Folder folder;
  const auto env = lmdb::Env::Open(folder.path(), /*read_only=*/false, size_t{1} << 28).value();
  int here[2];
  ASSERT_EQ(pipe(here), 0);
  const pid_t child = fork();
  if (child == 0) {
    // An environment of its own, as LMDB has it: what this process has open it inherits.
    MDB_env* own = nullptr;
    mdb_env_create(&own);
    mdb_env_set_maxreaders(own, 1024);
    MDB_txn* txn = nullptr;
    if (mdb_env_open(own, folder.path().c_str(), MDB_RDONLY | MDB_NOTLS, 0644) != MDB_SUCCESS) _exit(2);
    while (mdb_txn_begin(own, nullptr, MDB_RDONLY, &txn) == MDB_SUCCESS) {
    }
    if (write(here[1], "x", 1) != 1) _exit(3);
    pause();
  }
  char byte;
  ASSERT_EQ(read(here[0], &byte, 1), 1);
  close(here[0]);
  close(here[1]);
  const auto full = lmdb::Txn::Begin(env, /*read_only=*/true);
  EXPECT_EQ(full.status().code(), StatusCode::kResourceExhausted);
  kill(child, SIGKILL);
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_TRUE(lmdb::Txn::Begin(env, /*read_only=*/true).ok());
}

// LMDB says "Input/output error" where a disk has room for a part of what is written.
TEST(Lmdb, AWriteThatIsCutShortHasAReason) {
  const Folder folder;
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const auto env = lmdb::Env::Open(folder.path(), /*read_only=*/false, size_t{1} << 28).value();
    const rlimit limit{100'000, 100'000};
    setrlimit(RLIMIT_FSIZE, &limit);
    const auto txn = lmdb::Txn::Begin(env, /*read_only=*/false).value();
    const std::string value(200'000, 'x');
    MDB_val k = lmdb::Val("key"), v = lmdb::Val(value);
    if (mdb_put(txn->get(), env->spans, &k, &v, 0) != MDB_SUCCESS) _exit(2);
    const Status status = txn->Commit();
    _exit(status.code() == StatusCode::kResourceExhausted && status.message().ends_with("File too large") ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace spanwise

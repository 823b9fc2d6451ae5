// Corpora with an index of another version.
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "retrieval/index/lexical.h"
#include "retrieval/sqlite.h"
#include "retrieval/test_corpus.h"

namespace spanwise::retrieval {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Corpora with an index that an older program wrote: it holds other words, here none.
class OldIndexTest : public CorpusTest {
 protected:
  void MakeOld(std::string_view more = {}) {
    for (int i = 0; i < 300; ++i)
      Write(StrFormat("{}.md", i), StrFormat("# T{}\n\nwords number{} 水泵重十四公斤", i, i));
    Index();
    generation_ = corpus_->Stats().value().generation;
    corpus_.reset();
    auto database = Database::Open(path(), path(), SQLITE_OPEN_READWRITE);
    ASSERT_TRUE(database.ok() && RegisterTokenizer(&*database).ok());
    const Status aged = database->Execute(
        "INSERT INTO chunk_fts(chunk_fts) VALUES('delete-all'); DELETE FROM meta WHERE key = 'tokenizer'; "
        "PRAGMA user_version = 1;" +
        std::string(more));
    ASSERT_TRUE(aged.ok()) << aged.message();
  }

  int64_t Format() {
    auto database = Database::Open(path(), path(), SQLITE_OPEN_READWRITE);
    return database.ok() ? database->QueryInt("PRAGMA user_version").value() : -1;
  }

  void ExpectNew() {
    EXPECT_EQ(Format(), 2);
    EXPECT_THAT(Found("number17"), ElementsAre("docs/17.md"));
    EXPECT_FALSE(Found("水泵重多少公斤？").empty());
    EXPECT_GT(corpus_->Stats().value().generation, generation_);
    EXPECT_FALSE(corpus_->read_only());
    EXPECT_TRUE(corpus_->Check().ok());
    EXPECT_EQ(Index().unchanged, 300u);
  }

  std::string path() const { return folder_ + "/corpus/meta.db"; }
  uint64_t generation_ = 0;
};

TEST_F(OldIndexTest, IsMadeAnewOnOpening) {
  MakeOld();
  std::vector<double> shares;
  const auto record = [&](const IndexProgress& p) {
    if (p.bytes_total > 0) shares.push_back(static_cast<double>(p.bytes_done) / static_cast<double>(p.bytes_total));
    return true;
  };
  Reopen({.progress = record});
  ExpectNew();
  ASSERT_GE(shares.size(), 3u);
  EXPECT_TRUE(std::is_sorted(shares.begin(), shares.end()));
  EXPECT_EQ(shares.front(), 0);
  EXPECT_GT(shares.back(), 0.5);
  EXPECT_LE(shares.back(), 1);
  shares.clear();
  Reopen({.progress = record});
  EXPECT_THAT(shares, IsEmpty());
}

TEST_F(OldIndexTest, OtherUnicodeTablesMakeAnOldIndex) {
  MakeOld("PRAGMA user_version = 2; INSERT INTO meta VALUES('tokenizer', 1);");
  Reopen({});
  ExpectNew();
}

TEST_F(OldIndexTest, StaysWhenTheOpeningIsCancelledOrDies) {
  MakeOld();
  const auto dies = [&](bool exits) {
    return [this, exits](const IndexProgress& p) {
      if (p.bytes_done == 0) return true;
      if (exits) _exit(0);
      return false;
    };
  };
  EXPECT_EQ(Corpus::Open(folder_ + "/corpus", {.progress = dies(false)}).status().code(), StatusCode::kCancelled);
  EXPECT_EQ(Format(), 1);
  const pid_t child = fork();
  if (child == 0) {
    static_cast<void>(Corpus::Open(folder_ + "/corpus", {.progress = dies(true)}));
    _exit(1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(Format(), 1);
  Reopen({});
  ExpectNew();
}

TEST_F(OldIndexTest, IsMadeAnewOnceByTwoWhoOpenIt) {
  MakeOld();
  std::atomic<int> makers{0};
  const auto open = [&] {
    const auto corpus = Corpus::Open(folder_ + "/corpus", {.progress = [&](const IndexProgress& p) {
                                       if (p.bytes_done == 0) ++makers;
                                       std::this_thread::sleep_for(std::chrono::milliseconds(30));
                                       return true;
                                     }});
    ASSERT_TRUE(corpus.ok()) << corpus.status().message();
    EXPECT_EQ((*corpus)->Search("number17", 3).value().size(), 1u);
  };
  std::thread other(open);
  open();
  other.join();
  EXPECT_EQ(makers, 1);
  Reopen({});
  ExpectNew();
}

TEST_F(OldIndexTest, IsMadeApartWhereTheCorpusCannotGrow) {
  MakeOld("VACUUM;");
  std::vector<std::string> warnings;
  const OpenOptions full{.max_bytes = 1, .on_warning = [&](const std::string& w) { warnings.push_back(w); }};
  Reopen(full);
  ASSERT_THAT(warnings, SizeIs(1));
  EXPECT_THAT(warnings[0], HasSubstr("meta.db: the index is of another version"));
  EXPECT_TRUE(corpus_->read_only());
  EXPECT_EQ(Format(), 1);
  EXPECT_THAT(Found("number17"), ElementsAre("docs/17.md"));
  EXPECT_EQ(corpus_->Index({folder_ + "/docs"}).status().code(), StatusCode::kResourceExhausted);

  OpenOptions create = full;
  create.create = true;
  EXPECT_EQ(Corpus::Open(folder_ + "/corpus", create).status().code(), StatusCode::kResourceExhausted);
  // Another process makes it anew, and what this one knows is no longer true.
  ASSERT_TRUE(Corpus::Open(folder_ + "/corpus").ok());
  EXPECT_EQ(corpus_->Search("number17", 3).status().code(), StatusCode::kUnavailable);
  Reopen({});
  ExpectNew();
}

}  // namespace
}  // namespace spanwise::retrieval

// Reading a corpus where nothing can be written, and beside others who write.
#include "retrieval/reader.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/file.h"
#include "retrieval/test_corpus.h"

namespace spanwise::retrieval {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// As on a full disk: no file grows.
void LimitFiles(rlim_t bytes) {
  signal(SIGXFSZ, SIG_IGN);
  rlimit limit{};
  getrlimit(RLIMIT_FSIZE, &limit);
  limit.rlim_cur = bytes;
  setrlimit(RLIMIT_FSIZE, &limit);
}

class ReaderTest : public CorpusTest {
 protected:
  void SetUp() override {
    CorpusTest::SetUp();
    path_ = folder_ + "/corpus/meta.db";
    Write("a.txt", "alpha");
    Index();
    corpus_.reset();
  }

  // The ids that a word is found in, or what is wrong.
  static std::string Ask(const Corpus& corpus, const std::string& word) {
    const auto hits = corpus.Search(word, 10);
    if (!hits.ok()) return hits.status().message();
    std::string ids;
    for (const Hit& hit : *hits) ids += hit.document_id + ";";
    return ids;
  }

  // Adds a document in another process. `close`: as a run ends, else as one that dies after its commit.
  std::string Add(const std::string& text, bool close) {
    return InAnotherProcess(false, [&]() -> std::string {
      auto corpus = Corpus::Open(folder_ + "/corpus");
      if (!corpus.ok()) return corpus.status().message();
      SourceDocument document;
      document.id = text;
      document.text = text;
      const auto report = (*corpus)->AddDocuments({document});
      if (!close) static_cast<void>(corpus->release());
      return report.ok() ? "" : report.status().message();
    });
  }

  std::string path_;
};

TEST_F(ReaderTest, OpensWhereNothingCanGrow) {
  for (int i = 0; i < 2; ++i)  // the second time beside what the first attempt left
    EXPECT_EQ(InAnotherProcess(false,
                               [&]() -> std::string {
                                 LimitFiles(0);
                                 auto corpus = Corpus::Open(folder_ + "/corpus");
                                 if (!corpus.ok()) return corpus.status().message();
                                 if (!(*corpus)->read_only()) return "not read-only";
                                 if ((*corpus)->Index({folder_ + "/docs"}).ok()) return "wrote";
                                 return Ask(**corpus, "alpha");
                               }),
              "docs/a.txt;");
  EXPECT_EQ(InAnotherProcess(false,
                             [&]() -> std::string {
                               LimitFiles(0);
                               const auto corpus = Corpus::Open(folder_ + "/corpus", {.create = true});
                               return corpus.ok() ? "opened to write" : "";
                             }),
            "");
  Reopen();
  EXPECT_FALSE(corpus_->read_only());
}

// What another process has committed and not yet moved into the database is part of the corpus.
TEST_F(ReaderTest, ReadsTheLogWithoutWriting) {
  ASSERT_EQ(Add("beta", false), "");
  ASSERT_GT(fs::file_size(path_ + "-wal"), 0u);
  for (const bool index_left : {true, false}) {
    if (!index_left) fs::remove(path_ + "-shm");
    const std::string log = ReadFile(path_ + "-wal").value(), database = ReadFile(path_).value();
    EXPECT_EQ(InAnotherProcess(false,
                               [&]() -> std::string {
                                 LimitFiles(0);
                                 auto corpus = Corpus::Open(folder_ + "/corpus");
                                 if (!corpus.ok()) return corpus.status().message();
                                 return Ask(**corpus, "alpha") + Ask(**corpus, "beta");
                               }),
              "docs/a.txt;beta;");
    EXPECT_EQ(ReadFile(path_ + "-wal").value(), log);
    EXPECT_EQ(ReadFile(path_).value(), database);
  }
}

TEST_F(ReaderTest, ALateWriterIsSeen) {
  for (const bool with_log : {false, true}) {
    if (with_log) {
      ASSERT_EQ(Add("log", false), "");
      fs::remove(path_ + "-shm");
    }
    EXPECT_EQ(InAnotherProcess(false,
                               [&]() -> std::string {
                                 LimitFiles(0);
                                 auto corpus = Corpus::Open(folder_ + "/corpus");
                                 if (!corpus.ok()) return corpus.status().message();
                                 LimitFiles(RLIM_INFINITY);
                                 std::string seen = Ask(**corpus, "beta") + "|";
                                 for (const char* text : {"beta gamma", "beta delta"}) {
                                   seen += Add(StrFormat("{} {}", text, with_log), true);
                                   seen += Ask(**corpus, "beta") + "|";
                                 }
                                 return seen;
                               }),
              with_log ? "beta gamma false;beta delta false;|beta gamma false;beta delta false;beta gamma true;|"
                         "beta gamma false;beta delta false;beta gamma true;beta delta true;|"
                       : "|beta gamma false;|beta gamma false;beta delta false;|");
  }
}

// A writer in the middle of a read: what was read so far is not used.
TEST_F(ReaderTest, ATornReadIsReadAgain) {
  ASSERT_EQ(InAnotherProcess(false,
                             [&]() -> std::string {
                               LimitFiles(0);
                               auto reader = Reader::Open(path_, [](Database* database) {
                                 return database->QueryInt("SELECT count(*) FROM document").status();
                               });
                               if (!reader.ok()) return reader.status().message();
                               if (!reader->alone()) return "not alone";
                               LimitFiles(RLIM_INFINITY);
                               int calls = 0;
                               const auto counts = reader->Run([&](Database& database) -> Result<std::string> {
                                 const auto count = [&] {
                                   return database.QueryInt("SELECT count(*) FROM document").value();
                                 };
                                 const int64_t before = count();
                                 if (++calls == 1 && !Add("beta", true).empty()) return Internal("not added");
                                 return StrFormat("{} {}", before, count());
                               });
                               if (!counts.ok()) return counts.status().message();
                               return StrFormat("{} after {} calls, alone {}", *counts, calls, reader->alone());
                             }),
            "2 2 after 2 calls, alone false");
}

// Another user's folder, while its owner writes.
TEST_F(ReaderTest, ReadsAnotherUsersCorpus) {
  if (geteuid() != 0) GTEST_SKIP() << "needs another user";
  int to[2], from[2];
  ASSERT_EQ(pipe(to), 0);
  ASSERT_EQ(pipe(from), 0);
  const pid_t owner = fork();  // writes when told to
  if (owner == 0) {
    close(to[1]);
    char byte = 0;
    while (read(to[0], &byte, 1) == 1) {
      const std::string wrong = Add(std::string("beta ") + byte, true);
      if (write(from[1], wrong.empty() ? "y" : "n", 1) != 1) break;
    }
    _exit(0);
  }
  close(to[0]);
  const std::string seen = InAnotherProcess(true, [&]() -> std::string {
    auto corpus = Corpus::Open(folder_ + "/corpus");
    if (!corpus.ok()) return corpus.status().message();
    std::string asked = StrFormat("{}|{}", (*corpus)->read_only(), Ask(**corpus, "alpha"));
    for (const char* next : {"1", "2"}) {
      char byte = 0;
      if (write(to[1], next, 1) != 1 || read(from[0], &byte, 1) != 1 || byte != 'y') return "the owner failed";
      asked += "|" + Ask(**corpus, "beta");
    }
    const Status status = (*corpus)->DeleteDocument("docs/a.txt");
    return asked + "|" + status.message().substr(folder_.size());
  });
  close(to[1]);
  waitpid(owner, nullptr, 0);
  close(from[0]);
  close(from[1]);
  EXPECT_EQ(seen, "true|docs/a.txt;|beta 1;|beta 1;beta 2;|/corpus: the corpus is read-only here (Permission denied)");
}

TEST_F(ReaderTest, AFolderThatMayNotBeEnteredIsNotCalledEmpty) {
  ASSERT_EQ(chmod((folder_ + "/corpus").c_str(), 0), 0);
  EXPECT_THAT(InAnotherProcess(true, [&] { return Corpus::Open(folder_ + "/corpus").status().message(); }),
              HasSubstr("meta.db: cannot be opened: Permission denied"));
  ASSERT_EQ(chmod((folder_ + "/corpus").c_str(), 0700), 0);
}

}  // namespace
}  // namespace spanwise::retrieval

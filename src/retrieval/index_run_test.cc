// What Corpus::Index does with files that cannot be read, that are gone, or whose ids are taken, and while others
// write.
#include <signal.h>
#include <sys/stat.h>

#include "base/file.h"
#include "retrieval/test_corpus.h"

namespace spanwise::retrieval {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class IndexRunTest : public CorpusTest {
 protected:
  IndexReport Index(const std::vector<std::string>& names, const IndexOptions& options = {}) {
    auto report = corpus_->Index(Paths(names), options);
    EXPECT_TRUE(report.ok()) << report.status().message();
    return report.ok() ? *report : IndexReport{};
  }
  Status Failure(const std::vector<std::string>& names, const IndexOptions& options = {}) {
    return corpus_->Index(Paths(names), options).status();
  }
  std::vector<std::string> Paths(const std::vector<std::string>& names) const {
    std::vector<std::string> paths;
    for (const std::string& name : names) paths.push_back(folder_ + "/docs/" + name);
    return paths;
  }
  // "path below docs: reason"
  std::vector<std::string> Skipped(const IndexReport& report) const {
    std::vector<std::string> lines;
    for (const SkippedFile& file : report.skipped)
      lines.push_back(file.path.substr(folder_.size() + 6) + ": " + file.reason);
    return lines;
  }
  std::string Without(std::string message) const {
    for (size_t at; (at = message.find(folder_ + "/docs/")) != std::string::npos;)
      message.erase(at, folder_.size() + 6);
    return message;
  }
};

TEST_F(IndexRunTest, WhatMayNotBeReadIsSkippedAndKept) {
  Write("a.txt", "alpha");
  Write("locked/deep/b.txt", "beta");
  Write("sub/c.txt", "gamma");
  Write("sub/d.txt", "delta");
  ASSERT_TRUE(corpus_->Index({folder_ + "/docs"}).ok());
  corpus_.reset();
  fs::remove(folder_ + "/docs/a.txt");
  Write("sub/c.txt", "gamma changed");
  Write("sub/new.txt", "new");
  for (const char* name : {"/docs/locked", "/docs/sub/c.txt", "/docs/sub/new.txt"})
    ASSERT_EQ(chmod((folder_ + name).c_str(), 0), 0);
  for (const auto& entry : fs::recursive_directory_iterator(folder_ + "/corpus"))
    if (geteuid() == 0) {
      ASSERT_EQ(chown(entry.path().c_str(), 65534, 65534), 0);
    }
  if (geteuid() == 0) {
    ASSERT_EQ(chown((folder_ + "/corpus").c_str(), 65534, 65534), 0);
  }
  for (const bool keep_going : {false, true})
    EXPECT_EQ(InAnotherProcess(true,
                               [&]() -> std::string {
                                 Reopen();
                                 IndexOptions options;
                                 options.keep_going = keep_going;
                                 options.rechunk = keep_going;
                                 const auto report = corpus_->Index({folder_ + "/docs"}, options);
                                 if (!report.ok()) return report.status().message();
                                 std::string seen = StrFormat("{} removed\n", report->removed);
                                 for (const std::string& line : Skipped(*report)) seen += line + "\n";
                                 for (const std::string& id : Ids()) seen += id + "\n";
                                 return seen;
                               }),
              std::string(keep_going ? "0 removed\n" : "1 removed\n") +
                  "locked: Permission denied; its earlier text stays\n"
                  "sub/c.txt: cannot open: Permission denied; its earlier text stays\n"
                  "sub/new.txt: cannot open: Permission denied\n"
                  "docs/locked/deep/b.txt\ndocs/sub/c.txt\ndocs/sub/d.txt\n");
  // What is named itself is an error.
  for (const char* name : {"locked", "sub/new.txt"})
    EXPECT_THAT(InAnotherProcess(true,
                                 [&]() -> std::string {
                                   Reopen();
                                   return Without(Failure({name}).message());
                                 }),
                testing::AllOf(testing::StartsWith(std::string(name) + ": cannot "), HasSubstr("Permission denied")));
  for (const char* name : {"/docs/locked", "/docs/sub/c.txt", "/docs/sub/new.txt"})
    ASSERT_EQ(chmod((folder_ + name).c_str(), 0700), 0);
}

TEST_F(IndexRunTest, AFileThatBecameAPipeIsGone) {
  Write("a.txt", "alpha");
  Write("b.txt", "beta");
  Index({""});
  fs::remove(folder_ + "/docs/a.txt");
  ASSERT_EQ(mkfifo((folder_ + "/docs/a.txt").c_str(), 0600), 0);
  const IndexReport report = Index({""});
  EXPECT_EQ(report.removed, 1u);
  EXPECT_THAT(Skipped(report), ElementsAre("a.txt: is not a regular file"));
}

TEST_F(IndexRunTest, ATextThatCannotBeReadAnyMoreStaysUntilItIsRemoved) {
  Write("a.txt", "alpha");
  Write("l.jsonl", "{\"id\": \"x\", \"text\": \"one\"}\n");
  Index({""});
  Write("a.txt", "alph\xe4");
  Write("l.jsonl", "{\"id\": \"x\", \"text\": \"one\"}\n{\"id\": \"y\"}\n");
  const std::string before = Snapshot();
  EXPECT_EQ(Without(Failure({""}).message()), "a.txt: not UTF-8 at byte 4; convert it to UTF-8");
  IndexOptions options;
  options.keep_going = true;
  for (int run = 0; run < 2; ++run)
    EXPECT_THAT(Skipped(Index({""}, options)),
                ElementsAre("a.txt: not UTF-8 at byte 4; convert it to UTF-8; its earlier text stays",
                            "l.jsonl:2: 'text' is missing; its earlier text stays"));
  EXPECT_EQ(Snapshot(), before);
  options.remove = {folder_ + "/docs/a.txt"};
  EXPECT_EQ(Index({""}, options).removed, 1u);
  EXPECT_THAT(Ids(), ElementsAre("x"));
}

TEST_F(IndexRunTest, EqualIdsOfLinesNameBothPlaces) {
  Write("d.jsonl",
        "{\"id\": 1, \"text\": \"alpha\"}\n\n{\"id\": \"1\", \"text\": \"beta\"}\n{\"id\": 2, \"text\": \"two\"}\n");
  Write("e.txt", "gamma");
  const std::string duplicate = "d.jsonl:3: its id \"1\" is that of line 1; give one of them another id";
  EXPECT_EQ(Failure({""}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Without(Failure({""}).message()), duplicate);
  EXPECT_THAT(Ids(), IsEmpty());
  IndexOptions options;
  options.keep_going = true;
  for (int run = 0; run < 2; ++run) EXPECT_THAT(Skipped(Index({""}, options)), ElementsAre(duplicate));
  EXPECT_THAT(Ids(), ElementsAre("1", "2", "docs/e.txt"));
  EXPECT_THAT(Found("alpha"), ElementsAre("1"));

  // Across files, the other one being read, unchanged, or not in this run at all.
  Write("d.jsonl", "{\"id\": 7, \"text\": \"seven\"}\n{\"id\": 1, \"text\": \"alpha\"}\n");
  Write("f.jsonl", "{\"id\": 1, \"text\": \"delta\"}\n");
  const std::string across = "f.jsonl:1: its id \"1\" is that of d.jsonl:2; give one of them another id";
  EXPECT_EQ(Without(Failure({""}).message()), across);
  Index({"d.jsonl"});
  EXPECT_EQ(Without(Failure({""}).message()), across);
  EXPECT_EQ(Without(Failure({"f.jsonl"}).message()), across);
  EXPECT_EQ(Without(Skipped(Index({"f.jsonl"}, options)).at(0)), across);
  EXPECT_THAT(Found("delta"), IsEmpty());
  Write("d.jsonl", "{\"id\": 7, \"text\": \"seven\"}\n");  // it is free now, though the corpus does not know it yet
  EXPECT_THAT(Index({"f.jsonl"}, options).skipped, IsEmpty());
  EXPECT_THAT(Found("delta"), ElementsAre("1"));
  EXPECT_TRUE(corpus_->Check().ok());
}

TEST_F(IndexRunTest, EqualIdsMadeOfPathsAskForAFolder) {
  Write("p/s/a.md", "alpha");
  Write("q/s/a.md", "beta");
  const std::string advice = "; index a folder that holds both, so that their paths tell them apart";
  EXPECT_EQ(Without(Failure({"p/s", "q/s"}).message()), "q/s/a.md: its id \"s/a.md\" is that of p/s/a.md" + advice);
  Index({"p/s"});
  EXPECT_EQ(Without(Failure({"q/s"}).message()), "q/s/a.md: its id \"s/a.md\" is that of p/s/a.md" + advice);
  EXPECT_THAT(Index({""}).skipped, IsEmpty());  // as it says
  EXPECT_THAT(Ids(), ElementsAre("docs/q/s/a.md", "s/a.md"));
  Write("l.jsonl", "{\"id\": \"s/a.md\", \"text\": \"x\"}\n");
  EXPECT_EQ(Without(Failure({"l.jsonl"}).message()),
            "l.jsonl:1: its id \"s/a.md\" is that of p/s/a.md; give one of them another id");
}

TEST_F(IndexRunTest, SourcesThatAreGoneAreSaidAndRemovedOnRequest) {
  Write("old/a.txt", "alder");
  Write("old/b.txt", "birch");
  Write("single.txt", "cedar");
  Write("new/c.txt", "dogwood");
  Index({"old", "single.txt", "new"});
  fs::remove_all(folder_ + "/docs/old");
  fs::remove(folder_ + "/docs/single.txt");
  IndexReport report = Index({"new"});
  ASSERT_THAT(report.gone, SizeIs(2));
  EXPECT_EQ(report.gone[0].path, folder_ + "/docs/old");
  EXPECT_EQ(report.gone[0].documents, 2u);
  EXPECT_EQ(report.gone[1].path, folder_ + "/docs/single.txt");
  EXPECT_THAT(Found("alder"), ElementsAre("old/a.txt"));

  EXPECT_EQ(Failure({"new", "old"}).code(), StatusCode::kNotFound);
  EXPECT_EQ(Without(Failure({"new", "old"}).message()),
            "old: is gone, and the corpus still has documents from there (2); remove them with: spanwise index "
            "--remove old --corpus " +
                folder_ + "/corpus");
  EXPECT_THAT(Failure({"old/a.txt"}).message(), HasSubstr("still has documents from there (1)"));
  EXPECT_THAT(Failure({"never"}).message(), testing::EndsWith("never: No such file or directory"));

  IndexOptions options;
  options.remove = {folder_ + "/docs/old/"};
  report = Index({"new"}, options);
  EXPECT_EQ(report.removed, 2u);
  EXPECT_THAT(report.gone, SizeIs(1));
  EXPECT_THAT(Found("alder"), IsEmpty());
  EXPECT_EQ(Failure({}, options).code(), StatusCode::kNotFound);
  EXPECT_EQ(Without(Failure({}, options).message()), "old/: no document of the corpus comes from there");

  options.remove = {};
  options.prune = true;
  report = Index({}, options);
  EXPECT_EQ(report.removed, 1u);
  EXPECT_THAT(report.gone, IsEmpty());
  EXPECT_THAT(Ids(), ElementsAre("new/c.txt"));
  fs::remove(folder_ + "/docs/new/c.txt");
  EXPECT_EQ(Index({}, options).removed, 1u);

  Write("new/d.txt", "elder");
  Index({"new"});
  options = {};
  options.remove = {folder_ + "/docs/new"};  // there or not
  EXPECT_EQ(Index({}, options).removed, 1u);
  EXPECT_THAT(Ids(), IsEmpty());
  EXPECT_TRUE(corpus_->Check().ok());
}

// A process in the middle of a run, until it is killed.
pid_t StartRun(const std::string& folder) {
  int ends[2];
  if (pipe(ends) != 0) return -1;
  const pid_t child = fork();
  if (child == 0) {
    auto corpus = Corpus::Open(folder + "/corpus");
    if (!corpus.ok()) _exit(1);
    const auto report = (*corpus)->Index({folder + "/docs"}, {}, [&](const IndexProgress& p) {
      if (p.files_done == 0) return true;
      if (write(ends[1], "x", 1) == 1) pause();
      return true;
    });
    _exit(2);
  }
  close(ends[1]);
  char byte = 0;
  const bool started = read(ends[0], &byte, 1) == 1;
  close(ends[0]);
  return started ? child : -1;
}

TEST_F(IndexRunTest, AWriterWaitsAsLongAsTheOtherLives) {
  Write("a.txt", "alpha");
  corpus_.reset();
  const pid_t other = StartRun(folder_);
  ASSERT_GT(other, 0);
  std::chrono::milliseconds most(0);
  int calls = 0;
  Reopen({.create = true, .wait = [&](std::chrono::milliseconds waited) {
            most = waited;
            if (++calls > 1 && waited.count() > 300 && kill(other, SIGKILL) == 0) {
              Write("late.txt", "written while it waited");
              waitpid(other, nullptr, 0);
            }
            return waited.count() < 10'000;
          }});
  EXPECT_THAT(Ids(), IsEmpty());  // reading does not wait
  EXPECT_EQ(Index({""}).added, 2u);
  EXPECT_GT(most.count(), 300);
  EXPECT_LT(calls, 40);  // it sleeps between
  EXPECT_THAT(Found("late"), IsEmpty());
  EXPECT_THAT(Found("waited"), ElementsAre("docs/late.txt"));
}

TEST_F(IndexRunTest, ManyProcessesMakeOneCorpus) {
  Write("a.txt", "alpha");
  for (int round = 0; round < 5; ++round) {
    corpus_.reset();
    fs::remove_all(folder_ + "/corpus");
    std::vector<pid_t> children;
    for (int i = 0; i < 4; ++i) {
      children.push_back(fork());
      if (children.back() == 0) {
        auto corpus = Corpus::Open(folder_ + "/corpus", {.create = true});
        if (!corpus.ok()) fprintf(stderr, "%s\n", corpus.status().message().c_str());
        if (!corpus.ok()) _exit(1);
        const auto report = (*corpus)->Index({folder_ + "/docs"});
        if (!report.ok()) fprintf(stderr, "%s\n", report.status().message().c_str());
        _exit(report.ok() ? 0 : 2);
      }
    }
    for (const pid_t child : children) {
      int status = 0;
      waitpid(child, &status, 0);
      EXPECT_EQ(status, 0);
    }
    Reopen();
    EXPECT_THAT(Ids(), ElementsAre("docs/a.txt"));
  }
}

}  // namespace
}  // namespace spanwise::retrieval

// What tests of a corpus share: a folder of documents, a corpus, and what is in it.
#pragma once

#include <gmock/gmock.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/str.h"
#include "retrieval/corpus.h"

namespace spanwise::retrieval {

namespace fs = std::filesystem;

class CorpusTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "corpus_test_" + std::to_string(getpid());
    fs::remove_all(folder_);
    fs::create_directories(folder_ + "/docs");
    Reopen();
  }
  void TearDown() override {
    corpus_.reset();
    fs::remove_all(folder_);
  }

  void Reopen(OpenOptions options = {.create = true}) {
    corpus_.reset();
    auto corpus = Corpus::Open(folder_ + "/corpus", options);
    ASSERT_TRUE(corpus.ok()) << corpus.status().message();
    corpus_ = std::move(*corpus);
  }

  // Files are given times long past, so that their times are trusted; each write a later one.
  void Write(const std::string& name, std::string_view bytes) {
    const std::string path = folder_ + "/docs/" + name;
    fs::create_directories(fs::path(path).parent_path());
    std::ofstream(path, std::ios::binary) << bytes;
    fs::last_write_time(path,
                        fs::file_time_type::clock::now() - std::chrono::hours(24) + std::chrono::seconds(++writes_));
  }

  IndexReport Index(const IndexOptions& options = {}) {
    auto report = corpus_->Index({folder_ + "/docs"}, options);
    EXPECT_TRUE(report.ok()) << report.status().message();
    return report.ok() ? *report : IndexReport{};
  }

  std::vector<std::string> Ids() {
    std::vector<std::string> ids;
    for (const DocumentInfo& d : Documents()) ids.push_back(d.id);
    return ids;
  }

  std::vector<std::string> Found(std::string_view query, const SearchOptions& options = {}) {
    const auto hits = corpus_->Search(query, 10, options);
    EXPECT_TRUE(hits.ok()) << hits.status().message();
    std::vector<std::string> ids;
    if (hits.ok())
      for (const Hit& hit : *hits) ids.push_back(hit.document_id);
    return ids;
  }

  std::vector<StoredChunk> Chunks(const std::string& document_id) {
    auto chunks = corpus_->ReadChunks(document_id);
    EXPECT_TRUE(chunks.ok()) << chunks.status().message();
    return chunks.ok() ? *std::move(chunks) : std::vector<StoredChunk>{};
  }

  std::vector<DocumentInfo> Documents() {
    auto documents = corpus_->ListDocuments();
    EXPECT_TRUE(documents.ok()) << documents.status().message();
    return documents.ok() ? *std::move(documents) : std::vector<DocumentInfo>{};
  }

  // Everything a reader can see.
  std::string Snapshot() {
    std::string all;
    for (const DocumentInfo& d : Documents()) {
      all += StrFormat("{}|{}|{}|{}\n", d.id, d.title, d.metadata_json, corpus_->GetDocument(d.id).value().text);
      for (const StoredChunk& c : Chunks(d.id))
        all += StrFormat("  {} {} {} {} {}\n", c.chunk_id, c.begin, c.end, c.heading_path, c.text);
    }
    return all;
  }

  std::string folder_;
  std::unique_ptr<Corpus> corpus_;
  int writes_ = 0;
};

// Runs `work` in a child process, as a user whom permissions bind where this is root. It says what is wrong, "" for
// nothing; "ended with ..." when it did not end by itself.
template <typename Work>
std::string InAnotherProcess(bool as_nobody, Work work) {
  int ends[2];
  if (pipe(ends) != 0) return "no pipe";
  const pid_t child = fork();
  if (child == 0) {
    constexpr unsigned kNobody = 65534;
    std::string wrong;
    if (as_nobody && geteuid() == 0 && (setgroups(0, nullptr) != 0 || setgid(kNobody) != 0 || setuid(kNobody) != 0))
      wrong = "cannot become nobody";
    if (wrong.empty()) wrong = work();
    const ssize_t written = write(ends[1], wrong.data(), wrong.size());
    _exit(written == static_cast<ssize_t>(wrong.size()) ? 0 : 1);
  }
  close(ends[1]);
  std::string wrong;
  char buffer[4096];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0;) wrong.append(buffer, static_cast<size_t>(n));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  return status == 0 ? wrong : StrFormat("ended with {}: {}", status, wrong);
}

}  // namespace spanwise::retrieval

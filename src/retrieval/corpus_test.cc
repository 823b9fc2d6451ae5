#include "retrieval/corpus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "base/file.h"
#include "base/str.h"
#include "retrieval/test_corpus.h"

namespace spanwise::retrieval {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST_F(CorpusTest, IndexesSearchesAndReadsBack) {
  Write("pump.md", "# Pump\n\nIntro.\n\n## Weight\n\nThe pump weighs 12 kg.\n");
  Write("town.txt", "Zürich\n\nA town by a lake — with swans.\n");
  const IndexReport report = Index();
  EXPECT_EQ(report.added, 2u);
  EXPECT_EQ(report.chunks, 3u);
  EXPECT_EQ(report.chunks_added, 3u);

  const auto hits = corpus_->Search("How much does it weigh?", 5);
  ASSERT_TRUE(hits.ok());
  ASSERT_THAT(*hits, SizeIs(1));
  const Hit& hit = (*hits)[0];
  EXPECT_EQ(hit.document_id, "docs/pump.md");
  EXPECT_EQ(hit.title, "Pump");
  EXPECT_EQ(hit.heading_path, "Pump > Weight");
  EXPECT_EQ(hit.text, "## Weight\n\nThe pump weighs 12 kg.");
  EXPECT_EQ(hit.rank, 1u);
  EXPECT_GT(hit.score, 0);
  EXPECT_EQ(hit.content_hash, Sha256(hit.text));
  const auto document = corpus_->GetDocument(hit.document_id);
  ASSERT_TRUE(document.ok());
  EXPECT_EQ(document->text.substr(hit.begin, hit.end - hit.begin), hit.text);
  EXPECT_EQ(corpus_->ReadChunk(hit.chunk_id).value().text, hit.text);

  EXPECT_THAT(Found("zurich"), ElementsAre("docs/town.txt"));
  EXPECT_THAT(Found("SWAN"), ElementsAre("docs/town.txt"));
  EXPECT_THAT(Found("unheard of"), IsEmpty());
  EXPECT_THAT(Found(""), IsEmpty());
  EXPECT_EQ(corpus_->GetDocument("x").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(corpus_->ReadChunk(99).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(corpus_->ReadChunks("x").status().code(), StatusCode::kNotFound);
  EXPECT_TRUE(corpus_->Check().ok());
}

TEST_F(CorpusTest, ReadsAnUnchangedCorpusNotAtAll) {
  Write("a.md", "# A\n\nalpha");
  Write("b.jsonl", "{\"id\": \"b1\", \"text\": \"beta\"}\n{\"id\": \"b2\", \"text\": \"gamma\"}\n");
  Index();
  const uint64_t generation = corpus_->Stats().value().generation;
  IndexReport report = Index();
  EXPECT_EQ(report.unchanged, 3u);
  EXPECT_EQ(report.files_read, 0u);
  EXPECT_EQ(corpus_->Stats().value().generation, generation);

  Write("a.md", "# A\n\nalpha");  // a new time, the same text
  report = Index();
  EXPECT_EQ(report.files_read, 1u);
  EXPECT_EQ(report.unchanged, 3u);
  EXPECT_EQ(report.chunks_added + report.chunks_removed, 0u);
  EXPECT_EQ(corpus_->Stats().value().generation, generation);

  std::ofstream(folder_ + "/docs/new.txt") << "just written";  // its time cannot be trusted yet
  Index();
  EXPECT_EQ(Index().files_read, 1u);
}

TEST_F(CorpusTest, FollowsChangesAndRemovals) {
  Write("a.md", "# A\n\nalpha");
  Write("b.md", "# B\n\nbeta");
  Write("sub/c.jsonl",
        "{\"id\": \"c1\", \"text\": \"one\"}\n{\"id\": \"c2\", \"text\": \"two\", \"title\": \"Old\"}\n");
  Index();
  const int64_t a_chunk = Chunks("docs/a.md")[0].chunk_id;
  const int64_t c_chunk = Chunks("c2")[0].chunk_id;
  Write("a.md", "# A\n\nalpha changed");
  fs::remove(folder_ + "/docs/b.md");
  Write("sub/c.jsonl",
        "{\"id\": \"c2\", \"text\": \"two\", \"title\": \"Fresh\"}\n{\"id\": \"c3\", \"text\": \"three\"}\n");
  const IndexReport report = Index();
  EXPECT_EQ(report.added, 1u);
  EXPECT_EQ(report.updated, 2u);
  EXPECT_EQ(report.removed, 2u);
  EXPECT_THAT(Ids(), ElementsAre("c2", "c3", "docs/a.md"));
  EXPECT_THAT(Found("alpha"), ElementsAre("docs/a.md"));
  EXPECT_THAT(Found("beta one"), IsEmpty());
  EXPECT_THAT(Found("fresh"), ElementsAre("c2"));
  EXPECT_THAT(Found("old"), IsEmpty());
  EXPECT_EQ(Chunks("c2")[0].chunk_id, c_chunk);  // only its title is new
  EXPECT_EQ(corpus_->ReadChunk(a_chunk).status().code(), StatusCode::kNotFound);
  EXPECT_TRUE(corpus_->Check().ok());

  Write("a.md", "# A\n\nalpha");  // as it was: the text is back, the id is not
  Index();
  EXPECT_GT(Chunks("docs/a.md")[0].chunk_id, a_chunk);
}

TEST_F(CorpusTest, RemovesOnlyWhatIsUnderTheGivenFolder) {
  Write("x/a.md", "alpha");
  Write("y/b.md", "beta");
  Write(".hidden.md", "gamma");
  Index();
  ASSERT_TRUE(corpus_->Index({folder_ + "/docs/.hidden.md"}).ok());
  fs::remove(folder_ + "/docs/x/a.md");
  fs::remove(folder_ + "/docs/y/b.md");
  const auto report = corpus_->Index({folder_ + "/docs/x"});
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->removed, 1u);
  EXPECT_THAT(Ids(), ElementsAre(".hidden.md", "docs/y/b.md"));
  Index();
  EXPECT_THAT(Ids(), ElementsAre(".hidden.md"));
  EXPECT_EQ(corpus_->Index({folder_ + "/gone"}).status().code(), StatusCode::kNotFound);
}

TEST_F(CorpusTest, AFileKeepsItsId) {
  Write("a.md", "alpha");
  Index();
  Write("a.md", "beta");
  const auto report = corpus_->Index({folder_ + "/docs/a.md"});
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->updated, 1u);
  EXPECT_THAT(Ids(), ElementsAre("docs/a.md"));
}

TEST_F(CorpusTest, EqualIdsAreRefusedWhileBothFilesExist) {
  Write("p/s/a.md", "alpha");
  Write("q/s/a.md", "beta");
  ASSERT_TRUE(corpus_->Index({folder_ + "/docs/p/s"}).ok());
  const std::string before = Snapshot();
  auto report = corpus_->Index({folder_ + "/docs/q/s"});
  EXPECT_EQ(report.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(report.status().message(), HasSubstr("/docs/p/s/a.md"));
  EXPECT_THAT(report.status().message(), HasSubstr("/docs/q/s/a.md"));
  EXPECT_EQ(Snapshot(), before);
  fs::remove_all(folder_ + "/docs/p");  // the folder has moved
  report = corpus_->Index({folder_ + "/docs/q/s"});
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_THAT(Ids(), ElementsAre("s/a.md"));
  EXPECT_THAT(Found("beta"), ElementsAre("s/a.md"));
}

TEST_F(CorpusTest, ALineMayMoveBetweenFiles) {
  Write("1.jsonl", "{\"id\": \"x\", \"text\": \"one\"}\n");
  Write("2.jsonl", "{\"id\": \"y\", \"text\": \"two\"}\n");
  Index();
  Write("1.jsonl", "");
  Write("2.jsonl", "{\"id\": \"y\", \"text\": \"two\"}\n{\"id\": \"x\", \"text\": \"one\"}\n");
  Index();
  EXPECT_THAT(Ids(), ElementsAre("x", "y"));
  Write("1.jsonl", "{\"id\": \"x\", \"text\": \"one\"}\n{\"id\": \"y\", \"text\": \"two\"}\n");
  EXPECT_EQ(corpus_->Index({folder_ + "/docs"}).status().code(), StatusCode::kInvalidArgument);
  Write("2.jsonl", "");
  Index();
  EXPECT_THAT(Ids(), ElementsAre("x", "y"));
  EXPECT_EQ(Index().unchanged, 2u);
}

TEST_F(CorpusTest, AFailedOrCancelledRunChangesNothing) {
  for (int i = 0; i < 20; ++i) Write(StrFormat("{:02}.md", i), StrFormat("# T{}\n\nbody number{}", i, i));
  Index();
  const std::string before = Snapshot();
  for (int i = 0; i < 20; i += 2) Write(StrFormat("{:02}.md", i), "# New\n\nother words");
  fs::remove(folder_ + "/docs/03.md");
  for (size_t stop = 0; stop <= 19; ++stop) {
    const auto report =
        corpus_->Index({folder_ + "/docs"}, {}, [&](const IndexProgress& p) { return p.files_done < stop; });
    ASSERT_EQ(report.status().code(), StatusCode::kCancelled);
    ASSERT_EQ(Snapshot(), before);
  }
  Write("19.md", "bad \xff");
  EXPECT_EQ(corpus_->Index({folder_ + "/docs"}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Snapshot(), before);
  Reopen();
  EXPECT_EQ(Snapshot(), before);
  EXPECT_TRUE(corpus_->Check().ok());

  IndexOptions options;
  options.keep_going = true;
  const IndexReport report = Index(options);
  ASSERT_THAT(report.skipped, SizeIs(1));
  EXPECT_THAT(report.skipped[0].path, EndsWith("/docs/19.md"));
  EXPECT_EQ(report.skipped[0].reason, "not UTF-8 at byte 4; convert it to UTF-8; its earlier text stays");
  EXPECT_EQ(report.updated, 10u);
  EXPECT_EQ(report.removed, 1u);
  EXPECT_TRUE(corpus_->GetDocument("docs/19.md").ok());  // the last good text stays
}

TEST_F(CorpusTest, AFullDiskChangesNothing) {
  Write("a.md", "alpha");
  Index();
  const std::string before = Snapshot();
  Reopen({.create = true, .max_bytes = 300'000});
  std::mt19937_64 random(1);
  std::string big;
  for (int i = 0; i < 200'000; ++i) big += StrFormat("w{} ", random() % 100'000);
  Write("big.txt", big);
  const auto report = corpus_->Index({folder_ + "/docs"});
  EXPECT_EQ(report.status().code(), StatusCode::kResourceExhausted) << report.status().message();
  EXPECT_THAT(report.status().message(), HasSubstr("full"));
  EXPECT_EQ(Snapshot(), before);
  EXPECT_TRUE(corpus_->Check().ok());
  Reopen();
  EXPECT_EQ(Index().added, 1u);
}

TEST_F(CorpusTest, ReadersSeeTheOldStateWhileARunWrites) {
  Write("a.md", "alpha");
  Write("b.md", "beta");
  Index();
  Write("a.md", "gamma");
  std::vector<std::string> during;
  const auto report = corpus_->Index({folder_ + "/docs"}, {}, [&](const IndexProgress& p) {
    if (p.files_done == 1) during = Found("alpha");
    return true;
  });
  ASSERT_TRUE(report.ok());
  EXPECT_THAT(during, ElementsAre("docs/a.md"));
  EXPECT_THAT(Found("alpha"), IsEmpty());
  EXPECT_THAT(Found("gamma"), ElementsAre("docs/a.md"));
}

TEST_F(CorpusTest, ManyThreadsSearchWhileOneWrites) {
  for (int i = 0; i < 30; ++i) Write(StrFormat("{:02}.md", i), StrFormat("common term{}", i));
  Index();
  std::atomic<bool> stop{false};
  std::vector<std::thread> readers;
  for (int t = 0; t < 3; ++t)
    readers.emplace_back([&] {
      while (!stop) {
        const auto hits = corpus_->Search("common term5 words", 5);
        ASSERT_TRUE(hits.ok()) << hits.status().message();
        ASSERT_FALSE(hits->empty());
      }
    });
  for (int round = 0; round < 20; ++round) {
    Write(StrFormat("{:02}.md", 6 + round), StrFormat("common changed{}", round));
    Index();
  }
  stop = true;
  for (std::thread& t : readers) t.join();
  EXPECT_TRUE(corpus_->Check().ok());
}

TEST_F(CorpusTest, ASecondWriterWaitsOrIsToldSo) {
  Write("a.md", "alpha");
  auto other =
      Corpus::Open(folder_ + "/corpus", {.wait = [](std::chrono::milliseconds waited) { return waited.count() < 50; }});
  ASSERT_TRUE(other.ok());
  Status meanwhile;
  ASSERT_TRUE(corpus_
                  ->Index({folder_ + "/docs"}, {},
                          [&](const IndexProgress& p) {
                            if (p.files_done == 1) meanwhile = (*other)->DeleteDocument("x");
                            return true;
                          })
                  .ok());
  EXPECT_EQ(meanwhile.code(), StatusCode::kUnavailable);
  EXPECT_THAT(meanwhile.message(), HasSubstr("another process"));
  EXPECT_EQ((*other)->DeleteDocument("x").code(), StatusCode::kNotFound);
}

TEST_F(CorpusTest, AddsReplacesAndDeletesDocuments) {
  SourceDocument a{.id = "a", .title = "", .text = "Alpha\n\nthe first", .metadata_json = "{\"k\":1}", .path = {}};
  SourceDocument b{.id = "b", .title = "Beta", .text = "the second", .metadata_json = "", .path = {}};
  auto report = corpus_->AddDocuments({a, b});
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_EQ(report->added, 2u);
  EXPECT_EQ(corpus_->GetDocument("a").value().title, "Alpha");
  EXPECT_EQ(corpus_->GetDocument("a").value().metadata_json, "{\"k\":1}");
  EXPECT_EQ(corpus_->GetDocument("b").value().metadata_json, "{}");
  b.text = "the third";
  report = corpus_->AddDocuments({a, b});
  EXPECT_EQ(report.value().unchanged, 1u);
  EXPECT_EQ(report.value().updated, 1u);
  EXPECT_EQ(corpus_->ListDocuments("a", 5).value().size(), 1u);
  EXPECT_EQ(corpus_->ListDocuments("", 1).value()[0].id, "a");

  EXPECT_FALSE(corpus_->ReadChunks("b").value()[0].cache_salt);
  for (const std::string salt : {"", "group \\\"7\\\""}) {
    b.metadata_json = "{\"cache_salt\":\"" + salt + "\"}";
    EXPECT_EQ(corpus_->AddDocuments({b}).value().updated, 1u);
    const std::string read = salt.empty() ? "" : "group \"7\"";
    EXPECT_EQ(corpus_->ReadChunks("b").value()[0].cache_salt, read);
    EXPECT_EQ(corpus_->Search("third", 1).value()[0].cache_salt, read);
  }
  b.metadata_json = "{\"cache_salt\":\"" + std::string(Document::kMostSaltBytes + 1, 'x') + "\"}";
  EXPECT_EQ(corpus_->AddDocuments({b}).status().code(), StatusCode::kResourceExhausted);
  b.metadata_json = "{}";

  EXPECT_TRUE(corpus_->DeleteDocument("a").ok());
  EXPECT_EQ(corpus_->DeleteDocument("a").code(), StatusCode::kNotFound);
  EXPECT_THAT(Found("first"), IsEmpty());
  EXPECT_EQ(corpus_->Stats().value().documents, 1u);

  EXPECT_EQ(corpus_->AddDocuments({a, a}).status().code(), StatusCode::kInvalidArgument);
  SourceDocument bad = a;
  bad.text = "x\xff";
  EXPECT_EQ(corpus_->AddDocuments({b, bad}).status().code(), StatusCode::kInvalidArgument);
  bad = a;
  bad.id.clear();
  EXPECT_EQ(corpus_->AddDocuments({bad}).status().code(), StatusCode::kInvalidArgument);
  bad = a;
  bad.metadata_json = "[1]";
  EXPECT_EQ(corpus_->AddDocuments({bad}).status().code(), StatusCode::kInvalidArgument);
}

TEST_F(CorpusTest, FilesAndAddedDocumentsDoNotMix) {
  Write("a.md", "alpha");
  Index();
  const SourceDocument direct{.id = "docs/a.md", .title = "", .text = "omega", .metadata_json = "{}", .path = {}};
  EXPECT_THAT(corpus_->AddDocuments({direct}).status().message(), HasSubstr("comes from the file"));
  EXPECT_TRUE(corpus_->DeleteDocument("docs/a.md").ok());
  ASSERT_TRUE(corpus_->AddDocuments({direct}).ok());
  Index();  // the file is there again, and takes its id back
  EXPECT_THAT(Found("alpha"), ElementsAre("docs/a.md"));
}

// Ten thousand random strings, none of which may reach the query language.
TEST_F(CorpusTest, AnyBytesAreAQuery) {
  Write("a.md", "# Alpha \"beta\" NEAR AND OR NOT\n\ngamma-delta title: x* ^y {z} (w) + it's 東京都の人口 ไทย");
  Write("b.md", "second NEAR the others");
  Index();
  std::mt19937_64 random(5);
  static constexpr std::string_view kParts[] = {
      "\"",   "'",    "*",  "AND ", "OR ",     "NOT ", "NEAR(", ")",  "(",           ":",  "-",
      "+",    "^",    "{",  "}",    "title",   ";--",  "alpha", " ",  "東",          "京", "\xff",
      "\xe6", "\xb1", "ไท", "é",    "e\u0301", ",",    "%",     "\\", "gamma-delta", "ª"};
  for (int i = 0; i < 10'000; ++i) {
    std::string query;
    for (size_t n = random() % 30; n > 0; --n) {
      if (i % 2) {
        query += static_cast<char>(random() % 256);
      } else {
        query += kParts[random() % std::size(kParts)];
      }
    }
    const auto hits = corpus_->Search(query, 3);
    ASSERT_TRUE(hits.ok()) << Quoted(query) << ": " << hits.status().message();
  }
  EXPECT_TRUE(corpus_->Search(std::string(1 << 20, 'a'), 3).ok());
  std::string many;
  for (int i = 0; i < 5000; ++i) many += StrFormat("alpha{} ", i);
  EXPECT_TRUE(corpus_->Search(many + "alpha", 3).ok());
}

TEST_F(CorpusTest, FindsAnyPartOfTextWithoutSpaces) {
  Write("ja.txt", "東京都の人口は多い。");
  Write("en.txt", "Tokyo has many inhabitants.");
  Index();
  for (const char* query : {"東京", "京都", "人口", "東京都", "東", "都", "い", "東京都の人口", "人口は?"})
    EXPECT_THAT(Found(query), ElementsAre("docs/ja.txt")) << query;
  EXPECT_THAT(Found("京東"), IsEmpty());
  EXPECT_THAT(Found("都東京"), ElementsAre("docs/ja.txt"));  // a part of it is there
}

TEST_F(CorpusTest, RanksTitlesFirstAndTiesById) {
  Write("1.md", "# Other\n\nswans and lakes and more text");
  Write("2.md", "# Swans\n\nlakes and more text and others");
  Write("3.txt", "identical words here");
  Write("4.txt", "identical words here");
  for (int i = 0; i < 10; ++i) Write(StrFormat("f{}.txt", i), StrFormat("filler number {}", i));
  Index();
  EXPECT_THAT(Found("swans"), ElementsAre("docs/2.md", "docs/1.md"));
  EXPECT_THAT(Found("identical"), ElementsAre("docs/3.txt", "docs/4.txt"));
  SearchOptions options;
  options.document_ids = {"docs/1.md", "docs/4.txt", "absent"};
  EXPECT_THAT(Found("swans identical", options), ElementsAre("docs/4.txt", "docs/1.md"));
  options.document_ids = std::vector<std::string>{};
  EXPECT_THAT(Found("swans", options), IsEmpty());
  EXPECT_TRUE(corpus_->Search("swans", 0).value().empty());
  EXPECT_EQ(corpus_->Search("swans", SIZE_MAX).value().size(), 2u);
}

TEST_F(CorpusTest, LimitsChunksOfOneDocument) {
  std::string text;
  for (int i = 0; i < 6; ++i) text += StrFormat("## Part {}\n\nswans again\n\n", i);
  Write("long.md", text);
  Write("short.md", "one swan");
  for (int i = 0; i < 10; ++i) Write(StrFormat("f{}.txt", i), StrFormat("filler number {}", i));
  Index();
  EXPECT_THAT(Found("swans"), SizeIs(7));
  SearchOptions options;
  options.max_per_document = 1;
  EXPECT_THAT(Found("swans", options), SizeIs(2));
}

// Random edits of a long document: chunks that are still there keep their ids, new text never gets an old one.
TEST_F(CorpusTest, EditsKeepTheIdsOfUntouchedChunks) {
  std::mt19937_64 random(9);
  const auto paragraph = [&] {
    std::string p;
    for (size_t words = 20 + random() % 100; words > 0; --words) p += StrFormat("wörd{} ", random() % 3000);
    return p + "ende.";
  };
  std::vector<std::string> paragraphs;
  for (int i = 0; i < 60; ++i) paragraphs.push_back(paragraph());
  std::map<int64_t, std::string> ever;
  std::map<std::string, int64_t> ids_before;
  for (int round = 0; round < 40; ++round) {
    const size_t at = random() % paragraphs.size();
    switch (random() % 3) {
      case 0:
        paragraphs[at] = paragraph();
        break;
      case 1:
        paragraphs.insert(paragraphs.begin() + static_cast<std::ptrdiff_t>(at), paragraph());
        break;
      default:
        paragraphs.erase(paragraphs.begin() + static_cast<std::ptrdiff_t>(at));
        break;
    }
    std::string text;
    for (const std::string& p : paragraphs) text += p + "\n\n";
    Write("long.txt", text);
    const IndexReport report = Index();
    if (round > 0) {
      EXPECT_LE(report.chunks_removed, 3u);
      EXPECT_LE(report.chunks_added, 4u);
    }
    const auto document = corpus_->GetDocument("docs/long.txt");
    ASSERT_TRUE(document.ok());
    ASSERT_EQ(document->text, text);
    std::map<std::string, int64_t> ids;
    for (const StoredChunk& c : Chunks("docs/long.txt")) {
      ASSERT_EQ(text.substr(c.begin, c.end - c.begin), c.text);
      const auto [it, fresh] = ever.emplace(c.chunk_id, c.text);
      ASSERT_EQ(it->second, c.text) << "id " << c.chunk_id << " was used again";
      if (const auto old = ids_before.find(c.text); old != ids_before.end()) {
        EXPECT_EQ(old->second, c.chunk_id);
      }
      ids[c.text] = c.chunk_id;
    }
    ids_before = std::move(ids);
  }
  EXPECT_TRUE(corpus_->Check().ok());
}

TEST_F(CorpusTest, OtherChunkOptionsCutAnew) {
  std::string text;
  for (int i = 0; i < 50; ++i) text += StrFormat("Sentence number {} of the text. ", i);
  Write("a.txt", text);
  Index();
  const size_t n = corpus_->Stats().value().chunks;
  IndexOptions options;
  options.chunk.max_tokens = 40;
  options.chunk.cut_tokens = 20;
  IndexReport report = Index(options);
  EXPECT_EQ(report.updated, 1u);
  EXPECT_GT(report.chunks, 2 * n);
  EXPECT_EQ(Index(options).files_read, 0u);
  options.rechunk = true;
  report = Index(options);
  EXPECT_EQ(report.files_read, 1u);
  EXPECT_EQ(report.chunks_added, 0u);
  EXPECT_EQ(corpus_->GetDocument("docs/a.txt").value().text, text);
}

TEST_F(CorpusTest, EmptyAndBlankDocumentsAreKept) {
  Write("empty.txt", "");
  Write("blank.md", "\n \n");
  EXPECT_EQ(Index().added, 2u);
  EXPECT_EQ(corpus_->GetDocument("docs/blank.md").value().text, "\n \n");
  EXPECT_EQ(corpus_->GetDocument("docs/blank.md").value().title, "blank");
  EXPECT_THAT(Chunks("docs/empty.txt"), IsEmpty());
}

TEST_F(CorpusTest, OpenSaysWhatIsWrong) {
  EXPECT_EQ(Corpus::Open(folder_ + "/none").status().code(), StatusCode::kNotFound);
  EXPECT_THAT(Corpus::Open(folder_ + "/none").status().message(), HasSubstr("spanwise index"));
  Write("a.md", "alpha");
  Index();
  corpus_.reset();
  const std::string path = folder_ + "/corpus/meta.db";

  sqlite3* raw = nullptr;
  ASSERT_EQ(sqlite3_open(path.c_str(), &raw), SQLITE_OK);
  sqlite3_exec(raw, "PRAGMA user_version = 99", nullptr, nullptr, nullptr);
  sqlite3_close(raw);
  EXPECT_EQ(Corpus::Open(folder_ + "/corpus").status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(Corpus::Open(folder_ + "/corpus").status().message(), HasSubstr("format 99, this program reads 2"));

  fs::create_directories(folder_ + "/other");
  ASSERT_EQ(sqlite3_open((folder_ + "/other/meta.db").c_str(), &raw), SQLITE_OK);
  sqlite3_exec(raw, "CREATE TABLE t(x)", nullptr, nullptr, nullptr);
  sqlite3_close(raw);
  EXPECT_EQ(Corpus::Open(folder_ + "/other", {.create = true}).status().code(), StatusCode::kCorruption);

  std::ofstream(path, std::ios::binary) << std::string(10'000, 'x');
  const auto garbage = Corpus::Open(folder_ + "/corpus", {.create = true});
  EXPECT_EQ(garbage.status().code(), StatusCode::kCorruption);
  EXPECT_THAT(garbage.status().message(), HasSubstr("meta.db"));

  std::ofstream(folder_ + "/file") << "x";
  EXPECT_EQ(Corpus::Open(folder_ + "/file", {.create = true}).status().code(), StatusCode::kInvalidArgument);
}

// Flipped bytes anywhere give an answer or an error, never a crash; most are found by Check.
TEST_F(CorpusTest, DamageIsAnError) {
  for (int i = 0; i < 20; ++i) Write(StrFormat("{}.md", i), StrFormat("# T{}\n\nwords number{} and others", i, i));
  Index();
  corpus_.reset();
  const std::string path = folder_ + "/corpus/meta.db";
  const std::string bytes = ReadFile(path).value();
  std::mt19937_64 random(2);
  IndexOptions rechunk;
  rechunk.rechunk = true;
  for (int round = 0; round < 150; ++round) {
    std::string damaged = bytes;
    if (round % 5 == 0) {
      damaged.resize(random() % damaged.size());
    } else {
      for (int i = 0; i < 40; ++i) damaged[random() % damaged.size()] = static_cast<char>(random());
    }
    for (const char* suffix : {"", "-wal", "-shm"}) fs::remove(path + suffix);
    std::ofstream(path, std::ios::binary) << damaged;
    auto corpus = Corpus::Open(folder_ + "/corpus");
    if (!corpus.ok()) continue;
    static_cast<void>((*corpus)->Search("number3 words", 5));
    static_cast<void>((*corpus)->ListDocuments());
    static_cast<void>((*corpus)->GetDocument("docs/3.md"));
    static_cast<void>((*corpus)->ReadChunks("docs/4.md"));
    static_cast<void>((*corpus)->Check());
    static_cast<void>((*corpus)->Index({folder_ + "/docs"}, rechunk));
  }
}

TEST_F(CorpusTest, FindsOtherFormsOfAWordInTheOnlyDocument) {
  Write("a.txt", "Вес насоса в подвале");
  Index();
  for (const char* query : {"насос", "насосы", "насосами", "НАСОСА"})
    EXPECT_THAT(Found(query), ElementsAre("docs/a.txt")) << query;
  EXPECT_THAT(Found("часы"), IsEmpty());
}

TEST_F(CorpusTest, FindsWordsAsReadersTakeThem) {
  Write("pdf.txt", "The ﬁlter of the oﬃce stands in the pump\u00ADhouse.");
  Write("el.txt", "Η Αθήνα είναι πόλη.");
  Write("ru.txt", "Ёлка стоит в доме.");
  Write("de.txt", "Die Straße ist neu.");
  Write("tr.txt", "IĞDIR ve İstanbul uzakta.");
  Write("wide.txt", "型番 ＡＢＣ１２３ は ２５ 個、ポンプ。");
  Write("zh.txt", "水泵重十四公斤。");
  Write("ja.txt", "モーターの重さは14キロです。");
  Index();
  const std::vector<std::pair<const char*, const char*>> cases = {{"filter", "pdf"},
                                                                  {"office", "pdf"},
                                                                  {"pumphouse", "pdf"},
                                                                  {"αθηνα", "el"},
                                                                  {"ΑΘΗΝΑ", "el"},
                                                                  {"елка", "ru"},
                                                                  {"STRASSE", "de"},
                                                                  {"strasse", "de"},
                                                                  {"ığdır", "tr"},
                                                                  {"Iğdır", "tr"},
                                                                  {"istanbul", "tr"},
                                                                  {"ISTANBUL", "tr"},
                                                                  {"25", "wide"},
                                                                  {"abc123", "wide"},
                                                                  {"ﾎﾟﾝﾌﾟ", "wide"},
                                                                  {"水泵重多少公斤？", "zh"},
                                                                  {"水", "zh"},
                                                                  {"水泵 重", "zh"},
                                                                  {"モーターの重さは何キロですか？", "ja"}};
  for (const auto& [query, document] : cases)
    EXPECT_THAT(Found(query), testing::Contains(StrFormat("docs/{}.txt", document))) << query;
  EXPECT_THAT(Found("水泵重多少公斤？")[0], "docs/zh.txt");
}

}  // namespace
}  // namespace spanwise::retrieval

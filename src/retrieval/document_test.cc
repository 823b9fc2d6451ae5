#include "retrieval/document.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace spanwise::retrieval {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class DocumentTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "document_test_" + std::to_string(getpid());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string Write(const std::string& name, std::string_view bytes) {
    std::string path = folder_ + "/" + name;
    fs::create_directories(fs::path(path).parent_path());
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }

  std::string folder_;
};

std::vector<std::string> Ids(const std::vector<SourceDocument>& documents) {
  std::vector<std::string> ids;
  for (const SourceDocument& d : documents) ids.push_back(d.id);
  return ids;
}

TEST_F(DocumentTest, WalksAFolderInOrderAndReportsWhatItSkips) {
  Write("docs/b.md", "# B\n");
  Write("docs/a/z.txt", "z");
  Write("docs/notes.jsonl", "{\"id\": \"n1\", \"text\": \"one\"}\n\n{\"text\": \"two\"}\n");
  Write("docs/.hidden.md", "no");
  Write("docs/.git/x.md", "no");
  Write("docs/page.html", "<p>");
  Write("docs/data.bin", "?");
  fs::create_directory_symlink(folder_ + "/docs", folder_ + "/docs/loop");

  const auto listing = ListSources({folder_ + "/docs/"});
  ASSERT_TRUE(listing.ok()) << listing.status().message();
  std::vector<std::string> ids;
  for (const SourceFile& f : listing->files) ids.push_back(f.id);
  EXPECT_THAT(ids, ElementsAre("docs/a/z.txt", "docs/b.md", "docs/notes.jsonl"));
  EXPECT_THAT(listing->roots, ElementsAre(folder_ + "/docs"));
  ASSERT_EQ(listing->skipped.size(), 3u);
  EXPECT_THAT(listing->skipped[0].reason, HasSubstr("symbolic link"));
  EXPECT_THAT(listing->skipped[1].path, HasSubstr("data.bin"));
  EXPECT_THAT(listing->skipped[2].reason, HasSubstr("not supported yet"));

  fs::remove(folder_ + "/docs/page.html");
  fs::remove(folder_ + "/docs/data.bin");
  fs::remove(folder_ + "/docs/loop");
  const auto documents = ReadDocuments({folder_ + "/docs"});
  ASSERT_TRUE(documents.ok()) << documents.status().message();
  EXPECT_THAT(Ids(*documents), ElementsAre("docs/a/z.txt", "docs/b.md", "n1", "docs/notes.jsonl#3"));
}

TEST_F(DocumentTest, NamesWhatItCannotRead) {
  const auto expect = [&](const std::string& path, StatusCode code, const std::string& part) {
    const auto documents = ReadDocuments({path});
    ASSERT_FALSE(documents.ok());
    EXPECT_EQ(documents.status().code(), code);
    EXPECT_THAT(documents.status().message(), StartsWith(path));
    EXPECT_THAT(documents.status().message(), HasSubstr(part));
  };
  expect(folder_ + "/none.md", StatusCode::kNotFound, "No such file");
  expect(Write("a.PDF", "%PDF"), StatusCode::kUnimplemented, ".pdf");
  expect(Write("a.html", "<p>"), StatusCode::kUnimplemented, ".html");
  expect(Write("a.exe", "MZ"), StatusCode::kInvalidArgument, ".exe");
  expect(Write("README", "x"), StatusCode::kInvalidArgument, "without an ending");
  expect(Write("bad.txt", "abc\xff"), StatusCode::kInvalidArgument, "not UTF-8 at byte 3");
  expect(Write("utf16.txt", std::string("\xff\xfe"
                                        "a\0",
                                        4)),
         StatusCode::kInvalidArgument, "UTF-16");
  expect(Write("nul.md", std::string("a\0b", 3)), StatusCode::kInvalidArgument, "NUL byte at byte 1");

  DocumentLimits limits;
  limits.max_text_bytes = 10;
  const auto big = ReadDocuments({Write("big.txt", std::string(20, 'x'))}, limits);
  EXPECT_EQ(big.status().code(), StatusCode::kResourceExhausted);
}

TEST_F(DocumentTest, NamesTheLineOfABadJsonLine) {
  const std::string good = "{\"id\": \"a\", \"text\": \"t\"}\n";
  const auto expect = [&](std::string_view line, const std::string& part,
                          StatusCode code = StatusCode::kInvalidArgument) {
    const std::string path = Write("lines.jsonl", good + std::string(line) + "\n" + good);
    DocumentLimits limits;
    limits.max_line_bytes = 1000;
    limits.max_text_bytes = 500;
    const auto documents = ReadDocuments({path}, limits);
    ASSERT_FALSE(documents.ok()) << line;
    EXPECT_EQ(documents.status().code(), code) << documents.status().message();
    EXPECT_THAT(documents.status().message(), StartsWith(path + ":2"));
    EXPECT_THAT(documents.status().message(), HasSubstr(part));
  };
  expect("{\"id\": \"b\"}", "'text' is missing");
  expect("{\"text\": null}", "'text' is missing");
  expect("{\"text\": 5}", "'text' is an integer");
  expect("{\"text\": \"x\", \"title\": []}", "'title' is an array");
  expect("{\"text\": \"x\", \"id\": {}}", "'id' is an object");
  expect("{\"text\": \"x\", \"id\": \"\"}", "'id' is empty");
  expect("{\"text\": \"x\", \"id\": \"a\\nb\"}", "control character");
  expect("{\"text\": \"x\", \"metadata\": \"m\"}", "'metadata' is a string");
  expect("{\"text\": \"x\", \"metadata\": {\"cache_salt\": 1}}", "'metadata.cache_salt' is an integer");
  expect("{\"text\": \"x\", \"metadata\": {\"cache_salt\": null}}", "'metadata.cache_salt' is null");
  expect("[1]", "an array");
  expect("{\"text\": \"x\"", "JSON");
  expect("{\"text\": \"x\"} y", "follows");
  expect("{\"text\": \"\xff\"}", "not UTF-8 at byte 10");
  expect("{\"text\": \"\\ud800\"}", "JSON");
  expect("{\"text\": \"a\\u0000b\"}", "NUL byte at byte 1");
  expect("{\"text\": \"" + std::string(2000, 'x') + "\"}", "2012 bytes", StatusCode::kResourceExhausted);
  expect("{\"text\": \"" + std::string(600, 'x') + "\"}", "600 bytes of text", StatusCode::kResourceExhausted);
  expect(std::string(100, '['), "JSON");
}

TEST_F(DocumentTest, RefusesALineWithoutEnd) {
  DocumentLimits limits;
  limits.max_line_bytes = 1 << 20;
  const std::string path = Write("endless.jsonl", "{}" + std::string(3 << 20, ' '));
  const auto documents = ReadDocuments({path}, limits);
  EXPECT_EQ(documents.status().code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(documents.status().message(), StartsWith(path + ":1: a line of"));
}

TEST_F(DocumentTest, ReadsAllMembersAndBothLineEnds) {
  const auto documents = ReadDocuments(
      {Write("l.jsonl",
             "\xEF\xBB\xBF{\"id\": 7, \"title\": \"T\", \"text\": \"caf\\u00e9\", \"metadata\": {\"k\": [1]}}\r\n"
             "{\"id\": \"x\", \"text\": \"Short title\\n\\nBody.\", \"other\": 1}")});
  ASSERT_TRUE(documents.ok()) << documents.status().message();
  ASSERT_EQ(documents->size(), 2u);
  EXPECT_EQ((*documents)[0].id, "7");
  EXPECT_EQ((*documents)[0].title, "T");
  EXPECT_EQ((*documents)[0].text, "café");
  EXPECT_EQ((*documents)[0].metadata_json, "{\"k\":[1]}");
  EXPECT_EQ((*documents)[1].title, "Short title");
}

TEST_F(DocumentTest, RefusesEqualIdsNamingBoth) {
  const std::string a = Write("a/x.md", "one"), b = Write("b/x.md", "two");
  const auto documents = ReadDocuments({a, b});
  ASSERT_FALSE(documents.ok());
  EXPECT_THAT(documents.status().message(), HasSubstr(a));
  EXPECT_THAT(documents.status().message(), HasSubstr(b));
  EXPECT_THAT(documents.status().message(), HasSubstr("\"x.md\""));
  const auto once = ReadDocuments({a, a, folder_ + "/a/../a/x.md"});  // the same file is no second document
  ASSERT_TRUE(once.ok()) << once.status().message();
  EXPECT_EQ(once->size(), 1u);
}

TEST_F(DocumentTest, RemovesTheByteOrderMark) {
  const auto documents = ReadDocuments({Write("bom.md", "\xEF\xBB\xBF# Title\n\ntext")});
  ASSERT_TRUE(documents.ok());
  EXPECT_EQ((*documents)[0].text, "# Title\n\ntext");
  EXPECT_EQ((*documents)[0].title, "Title");
}

TEST(TitleOf, TakesAHeadingOrAShortFirstLine) {
  using enum DocumentFormat;
  EXPECT_EQ(TitleOf("```\n# code\n```\n\n## The *pump* ##\n", kMarkdown), "The *pump*");
  EXPECT_EQ(TitleOf("Pump\n====\nText", kMarkdown), "Pump");
  EXPECT_EQ(TitleOf("Intro.\n\n# Later\n", kMarkdown), "Later");
  EXPECT_EQ(TitleOf("# not a heading here\n", kText), "# not a heading here");
  EXPECT_EQ(TitleOf("\n\nDruvenby\n\nDruvenby is a town.", kText), "Druvenby");
  EXPECT_EQ(TitleOf("Druvenby is a town.", kText), "");
  EXPECT_EQ(TitleOf("Druvenby is a market town which\nlies on the Druven.", kText), "");
  EXPECT_EQ(TitleOf(std::string(81, 'x'), kText), "");
  EXPECT_EQ(TitleOf("", kMarkdown), "");
}

}  // namespace
}  // namespace spanwise::retrieval

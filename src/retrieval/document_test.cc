#include "retrieval/document.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
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

  // "path below folder_: reason", and a star where something may be unread.
  std::vector<std::string> Skipped(const std::vector<SkippedFile>& skipped) const {
    std::vector<std::string> lines;
    for (const SkippedFile& file : skipped) {
      EXPECT_THAT(file.path, StartsWith(folder_ + "/"));
      EXPECT_THAT(file.absolute, StartsWith(folder_ + "/"));
      lines.push_back(file.path.substr(folder_.size() + 1) + ": " + file.reason + (file.unread ? " *" : ""));
    }
    return lines;
  }

  std::string folder_;
};

std::vector<std::string> Ids(const DocumentSet& set) {
  std::vector<std::string> ids;
  for (const SourceDocument& d : set.documents) ids.push_back(d.id);
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
  ASSERT_EQ(listing->roots.size(), 1u);
  EXPECT_EQ(listing->roots[0].path, folder_ + "/docs/");
  EXPECT_EQ(listing->roots[0].absolute, folder_ + "/docs");
  EXPECT_THAT(Skipped(listing->skipped),
              ElementsAre("docs/data.bin: \".bin\" is no document type; .txt, .md and .jsonl are read",
                          "docs/loop: a symbolic link to a folder is not followed",
                          "docs/page.html: .html files are not supported yet; convert it to .md or .txt"));

  const auto documents = ReadDocuments({folder_ + "/docs"});
  ASSERT_TRUE(documents.ok()) << documents.status().message();
  EXPECT_THAT(Ids(*documents), ElementsAre("docs/a/z.txt", "docs/b.md", "n1", "docs/notes.jsonl#3"));
  EXPECT_EQ(documents->skipped.size(), 3u);
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
  for (const std::string_view utf16 : {std::string_view("\xff\xfe\x61\0", 4), std::string_view("\xfe\xff\0a", 4),
                                       std::string_view("{\0\"\0i\0d\0", 8), std::string_view("\0{\0\"", 4)})
    for (const char* name : {"utf16.txt", "utf16.jsonl"})
      expect(Write(name, utf16), StatusCode::kInvalidArgument,
             ": is UTF-16, expected UTF-8; convert it (iconv -f UTF-16");
  expect(Write("utf32.md", std::string_view("\xff\xfe\0\0a\0\0\0", 8)), StatusCode::kInvalidArgument, ": is UTF-32");
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
  ASSERT_EQ(documents->documents.size(), 2u);
  EXPECT_EQ(documents->documents[0].id, "7");
  EXPECT_EQ(documents->documents[0].title, "T");
  EXPECT_EQ(documents->documents[0].text, "café");
  EXPECT_EQ(documents->documents[0].metadata_json, "{\"k\":[1]}");
  EXPECT_EQ(documents->documents[1].title, "Short title");
}

// What is in a folder must neither stop the others nor block.
TEST_F(DocumentTest, PassesOverWhatCannotBeReadInAFolder) {
  Write("docs/a.txt", "alpha");
  Write("docs/latin.txt",
        "Gr\xf6\xdf"
        "e");
  Write("docs/bad.jsonl", "{\"id\": \"x\", \"text\": \"one\"}\n{\"id\": 2}\n");
  Write("docs/photo.png", "\x89PNG");
  Write("docs/new\nline.bin", "?");
  Write("docs/name\xff.txt", "beta");
  fs::create_symlink("nowhere.txt", folder_ + "/docs/dangling.txt");
  fs::create_symlink("round.txt", folder_ + "/docs/round.txt");
  fs::create_symlink("/dev/zero", folder_ + "/docs/zero.txt");
  ASSERT_EQ(mkfifo((folder_ + "/docs/pipe.jsonl").c_str(), 0600), 0);
  const auto documents = ReadDocuments({folder_ + "/docs"});
  ASSERT_TRUE(documents.ok()) << documents.status().message();
  EXPECT_THAT(Ids(*documents), ElementsAre("docs/a.txt"));
  EXPECT_THAT(Skipped(documents->skipped),
              ElementsAre("docs/dangling.txt: No such file or directory", "docs/name\xff.txt: the name is not UTF-8",
                          "docs/new\nline.bin: \".bin\" is no document type; .txt, .md and .jsonl are read",
                          "docs/photo.png: \".png\" is no document type; .txt, .md and .jsonl are read",
                          "docs/pipe.jsonl: is not a regular file", "docs/round.txt: Too many levels of symbolic links",
                          "docs/zero.txt: is not a regular file", "docs/bad.jsonl:2: 'text' is missing *",
                          "docs/latin.txt: not UTF-8 at byte 2; convert it to UTF-8 *"));
}

TEST_F(DocumentTest, AFolderWithoutDocumentsIsAnError) {
  fs::create_directories(folder_ + "/empty");
  Write("pictures/a.png", "?");
  Write("pictures/b.png", "?");
  Write("docs/a.txt", "alpha");
  EXPECT_EQ(ReadDocuments({folder_ + "/docs", folder_ + "/empty"}).status().message(),
            folder_ + "/empty: the folder holds no document (.txt, .md and .jsonl are read)");
  const auto pictures = ReadDocuments({folder_ + "/pictures"});
  EXPECT_EQ(pictures.status().code(), StatusCode::kNotFound);
  EXPECT_EQ(pictures.status().message(),
            folder_ + "/pictures: the folder holds no document (.txt, .md and .jsonl are read); 2 skipped, the first " +
                folder_ + "/pictures/a.png: \".png\" is no document type; .txt, .md and .jsonl are read");
  EXPECT_TRUE(ReadDocuments({folder_ + "/docs/a.txt", folder_ + "/docs"}).ok());  // what it holds is there already
}

TEST_F(DocumentTest, TellsFilesApartByTheirPaths) {
  const std::string a = Write("p/x/README.md", "one"), b = Write("p/y/README.md", "two"), c = Write("p/c.md", "three");
  const std::string d = Write("q/y/README.md", "four");
  const auto ids = [&](const std::vector<std::string>& arguments) {
    const auto documents = ReadDocuments(arguments);
    EXPECT_TRUE(documents.ok()) << documents.status().message();
    return documents.ok() ? Ids(*documents) : std::vector<std::string>();
  };
  EXPECT_THAT(ids({a}), ElementsAre("README.md"));
  EXPECT_THAT(ids({a, b, c}), ElementsAre("x/README.md", "y/README.md", "c.md"));
  EXPECT_THAT(ids({a, b, d}), ElementsAre("x/README.md", "p/y/README.md", "q/y/README.md"));
  EXPECT_THAT(ids({folder_ + "/p/y", folder_ + "/q/y", a}), ElementsAre("p/y/README.md", "q/y/README.md", "README.md"));
  EXPECT_THAT(ids({a, a, folder_ + "/p/x/../x/README.md", folder_ + "/p/x"}), ElementsAre("README.md"));
  const std::string e = Write("q/y/l.jsonl", "{\"text\": \"x\"}"), f = Write("p/y/l.jsonl", "\n{\"text\": \"y\"}");
  EXPECT_THAT(ids({e, f}), ElementsAre("q/y/l.jsonl#1", "p/y/l.jsonl#2"));
}

TEST_F(DocumentTest, RefusesEqualIdsNamingBothPlaces) {
  const std::string a = Write("a.jsonl", "{\"id\": 1, \"text\": \"one\"}\n\n{\"id\": \"1\", \"text\": \"two\"}\n");
  EXPECT_EQ(ReadDocuments({a}).status().message(),
            a + ":3: its id \"1\" is that of line 1; give one of them another id");
  const std::string b = Write("b.jsonl", "{\"id\": \"x\", \"text\": \"one\"}\n");
  const std::string c = Write("c.jsonl", "{\"text\": \"one\"}\n{\"id\": \"x\", \"text\": \"two\"}\n");
  const auto both = ReadDocuments({b, c});
  EXPECT_EQ(both.status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(both.status().message(), c + ":2: its id \"x\" is that of " + b + ":1; give one of them another id");
}

TEST_F(DocumentTest, RemovesTheByteOrderMark) {
  const auto documents = ReadDocuments({Write("bom.md", "\xEF\xBB\xBF# Title\n\ntext")});
  ASSERT_TRUE(documents.ok());
  EXPECT_EQ(documents->documents[0].text, "# Title\n\ntext");
  EXPECT_EQ(documents->documents[0].title, "Title");
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

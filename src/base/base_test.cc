#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <thread>

#include "base/checked.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/str.h"
#include "base/thread_pool.h"

namespace spanwise {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Str, SplitsTrimsAndQuotes) {
  EXPECT_THAT(Split("a,,b", ','), ElementsAre("a", "", "b"));
  EXPECT_EQ(Trim(" \t x y\n"), "x y");
  EXPECT_EQ(Quoted("a\"\n"), "\"a\\\"\\n\"");
  EXPECT_EQ(Quoted("\xff!"), "\"\\xff!\"");
  EXPECT_EQ(Quoted("abcdef", 3), "\"abc...\"");
  EXPECT_EQ(Quoted("ab\xc3\xbc", 3), "\"ab...\"");
}

TEST(Str, ShowsForeignNames) {
  for (const char* plain : {"", "d/a b.txt", "Größe \\ 水泵 🙂", "a\xc2\xa0z", "مضخة"})
    EXPECT_EQ(Printable(plain), plain);
  EXPECT_EQ(Printable("a\nb\r\tc\x1b[31m\x7f"), "a\\nb\\r\\tc\\x1b[31m\\x7f");
  EXPECT_EQ(Printable(std::string_view("a\0b", 3)), "a\\x00b");
  EXPECT_EQ(Printable("\xc2\x9b\xe2\x80\xa8\xe2\x80\xae\xe2\x81\xa6"), "\\u009b\\u2028\\u202e\\u2066");
  EXPECT_EQ(Printable("gr\xfc\xc3\xbc\xe2\x82"), "gr\\xfc\xc3\xbc\\xe2\\x82");
  EXPECT_EQ(Printable("a\n\tb\x1b", "\n\t"), "a\n\tb\\x1b");
}

TEST(Str, JudgesUtf8) {
  EXPECT_TRUE(IsValidUtf8("gr\xc3\xbc\xc3\x9f \xf0\x9f\x99\x82"));
  for (const char* bad : {"\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\x80", "\xe2\x82"})
    EXPECT_FALSE(IsValidUtf8(bad)) << bad;
  size_t offset = 0;
  EXPECT_FALSE(IsValidUtf8("ab\xff", &offset));
  EXPECT_EQ(offset, 2u);
  EXPECT_EQ(CompleteUtf8Prefix("a\xf0\x9f\x99"), 1u);
  EXPECT_EQ(CompleteUtf8Prefix("a\xc3\xbc"), 3u);
}

TEST(Checked, SeesOverflow) {
  EXPECT_FALSE(CheckedMul(uint64_t{1} << 33, uint64_t{1} << 31).has_value());
  EXPECT_EQ(CheckedMul(6, 7).value(), 42u);
  EXPECT_FALSE(CheckedAdd(std::numeric_limits<uint64_t>::max(), 1).has_value());
}

TEST(Hash, MatchesKnownVectorAndSeparatesFields) {
  EXPECT_EQ(Sha256("abc").Hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_NE(Hasher().Field("ab").Field("c").Finish(), Hasher().Field("a").Field("bc").Finish());
}

TEST(File, APipeIsNotWaitedFor) {
  const std::string path = testing::TempDir() + "spanwise_base_pipe_" + std::to_string(getpid());
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  EXPECT_THAT(ReadFile(path).status().message(), testing::EndsWith("is not a regular file"));
  EXPECT_EQ(MappedFile::Open(path).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(FileReader::Open(path).status().code(), StatusCode::kInvalidArgument);
  EXPECT_FALSE(FileIsGone(path));
  unlink(path.c_str());
  EXPECT_TRUE(FileIsGone(path));
  EXPECT_TRUE(FileIsGone(path + "/below"));
}

TEST(File, WritesAtomicallyAndReads) {
  const std::string path = testing::TempDir() + "/base_test_file";
  ASSERT_TRUE(WriteFileAtomic(path, "hello").ok());
  EXPECT_EQ(ReadFile(path).value(), "hello");
  EXPECT_EQ(ReadFile(path, 3).status().code(), StatusCode::kResourceExhausted);
  auto mapped = MappedFile::Open(path);
  ASSERT_TRUE(mapped.ok());
  EXPECT_EQ((*mapped)->bytes().size(), 5u);
  std::filesystem::remove(path);
  EXPECT_EQ(ReadFile(path).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(ReadFile(testing::TempDir()).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(WriteFileAtomic("/nonexistent/x", "y").code(), StatusCode::kNotFound);
}

TEST(Json, RefusesWhatIsNotJson) {
  for (const char* bad : {"", "{", "{\"a\":1}x", "[1,]", "\"\xff\"", "nul"})
    EXPECT_EQ(ParseJson(bad, "t").status().code(), StatusCode::kInvalidArgument) << bad;
  EXPECT_FALSE(ParseJson(std::string(100, '[') + std::string(100, ']'), "t").ok());
  for (const char* good : {"1", " {\"a\": [1, 2.5, null]} \n", "\"x\""}) EXPECT_TRUE(ParseJson(good, "t").ok()) << good;
}

TEST(File, TextComesWithoutAByteOrderMark) {
  const std::string path = testing::TempDir() + "/base_test_text";
  for (const auto& [bytes, text] : {std::pair<std::string, std::string>{"\xEF\xBB\xBFkey\n", "key\n"},
                                    {"key\n", "key\n"},
                                    {"\xEF\xBB", "\xEF\xBB"},
                                    {"", ""}}) {
    ASSERT_TRUE(WriteFileAtomic(path, bytes).ok());
    EXPECT_EQ(ReadTextFile(path).value(), text);
  }
  ASSERT_TRUE(WriteFileAtomic(path, std::string("\xFF\xFEk\0e\0y\0", 8)).ok());
  EXPECT_EQ(ReadTextFile(path).status().message(), path + ": is UTF-16 text, expected UTF-8; save it as UTF-8");
  std::filesystem::remove(path);
}

TEST(Json, PassesOverAByteOrderMark) {
  EXPECT_TRUE(ParseJson("\xEF\xBB\xBF{\"a\":1}", "t").ok());
  EXPECT_FALSE(ParseJson("\xEF\xBB\xBF\xEF\xBB\xBF{}", "t").ok());
  EXPECT_FALSE(ParseJson("{\"a\":\xEF\xBB\xBF 1}", "t").ok());
  EXPECT_THAT(ParseJson(std::string("\xFF\xFE{\0}\0", 6), "body").status().message(), HasSubstr("body: is UTF-16"));
}

TEST(Json, ReadsWhatPythonWrites) {
  const json::value value =
      ParsePythonJson(R"({"a": NaN, "b": [-Infinity, {"c": Infinity}], "s": "NaN \" Infinity", "n": -1.5})", "t")
          .value();
  const json::object& o = value.get_object();
  EXPECT_TRUE(std::isnan(o.at("a").get_double()));
  EXPECT_EQ(o.at("b").at(0).get_double(), -std::numeric_limits<double>::infinity());
  EXPECT_EQ(o.at("b").at(1).at("c").get_double(), std::numeric_limits<double>::infinity());
  EXPECT_EQ(o.at("s"), "NaN \" Infinity");
  EXPECT_EQ(o.at("n"), -1.5);
  // Nobody else may write them, and a text that is wrong otherwise stays wrong where it is.
  EXPECT_FALSE(ParseJson("[NaN]", "t").ok());
  for (const char* bad : {"[NaN", "[Nan]", "[NaNs]", "[-NaN]", "{NaN: 1}", "[Infinity Infinity]", "NaN NaN", "\"NaN"})
    EXPECT_EQ(ParsePythonJson(bad, "t").status().code(), StatusCode::kInvalidArgument) << bad;
  EXPECT_THAT(ParsePythonJson("[NaN, x]", "t").status().message(), HasSubstr("near byte 1"));
}

TEST(Json, ReadsTypedMembers) {
  const json::value value = ParseJson(R"({"s":"x","i":3,"d":2.5,"b":true,"n":null})", "t").value();
  const json::object& o = value.get_object();
  EXPECT_EQ(GetString(o, "s").value(), "x");
  EXPECT_EQ(GetInt(o, "i").value(), 3);
  EXPECT_EQ(GetNumber(o, "i").value(), 3.0);
  EXPECT_EQ(GetBool(o, "b").value(), true);
  EXPECT_EQ(GetString(o, "n").value(), std::nullopt);
  EXPECT_EQ(GetString(o, "absent").value(), std::nullopt);
  EXPECT_THAT(GetInt(o, "d").status().message(), HasSubstr("'d' is a number, expected an integer"));
  EXPECT_EQ(JsonNumber(0.1f), "0.10000000149011612");
  EXPECT_EQ(JsonNumber(std::numeric_limits<double>::infinity()), "null");
}

// Loops at once after one another, and after pauses in which workers fall asleep.
TEST(ThreadPool, LoopsFollowOneAnotherAtAnyPace) {
  for (const int threads : {2, 3, 8}) {
    ThreadPool pool(threads);
    for (size_t i = 0; i < 3000; ++i) {
      std::vector<int> seen(i % 7 + 2);
      pool.ParallelFor(seen.size(), [&](size_t k) {
        if (i % 500 == 1 && k == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
        ++seen[k];
      });
      ASSERT_EQ(seen, std::vector<int>(seen.size(), 1));
      if (i % 500 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }
}

// Two threads that a system has put on one processor are no faster than one.
TEST(ThreadPool, KeepsWorkersOffTheCallersProcessor) {
  cpu_set_t all;
  ASSERT_EQ(pthread_getaffinity_np(pthread_self(), sizeof all, &all), 0);
  if (CPU_COUNT(&all) < 2) GTEST_SKIP() << "there is but one processor";
  if (pthread_setaffinity_np(pthread_self(), sizeof all, &all) != 0) GTEST_SKIP() << "the system forbids it";
  ThreadPool pool(2);
  // A worker may not have fallen asleep yet, and the caller may be moved while it is woken.
  for (int attempt = 0; attempt < 1000; ++attempt) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    cpu_set_t others = all, workers = all;
    CPU_CLR(static_cast<size_t>(sched_getcpu()), &others);
    const std::thread::id caller = std::this_thread::get_id();
    std::atomic<int> n_begun = 0;
    pool.ParallelFor(2, [&](size_t) {
      ++n_begun;
      while (n_begun < 2) std::this_thread::yield();  // one on each thread
      if (std::this_thread::get_id() != caller) pthread_getaffinity_np(pthread_self(), sizeof workers, &workers);
    });
    if (CPU_EQUAL(&workers, &others)) return;
  }
  FAIL() << "the worker may run everywhere";
}

TEST(ThreadPool, VisitsEveryIndexOnce) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.n_threads(), threads);
    for (int round = 0; round < 200; ++round) {
      std::vector<std::atomic<int>> seen(37);
      pool.ParallelFor(seen.size(), [&](size_t i) { ++seen[i]; });
      for (auto& s : seen) ASSERT_EQ(s, 1);
    }
  }
}

}  // namespace
}  // namespace spanwise

// Finished lists of subtasks in streams of text: against a reference that parses whole values, and on garbage.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <string>

#include "decode/subtask_pruner.h"

namespace spanwise::decode {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

using List = SubtaskWatcher::List;

std::vector<List> Find(const std::string& text, std::mt19937* random = nullptr) {
  SubtaskWatcher watcher;
  std::vector<List> all;
  for (size_t at = 0; at < text.size();) {
    const size_t n = random ? 1 + (*random)() % 5 : text.size();
    for (const List& list : watcher.Push(std::string_view(text).substr(at, n))) all.push_back(list);
    at += n;
  }
  return all;
}

// The text between the brackets of each list.
std::vector<std::string> Texts(const std::string& text) {
  std::vector<std::string> texts;
  for (const List& list : Find(text)) texts.push_back(text.substr(list.begin, list.end - list.begin));
  return texts;
}

TEST(SubtaskWatcher, FindsFinishedLists) {
  EXPECT_THAT(Texts(R"({"reasoning":[{"thought":"a","subtasks":[{"thought":"b"}],"conclusion":"c"}],"answer":"d"})"),
              ElementsAre(R"({"thought":"b"})"));
  EXPECT_THAT(Texts(R"(Sure: {"subtasks" : [ 1 ,[2], {"subtasks":[]}]} {"subtasks":[3]})"),
              ElementsAre("", R"( 1 ,[2], {"subtasks":[]})", "3"));
  EXPECT_THAT(Texts(R"({"a":"\"subtasks\":[1]","b":"\\","subtasks":["]\"]"]})"), ElementsAre(R"("]\"]")"));
  EXPECT_THAT(Texts(R"({"subtasks":[1,2)"), IsEmpty());  // not finished
  EXPECT_THAT(Texts(R"({"subtask":[1],"subtaskss":[1],"x":["subtasks",[1]]})"), IsEmpty());
  EXPECT_THAT(Texts(R"({"subtasks":{"a":[1]}})"), IsEmpty());  // no list
  EXPECT_THAT(Texts(R"({"subt\u0061sks":[1]})"), IsEmpty());
  EXPECT_THAT(Texts(R"(["subtasks",[1]])"), IsEmpty());
}

TEST(SubtaskWatcher, PassesOverWhatIsNoJson) {
  EXPECT_THAT(Texts(R"({"subtasks":[1}, {"subtasks":[2]})"), ElementsAre("2"));
  EXPECT_THAT(Texts(R"({"a" "b", "subtasks":[1]} {"subtasks":[2]})"), ElementsAre("2"));
  EXPECT_THAT(Texts(R"({"subtasks":[1 2]})"), IsEmpty());
  EXPECT_THAT(Texts(R"({,"subtasks":[1]})"), IsEmpty());
  EXPECT_THAT(Texts(R"({"subtasks":[1,]})"), IsEmpty());
  const auto nested = [](size_t depth) {
    return std::string(R"({"subtasks":)") + std::string(depth - 1, '[') + std::string(depth - 1, ']') + "}";
  };
  EXPECT_EQ(Find(nested(SubtaskWatcher::kMostDepth)).size(), 1u);
  EXPECT_EQ(Find(nested(SubtaskWatcher::kMostDepth + 1)).size(), 0u);
}

// A writer of random values that knows where their lists of subtasks stand.
class Writer {
 public:
  explicit Writer(std::mt19937& random) : random_(random) {}
  std::string text;
  std::vector<List> lists;

  void Object(int depth) {
    text += '{';
    Items(depth, [&] {
      const bool subtasks = random_() % 3 == 0;
      subtasks ? void(text += "\"subtasks\"") : String();
      Space();
      text += ':';
      Space();
      if (!subtasks) return Value(depth - 1);
      if (random_() % 4 == 0) return random_() % 2 == 0 ? Object(depth - 1) : String();
      const size_t begin = text.size() + 1;
      Array(depth - 1);
      lists.push_back({begin, text.size() - 1});
    });
    text += '}';
  }

 private:
  void Items(int depth, const std::function<void()>& item) {
    const auto n = depth < 0 ? 0 : random_() % 4;
    for (unsigned i = 0; i < n; ++i) {
      if (i > 0) text += ',';
      Space();
      item();
      Space();
    }
  }
  void Array(int depth) {
    text += '[';
    Items(depth, [&] { Value(depth - 1); });
    text += ']';
  }
  void Value(int depth) {
    switch (random_() % (depth > 0 ? 5 : 2)) {
      case 0:
        return String();
      case 1:
        text += std::array{"null", "-1.5e+3", "true", "0"}[random_() % 4];
        return;
      case 2:
        return Array(depth);
      default:
        return Object(depth);
    }
  }
  void String() {
    text += '"';
    for (auto n = random_() % 6; n > 0; --n)
      text += std::array{
          "a", "subtasks", "\\\"", "\\\\", "[", "]", "{", "}", ":", ",", "\xc3\xa9", "\\u005d"}[random_() % 12];
    text += "x\"";  // so that no string is a member's name by chance
  }
  void Space() {
    if (random_() % 4 == 0) text += std::array{" ", "\n", "\t "}[random_() % 3];
  }
  std::mt19937& random_;
};

TEST(SubtaskWatcher, AgreesWithTheWriterOnRandomStreams) {
  std::mt19937 random(1);
  size_t n_lists = 0;
  for (int i = 0; i < 20'000; ++i) {
    Writer writer(random);
    for (auto n = 1 + random() % 3; n > 0; --n) {
      writer.text += std::array{"", "text, [not] JSON: ", "\n"}[random() % 3];
      writer.Object(5);
    }
    ASSERT_EQ(Find(writer.text, &random), writer.lists) << writer.text;
    n_lists += writer.lists.size();
    // Bytes replaced: no list may be found that ends before the first of them and was not there, nor the other way.
    const size_t at = random() % writer.text.size();
    std::string broken = writer.text;
    for (size_t b = at; b < broken.size(); b += 1 + random() % 7) broken[b] = "\"\\{}[],:a\xff"[random() % 10];
    std::vector<List> before = Find(broken, &random), expected = writer.lists;
    std::erase_if(before, [&](const List& list) { return list.end >= at; });
    std::erase_if(expected, [&](const List& list) { return list.end >= at; });
    ASSERT_EQ(before, expected) << broken;
  }
  EXPECT_GT(n_lists, 10'000u);
}

// What is left of a text that was pushed one byte at a time.
std::string Left(const std::string& text, size_t keep, size_t token_bytes = 1) {
  SubtaskPruner pruner(keep);
  std::vector<std::string> tokens;
  for (size_t at = 0; at < text.size(); at += token_bytes) {
    tokens.push_back(text.substr(at, token_bytes));
    pruner.Push(tokens.back());
    while (const auto cut = pruner.Next())
      tokens.erase(tokens.begin() + static_cast<ptrdiff_t>(cut->begin),
                   tokens.begin() + static_cast<ptrdiff_t>(cut->end));
  }
  std::string left;
  for (const std::string& token : tokens) left += token;
  return left;
}

TEST(SubtaskPruner, CutsTheEarliestBeyondWhatIsKept) {
  const std::string text = R"({"r":[{"subtasks":[1,2],"c":3},{"subtasks":[4],"c":5},{"subtasks":[6],"c":7}],"a":8})";
  EXPECT_EQ(Left(text, 0), R"({"r":[{"subtasks":[],"c":3},{"subtasks":[],"c":5},{"subtasks":[],"c":7}],"a":8})");
  EXPECT_EQ(Left(text, 1), R"({"r":[{"subtasks":[],"c":3},{"subtasks":[],"c":5},{"subtasks":[6],"c":7}],"a":8})");
  EXPECT_EQ(Left(text, 2), R"({"r":[{"subtasks":[],"c":3},{"subtasks":[4],"c":5},{"subtasks":[6],"c":7}],"a":8})");
  EXPECT_EQ(Left(text, 3), text);
}

TEST(SubtaskPruner, CountsAListAroundOthersAsOne) {
  const std::string text = R"({"subtasks":[{"subtasks":[1],"c":2},{"subtasks":[3],"c":4}]})";
  EXPECT_EQ(Left(text, 0), R"({"subtasks":[]})");
  EXPECT_EQ(Left(text, 1), R"({"subtasks":[{"subtasks":[],"c":2},{"subtasks":[3],"c":4}]})");
  EXPECT_EQ(Left(text, 2), text);
}

TEST(SubtaskPruner, LeavesTokensThatReachOverABracket) {
  EXPECT_EQ(Left(R"({"subtasks":[1234567],"c":1})", 0, 4), R"({"subtasks":[123],"c":1})");
  EXPECT_EQ(Left(R"({"subtasks":[12],"c":1})", 0, 8), R"({"subtasks":[12],"c":1})");
}

}  // namespace
}  // namespace spanwise::decode

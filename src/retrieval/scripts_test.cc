// Questions and single words in other scripts and languages find their document among 1,000 others.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <random>
#include <set>

#include "base/file.h"
#include "base/json.h"
#include "base/str.h"
#include "retrieval/corpus.h"

namespace spanwise::retrieval {
namespace {

constexpr size_t kOthers = 1000;

struct Pair {
  std::string question, word, text;
};

// A file of tests/data/scripts: pairs, and sentences with gaps and the words for them, of which the others are made.
class Script {
 public:
  explicit Script(const std::string& path) {
    const auto lines = ReadFile(path);
    EXPECT_TRUE(lines.ok()) << lines.status().message();
    if (!lines.ok()) return;
    for (const std::string_view line : Split(*lines, '\n')) {
      if (line.empty()) continue;
      const auto value = ParseJson(line, path);
      EXPECT_TRUE(value.ok()) << value.status().message();
      const json::object& o = value->get_object();
      const auto text = [&](const char* key) { return std::string(o.at(key).get_string()); };
      if (o.contains("question")) pairs_.push_back({text("question"), text("word"), text("text")});
      if (o.contains("template")) templates_.push_back(text("template"));
      if (!o.contains("slot")) continue;
      for (const json::value& word : o.at("words").get_array()) slots_[text("slot")].emplace_back(word.get_string());
    }
  }

  const std::vector<Pair>& pairs() const { return pairs_; }

  std::string Sentence() {
    std::string sentence = templates_[random_() % templates_.size()];
    for (size_t open = sentence.find('{'); open != std::string::npos; open = sentence.find('{', open)) {
      const size_t close = sentence.find('}', open);
      const std::string slot = sentence.substr(open + 1, close - open - 1);
      const auto words = slots_.find(slot);
      EXPECT_TRUE(words != slots_.end() || slot == "n") << slot;
      const std::string word =
          words == slots_.end() ? std::to_string(2 + random_() % 98) : words->second[random_() % words->second.size()];
      sentence.replace(open, close - open + 1, word);
      open += word.size();
    }
    return sentence;
  }

 private:
  std::vector<Pair> pairs_;
  std::vector<std::string> templates_;
  std::map<std::string, std::vector<std::string>> slots_;
  std::mt19937 random_{1};
};

class ScriptsTest : public testing::TestWithParam<const char*> {};

TEST_P(ScriptsTest, FindsItsDocumentAmongAThousandOthers) {
  const char* source = std::getenv("SPANWISE_SOURCE_DIR");
  if (!source) GTEST_SKIP() << "SPANWISE_SOURCE_DIR is not set";
  Script script(StrFormat("{}/tests/data/scripts/{}.jsonl", source, GetParam()));
  ASSERT_EQ(script.pairs().size(), 20u);

  std::vector<SourceDocument> documents;
  const auto add = [&](std::string id, std::string text) {
    documents.push_back(
        {.id = std::move(id), .title = "-", .text = std::move(text), .metadata_json = "{}", .path = {}});
  };
  for (size_t i = 0; i < script.pairs().size(); ++i) {
    const std::string other = script.Sentence();
    add(StrFormat("pair {}", i), i % 2 ? other + " " + script.pairs()[i].text : script.pairs()[i].text + " " + other);
  }
  std::set<std::string> others;
  while (others.size() < kOthers) {
    std::string text = script.Sentence() + " " + script.Sentence();
    if (others.insert(text).second) add(StrFormat("other {}", others.size()), std::move(text));
  }

  const std::string folder = StrFormat("{}scripts_test_{}_{}", testing::TempDir(), GetParam(), getpid());
  std::filesystem::remove_all(folder);
  {
    const auto corpus = Corpus::Open(folder, {.create = true});
    ASSERT_TRUE(corpus.ok()) << corpus.status().message();
    const auto report = (*corpus)->AddDocuments(std::move(documents));
    ASSERT_TRUE(report.ok()) << report.status().message();
    ASSERT_EQ(report->added, kOthers + script.pairs().size());
    double questions = 0, words = 0;
    for (size_t i = 0; i < script.pairs().size(); ++i) {
      const auto gain = [&](const std::string& query) {
        const auto hits = (*corpus)->Search(query, 10);
        EXPECT_TRUE(hits.ok()) << hits.status().message();
        if (hits.ok())
          for (const Hit& hit : *hits)
            if (hit.document_id == StrFormat("pair {}", i)) {
              if (hit.rank > 1) std::printf("rank %zu: %s\n", hit.rank, query.c_str());
              return 1 / std::log2(static_cast<double>(hit.rank) + 1);
            }
        std::printf("not found: %s\n", query.c_str());
        return 0.0;
      };
      questions += gain(script.pairs()[i].question) / 20;
      words += gain(script.pairs()[i].word) / 20;
    }
    std::printf("%s: nDCG@10 of questions %.3f, of words %.3f\n", GetParam(), questions, words);
    EXPECT_GE(questions, 0.9);
    EXPECT_GE(words, 0.9);
  }
  std::filesystem::remove_all(folder);
}

INSTANTIATE_TEST_SUITE_P(Languages, ScriptsTest,
                         testing::Values("ar", "de", "el", "he", "ja", "ko", "ru", "th", "tr", "vi", "zh"),
                         [](const auto& language) { return std::string(language.param); });

}  // namespace
}  // namespace spanwise::retrieval

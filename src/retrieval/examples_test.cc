// What the lexical index finds for the questions of the sample corpus.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>

#include "base/file.h"
#include "base/json.h"
#include "base/str.h"
#include "retrieval/corpus.h"
#include "retrieval/quote.h"

namespace spanwise::retrieval {
namespace {

struct Question {
  std::string text, answer, value, kind;
  std::vector<std::string> documents;
};

class ExamplesTest : public testing::Test {
 protected:
  void SetUp() override {
    const char* source = std::getenv("SPANWISE_SOURCE_DIR");
    if (!source) GTEST_SKIP() << "SPANWISE_SOURCE_DIR is not set";
    examples_ = std::string(source) + "/examples";
    folder_ = testing::TempDir() + "/examples_test_" + std::to_string(getpid());
    std::filesystem::remove_all(folder_);
    auto corpus = Corpus::Open(folder_, {.create = true});
    ASSERT_TRUE(corpus.ok()) << corpus.status().message();
    corpus_ = std::move(*corpus);
    const auto report = corpus_->Index({examples_ + "/documents"});
    ASSERT_TRUE(report.ok()) << report.status().message();
    EXPECT_EQ(report->added, 44u);
    EXPECT_TRUE(report->skipped.empty());

    const auto lines = ReadFile(examples_ + "/questions.jsonl");
    ASSERT_TRUE(lines.ok());
    for (const std::string_view line : Split(*lines, '\n')) {
      if (line.empty()) continue;
      const auto value = ParseJson(line, "questions.jsonl");
      ASSERT_TRUE(value.ok());
      const json::object& o = value->get_object();
      Question q{GetString(o, "question").value().value(),
                 GetString(o, "answer").value().value(),
                 GetString(o, "value").value().value(),
                 GetString(o, "kind").value().value(),
                 {}};
      for (const json::value& id : o.at("documents").get_array()) q.documents.emplace_back(id.get_string());
      questions_.push_back(std::move(q));
    }
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string examples_, folder_;
  std::unique_ptr<Corpus> corpus_;
  std::vector<Question> questions_;
};

TEST_F(ExamplesTest, FindsTheSupportingDocuments) {
  for (const size_t k : {1, 4, 8}) {
    std::map<std::string, size_t> questions, complete, first;
    for (const Question& q : questions_) {
      if (q.documents.empty()) continue;
      const auto hits = corpus_->Search(q.text, k);
      ASSERT_TRUE(hits.ok()) << hits.status().message();
      std::set<std::string> found;
      for (const Hit& hit : *hits) found.insert(hit.document_id);
      size_t n = 0;
      for (const std::string& id : q.documents) n += found.contains(id);
      ++questions[q.kind];
      complete[q.kind] += n == q.documents.size();
      first[q.kind] += found.contains(q.documents[0]);
      if (k == 8 && n < q.documents.size()) std::printf("not all at 8: %s\n", q.text.c_str());
    }
    for (const auto& [kind, n] : questions)
      std::printf("k = %zu, %s: all supporting documents for %zu of %zu questions, the first for %zu\n", k,
                  kind.c_str(), complete[kind], n, first[kind]);
    if (k != 8) continue;
    EXPECT_EQ(questions["single"], 28u);
    EXPECT_GE(complete["single"], 27u);  // 95 %
    EXPECT_EQ(first["two-hop"], 9u);
  }
}

TEST_F(ExamplesTest, QuotesTheSentenceWithTheAnswer) {
  size_t n = 0, right = 0;
  for (const Question& q : questions_) {
    if (q.kind != "single") continue;
    const auto chunks = corpus_->ReadChunks(q.documents[0]);
    const auto document = corpus_->GetDocument(q.documents[0]);
    ASSERT_TRUE(chunks.ok() && document.ok());
    Quote best;
    size_t begin = 0;
    for (const StoredChunk& chunk : *chunks) {
      const Quote quote = BestQuote(chunk.text, q.answer);
      if (quote.score > best.score) best = quote, begin = chunk.begin;
    }
    const std::string quote = document->text.substr(begin + best.range.begin, best.range.size());
    ++n;
    right += quote.find(q.value) != std::string::npos;
    if (quote.find(q.value) == std::string::npos) std::printf("'%s': quoted '%s'\n", q.answer.c_str(), quote.c_str());
    EXPECT_GT(best.score, 0.5) << q.answer << " / " << quote;
  }
  std::printf("quotes with the answer's value: %zu of %zu\n", right, n);
  EXPECT_EQ(right, n);
}

}  // namespace
}  // namespace spanwise::retrieval

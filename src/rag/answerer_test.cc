#include "rag/answerer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "base/file.h"
#include "base/json.h"
#include "base/str.h"

namespace spanwise::rag {
namespace {

using ::testing::ElementsAre;

const std::vector<Source> kSources = {
    {"t40", "Cawick T40", "The Cawick T40 weighs 12 kg. It is green."},
    {"t45", "Cawick T45", "The Cawick T45 weighs 15 kg. The Cawick T45 has a warranty of 36 months."}};

GroundedAnswer Grounded(const std::string& text) {
  Answer answer;
  answer.text = text;
  answer.document_labels = {"114", "434"};
  return Ground(std::move(answer), kSources);
}

std::vector<std::string> Quotes(const GroundedAnswer& grounded) {
  std::vector<std::string> quotes;
  for (const Citation& c : grounded.citations) quotes.push_back(c.quote);
  return quotes;
}

TEST(Ground, GivesTheSentencesThatBearOutTheAnswer) {
  const GroundedAnswer grounded =
      Grounded("The Cawick T40 weighs 12 kg [114]. The Cawick T45 weighs 15 kg [434][9] and is under warranty. [434]");
  EXPECT_THAT(Quotes(grounded), ElementsAre("The Cawick T40 weighs 12 kg.", "The Cawick T45 weighs 15 kg.",
                                            "The Cawick T45 has a warranty of 36 months."));
  EXPECT_TRUE(grounded.unsupported.empty());
  EXPECT_THAT(Quotes(Grounded("They weigh 12 and 15 kg [114][434].")),
              ElementsAre("The Cawick T40 weighs 12 kg.", "The Cawick T45 weighs 15 kg."));
  EXPECT_THAT(Quotes(Grounded("See [434]. The Cawick T45 has a warranty of 36 months.")),
              ElementsAre("The Cawick T45 has a warranty of 36 months."));
}

TEST(Ground, TellsApartWhatASourceDoesNotSay) {
  for (const auto& [text, id, missing] :
       {std::tuple{"The Cawick T40 has a warranty of 36 months. [434]", "t45", "Cawick T40"},
        {"The Cawick T40 has a warranty of 36 months. [114]", "t40", "36"},
        {"The Pellar X9 weighs 15 kg. [434]", "t45", "Pellar X9"}}) {
    const GroundedAnswer grounded = Grounded(text);
    EXPECT_TRUE(grounded.citations.empty()) << text;
    ASSERT_EQ(grounded.unsupported.size(), 1u) << text;
    EXPECT_EQ(grounded.unsupported[0].document_id, id);
    EXPECT_THAT(grounded.unsupported[0].missing, ElementsAre(missing));
  }
  const GroundedAnswer both = Grounded("The Cawick T45 weighs 15 kg [434]. It costs 340 crowns [434].");
  EXPECT_THAT(Quotes(both), ElementsAre("The Cawick T45 weighs 15 kg."));
  EXPECT_EQ(both.unsupported.size(), 1u);
}

// The answers that the question sets hold for right: how many citations are given as they stand, and how many when
// they name the next document instead.
TEST(Ground, GivesTheCitationsOfRightAnswersAndFewOthers) {
  int n_right = 0, given = 0, n_wrong = 0, wrongly_given = 0;
  const auto count = [](const std::string& text, const std::vector<Source>& sources, std::vector<std::string> labels,
                        int* n, int* n_given) {
    Answer answer;
    answer.text = text;
    answer.document_labels = std::move(labels);
    const GroundedAnswer grounded = Ground(std::move(answer), sources);
    *n += static_cast<int>(grounded.citations.size() + grounded.unsupported.size());
    *n_given += static_cast<int>(grounded.citations.size());
    return grounded;
  };
  const char* root = std::getenv("SPANWISE_SOURCE_DIR");
  for (const auto& file : std::filesystem::directory_iterator(std::string(root ? root : ".") + "/tests/data/qa")) {
    if (file.path().extension() != ".jsonl") continue;
    const std::string bytes = ReadFile(file.path()).value();
    size_t n_lines = 0;
    for (const std::string_view line : Split(bytes, '\n')) {
      if (line.empty() || ++n_lines > 40) continue;
      const json::value record = ParseJson(line, "record").value();
      std::vector<Source> sources;
      std::vector<std::string> labels;
      for (const json::value& d : record.at("documents").as_array()) {
        const json::value* title = d.as_object().if_contains("title");
        labels.emplace_back(d.at("id").as_string());
        sources.push_back(
            {labels.back(), title ? std::string(title->as_string()) : "", std::string(d.at("text").as_string())});
      }
      const std::string right(record.at("answer").as_string());
      EXPECT_TRUE(count(right, sources, labels, &n_right, &given).unsupported.empty()) << right;
      std::ranges::rotate(labels, labels.begin() + 1);
      count(right, sources, labels, &n_wrong, &wrongly_given);
    }
  }
  EXPECT_EQ(given, n_right);
  EXPECT_GT(n_right, 1000);
  EXPECT_LT(wrongly_given, 0.6 * n_wrong);  // many sentences name no thing and no number
}

TEST(Retrieve, FindsWhatAQuestionLeansOn) {
  const std::string folder = testing::TempDir() + "answerer_test_" + std::to_string(getpid());
  {
    const auto corpus = retrieval::Corpus::Open(folder, {.create = true}).value();
    std::vector<retrieval::SourceDocument> documents;
    const auto add = [&](const std::string& title, const std::string& text) {
      retrieval::SourceDocument document;
      document.id = title;
      document.title = title;
      document.text = text;
      documents.push_back(std::move(document));
    };
    add("Cawick T40", "The Cawick T40 is a green pump.");
    add("Velk Museum", "The Velk Museum stands in Tessenford.");
    for (int i = 0; i < 12; ++i) add("Tour " + std::to_string(i), "Entry and guide cost 6 crowns each.");
    corpus->AddDocuments(std::move(documents)).value();

    const std::vector<Message> about_pump = {{"user", "What is the Cawick T40?"}, {"assistant", "A pump. [1]"}};
    const auto ids = [&](std::vector<Message> messages, const std::string& question) {
      messages.push_back({"user", question});
      std::vector<std::string> found;
      const std::vector<Source> sources = Retrieve(*corpus, messages, 4).value();
      for (const Source& source : sources) found.push_back(source.document_id);
      return found;
    };
    EXPECT_THAT(ids({}, "What does it cost?"), testing::Not(testing::Contains("Cawick T40")));
    EXPECT_EQ(ids(about_pump, "What does it cost?")[0], "Cawick T40");
    EXPECT_EQ(ids(about_pump, "What does it cost?").size(), 4u);
    EXPECT_EQ(ids(about_pump, "In which town does the Velk Museum stand?")[0], "Velk Museum");
    // Written without capitals it cannot be told from one that leans on the first; its own passages are found all the
    // same.
    EXPECT_THAT(ids(about_pump, "in which town does the velk museum stand?"), testing::Contains("Velk Museum"));
  }
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace spanwise::rag

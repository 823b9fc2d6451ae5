#include "rag/conversation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace spanwise::rag {
namespace {

using ::testing::ElementsAre;

std::vector<Message> Turns(const std::vector<std::string>& texts) {
  std::vector<Message> messages = {{"system", "Answer Briefly."}};
  for (size_t i = 0; i < texts.size(); ++i) messages.push_back({i % 2 == 0 ? "user" : "assistant", texts[i]});
  return messages;
}

std::string Added(const std::vector<std::string>& texts) {
  const SearchQuestion question = QuestionToSearch(Turns(texts));
  EXPECT_EQ(question.alone, texts.back());
  EXPECT_TRUE(question.complete.starts_with(question.alone));
  EXPECT_EQ(question.quarters > 0, question.complete != question.alone);
  return question.complete.substr(question.alone.size());
}

const std::string kPump = "How much does the Cawick T40 weigh?", kWeight = "The Cawick T40 weighs 12 kg. [114]";

TEST(QuestionToSearch, IsTheLastQuestionWhereItStandsAlone) {
  EXPECT_EQ(QuestionToSearch({}).complete, "");
  EXPECT_EQ(QuestionToSearch({{"system", "a"}}).complete, "");
  EXPECT_EQ(Added({"How long is it under warranty?"}), "");
  EXPECT_EQ(Added({kPump, kWeight, "How many employees does Harlow Instruments have?"}), "");
  EXPECT_EQ(Added({kPump, kWeight, "Wie viele Menschen arbeiten bei Harlow Instruments?"}), "");
}

TEST(QuestionToSearch, GetsNamesOfEarlierTurns) {
  EXPECT_EQ(Added({kPump, kWeight, "How long is it under warranty?"}), " Cawick T40 Cawick T40");
  EXPECT_EQ(Added({kPump, kWeight, "What does it cost?", "340 crowns.", "And the warranty?"}),
            " Cawick T40 Cawick T40");
  EXPECT_EQ(
      Added({"Who runs Harlow Instruments?", "The chief executive is Ilse Corvane [813].", "Where was she born?"}),
      " Harlow Instruments Ilse Corvane");
  EXPECT_EQ(Added({"Combien pèse la pompe Cawick ?", "12 kg.", "Et quel est son prix ?"}), " Cawick");
  EXPECT_EQ(Added({"What is K-2203 worth?", "62,000 crowns.", "When does it expire?"}), " K-2203");
  // A pronoun leans on what was said, whatever else is named.
  EXPECT_EQ(Added({kPump, kWeight, "Does Harlow Instruments in Tessenford still make it?"}), " Cawick T40 Cawick T40");
}

TEST(QuestionToSearch, GetsTheWordsOfTheLastQuestionWhereItHasOnlyAName) {
  EXPECT_EQ(Added({kPump, kWeight, "And the Cawick T45?"}), " How much does the weigh");
  EXPECT_EQ(Added({kPump, kWeight, "What about the T45?"}), " How much does the weigh");
  EXPECT_EQ(QuestionToSearch(Turns({kPump, kWeight, "What about the T45?"})).quarters, 2);
}

TEST(QuestionToSearch, GetsTheWholeLastQuestionWhereNothingHasAName) {
  EXPECT_EQ(Added({"how heavy is the pump?", "12 kg", "and what does it cost?"}), " how heavy is the pump?");
  EXPECT_EQ(Added({"水泵重多少公斤？", "十四公斤。", "保修多久？"}), " 水泵重多少公斤？");
  EXPECT_EQ(QuestionToSearch(Turns({"水泵重多少公斤？", "十四公斤。", "保修多久？"})).quarters, 3);
}

// A model that counts a token a byte, and can hold 100.
struct Sizes {
  int context = 100;
  int n_asked = 0;
  Result<int> Fit(Request* request) {
    return FitConversation(
        [this](const Request& r) -> Result<PromptSize> {
          ++n_asked;
          int tokens = 0;
          for (const Document& d : r.documents) tokens += static_cast<int>(d.text.size());
          for (const Message& m : r.messages) tokens += static_cast<int>(m.content.size());
          return PromptSize{.tokens = tokens, .document_tokens = 0, .room = context - tokens};
        },
        context, request);
  }
};

Request Conversation(int n_turns, size_t bytes, int max_tokens) {
  Request request;
  request.messages = {{"system", "s"}};
  for (int i = 0; i < n_turns; ++i) {
    request.messages.push_back({"user", std::string(bytes, static_cast<char>('a' + i))});
    if (i + 1 < n_turns) request.messages.push_back({"assistant", "."});
  }
  request.sampling.max_tokens = max_tokens;
  return request;
}

std::string Roles(const Request& request) {
  std::string roles;
  for (const Message& m : request.messages)
    roles += m.role == "user" ? m.content.substr(0, 1) : m.role == "system" ? "S" : ".";
  return roles;
}

TEST(FitConversation, LeavesOutTheOldestTurns) {
  Sizes sizes;
  Request fits = Conversation(4, 10, 56);  // 44 of 100, and at most a quarter for the answer
  EXPECT_EQ(sizes.Fit(&fits).value(), 0);
  EXPECT_EQ(sizes.n_asked, 1);
  EXPECT_EQ(Roles(fits), "Sa.b.c.d");
  Request full = Conversation(8, 9, 20);  // 80 with the system message; one turn would do, two more make room for later
  EXPECT_EQ(sizes.Fit(&full).value(), 0);
  full.messages[1].content += "aaa";
  EXPECT_EQ(sizes.Fit(&full).value(), 2);
  EXPECT_EQ(Roles(full), "Sc.d.e.f.g.h");
}

TEST(FitConversation, KeepsDocumentsSystemMessagesAndTheLastMessage) {
  Sizes sizes;
  Request request = Conversation(6, 5, 10);
  request.documents = {{"1", "", std::string(60, 'd')}};
  EXPECT_EQ(sizes.Fit(&request).value(), 3);  // half of the turns stay although they leave little room
  EXPECT_EQ(Roles(request), "Sd.e.f");
  EXPECT_EQ(request.documents.size(), 1u);
  Request too_long = Conversation(3, 5, 10);
  too_long.messages.back().content = std::string(200, 'z');
  EXPECT_EQ(sizes.Fit(&too_long).value(), 2);
  EXPECT_EQ(Roles(too_long), "Sz");
  Request greeted = Conversation(2, 45, 20);
  greeted.messages.insert(greeted.messages.begin() + 1, {"assistant", "Hello! What is it?"});
  EXPECT_EQ(sizes.Fit(&greeted).value(), 1);
  EXPECT_EQ(Roles(greeted), "Sb");
}

TEST(FitConversation, PassesOnWhatIsWrong) {
  Request request = Conversation(2, 5, 10);
  const auto failed =
      FitConversation([](const Request&) -> Result<PromptSize> { return InvalidArgument("no"); }, 100, &request);
  EXPECT_EQ(failed.status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Roles(request), "Sa.b");
}

}  // namespace
}  // namespace spanwise::rag

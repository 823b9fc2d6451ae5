#include "engine/sentences.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace spanwise {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// A document of the tokens that stand for those bytes of its text.
PromptNode Member(const std::string& id, std::vector<TextRange> bytes) {
  PromptNode node = PromptNode::Text(std::vector<int32_t>(bytes.size(), 7), id);
  node.bytes = std::move(bytes);
  return node;
}

TEST(Sentences, BeginWithTheirFirstTokenAndTheSpaceBeforeIt) {
  const std::vector<Document> documents = {
      {"a", "", "One two. Three four. Five."}, {"b", "", "No end"}, {"c", "", ""}, {"d", "", "One. Two."}};
  PromptNode tree = PromptNode::Sequence({
      PromptNode::Text({1, 2, 3}),
      PromptNode::Set({
          // Two tokens of a head; "One", " two.", " Three", " ", "four", ".", " Five.", and the end.
          Member("a", {{}, {}, {0, 3}, {3, 8}, {8, 14}, {14, 15}, {15, 19}, {19, 20}, {20, 26}, {}}),
          Member("b", {{}, {0, 2}, {2, 6}}), Member("c", {{}, {}}),
          Member("d", {{}, {0, 9}}),  // one token for all of it
      }),
      PromptNode::Text({4}),
  });
  MarkSentences(documents, &tree);
  const std::vector<PromptNode>& members = tree.children[1].children;
  EXPECT_THAT(members[0].sentences, ElementsAre(2, 4, 8));
  EXPECT_THAT(members[1].sentences, ElementsAre(1));
  EXPECT_THAT(members[2].sentences, IsEmpty());
  EXPECT_THAT(members[3].sentences, ElementsAre(1));
  EXPECT_THAT(tree.children[0].sentences, IsEmpty());
}

}  // namespace
}  // namespace spanwise

#include "prompt/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "prompt/labels.h"

namespace spanwise {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const PlanKeys kKeys{Sha256("model"), ""};

PromptNode Doc(std::vector<int32_t> tokens, std::string id) {
  return PromptNode::Text(std::move(tokens), std::move(id));
}

PromptNode Example(std::vector<PromptNode> members) {
  return PromptNode::Sequence(
      {PromptNode::Text({1, 2}), PromptNode::Set(std::move(members)), PromptNode::Text({8, 9})});
}

const std::vector<PromptNode> kDocs = {Doc({10, 11, 12}, "a"), Doc({20}, "b"), Doc({30, 31, 32, 33}, "c")};

TEST(ContentKey, IgnoresTheOrderOfSetsOnly) {
  std::vector<PromptNode> docs = kDocs;
  const Hash256 set = ContentKey(PromptNode::Set(docs)), sequence = ContentKey(PromptNode::Sequence(docs));
  std::swap(docs[0], docs[2]);
  EXPECT_EQ(ContentKey(PromptNode::Set(docs)), set);
  EXPECT_NE(ContentKey(PromptNode::Sequence(docs)), sequence);
}

TEST(Plan, ExactIsOneRun) {
  const Plan plan = MakePlan(Example(kDocs), {}, kKeys).value();
  ASSERT_EQ(plan.runs.size(), 1u);
  EXPECT_THAT(plan.runs[0].tokens, ElementsAre(1, 2, 10, 11, 12, 20, 30, 31, 32, 33, 8, 9));
  EXPECT_EQ(plan.end_position(), 12);
  EXPECT_EQ(plan.pieces.size(), 5u);
  EXPECT_EQ(plan.pieces[3].document, "c");
  EXPECT_EQ(plan.pieces[3].begin, 6);
  EXPECT_EQ(plan.exactness, "causal-exact");
}

TEST(Plan, CanonicalOrderMakesEqualPromptsOfEqualSets) {
  std::vector<PromptNode> docs = kDocs;
  const ComposeOptions options{ComposeMode::kExact, DocumentOrder::kCanonical};
  const auto tokens = MakePlan(Example(docs), options, kKeys).value().runs[0].tokens;
  std::reverse(docs.begin(), docs.end());
  EXPECT_EQ(MakePlan(Example(docs), options, kKeys).value().runs[0].tokens, tokens);
  EXPECT_NE(MakePlan(Example(docs), {}, kKeys).value().runs[0].tokens,
            MakePlan(Example(kDocs), {}, kKeys).value().runs[0].tokens);
}

// Documents of one token, their number, with that rank by score, in some other order.
std::vector<PromptNode> Ranked(int k) {
  std::vector<PromptNode> docs;
  for (int rank = 1; rank <= k; ++rank) docs.push_back(PromptNode::Text({rank}, std::to_string(rank), 1.0 / rank));
  std::shuffle(docs.begin(), docs.end(), std::mt19937(static_cast<uint32_t>(k)));
  return docs;
}

std::vector<int32_t> TokensIn(DocumentOrder order, const std::vector<PromptNode>& docs) {
  return MakePlan(Example(docs), {ComposeMode::kExact, order}, kKeys).value().runs[0].tokens;
}

TEST(Plan, OrdersByScore) {
  EXPECT_THAT(TokensIn(DocumentOrder::kRelevance, Ranked(5)), ElementsAre(1, 2, 1, 2, 3, 4, 5, 8, 9));
  EXPECT_THAT(TokensIn(DocumentOrder::kSides, Ranked(5)), ElementsAre(1, 2, 1, 3, 5, 4, 2, 8, 9));
  for (int k = 1; k <= 200; ++k) {  // rank i stands at (i + 1) / 2 if odd, else at k + 1 - i / 2
    const std::vector<int32_t> tokens = TokensIn(DocumentOrder::kSides, Ranked(k));
    ASSERT_EQ(tokens.size(), static_cast<size_t>(k + 4));
    for (int i = 1; i <= k; ++i)
      ASSERT_EQ(tokens[static_cast<size_t>(2 + (i % 2 == 1 ? (i + 1) / 2 : k + 1 - i / 2) - 1)], i) << "of " << k;
  }
  // Equal scores do not show the order given.
  std::vector<PromptNode> equal = Ranked(6);
  for (PromptNode& doc : equal) doc.score = 1;
  const auto tokens = TokensIn(DocumentOrder::kRelevance, equal);
  std::reverse(equal.begin(), equal.end());
  EXPECT_EQ(TokensIn(DocumentOrder::kRelevance, equal), tokens);
}

TEST(Plan, RefusesOrdersThatCannotBe) {
  std::vector<PromptNode> docs = Ranked(3);
  docs[1].score.reset();
  const Status missing = MakePlan(Example(docs), {ComposeMode::kExact, DocumentOrder::kSides}, kKeys).status();
  EXPECT_EQ(missing.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(missing.message(), HasSubstr("has no score"));
  const Status idle = MakePlan(Example(Ranked(3)), {ComposeMode::kSet, DocumentOrder::kRelevance}, kKeys).status();
  EXPECT_EQ(idle.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(idle.message(), HasSubstr("changes nothing"));
}

TEST(Plan, RepeatReadsASetTwice) {
  EXPECT_THAT(TokensIn(DocumentOrder::kRepeat, Ranked(1)), ElementsAre(1, 2, 1, 1, 8, 9));
  EXPECT_THAT(TokensIn(DocumentOrder::kRepeat, {kDocs[1], kDocs[0]}),
              ElementsAre(1, 2, 20, 10, 11, 12, 20, 10, 11, 12, 8, 9));
  // As sets: the second copies see all of the first, and not each other.
  const ComposeOptions options{ComposeMode::kSet, DocumentOrder::kRepeat};
  const Plan plan = MakePlan(Example(kDocs), options, kKeys).value();
  ASSERT_EQ(plan.runs.size(), 8u);
  for (size_t i = 4; i < 7; ++i) {
    EXPECT_EQ(plan.runs[i].base, 6);
    EXPECT_THAT(plan.runs[i].visible, ElementsAre(0, 1, 2, 3));
    EXPECT_NE(plan.runs[i].address, plan.runs[i - 3].address);
  }
  EXPECT_EQ(plan.runs[7].base, 10);
  std::vector<PromptNode> docs = kDocs;
  std::reverse(docs.begin(), docs.end());
  const Plan reversed = MakePlan(Example(docs), options, kKeys).value();
  for (size_t i = 0; i < 8; ++i) EXPECT_EQ(reversed.runs[i].address, plan.runs[i].address);
}

TEST(Plan, SetPlacesMembersAtOneBaseUnseenByEachOther) {
  const Plan plan = MakePlan(Example(kDocs), {ComposeMode::kSet, DocumentOrder::kGiven}, kKeys).value();
  ASSERT_EQ(plan.runs.size(), 5u);
  EXPECT_EQ(plan.runs[0].base, 0);
  for (int i = 1; i <= 3; ++i) {
    EXPECT_EQ(plan.runs[static_cast<size_t>(i)].base, 2);
    EXPECT_THAT(plan.runs[static_cast<size_t>(i)].visible, ElementsAre(0));
  }
  EXPECT_EQ(plan.runs[4].base, 6);  // behind the longest member
  EXPECT_THAT(plan.runs[4].visible, ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(plan.runs[4].tokens, ElementsAre(8, 9));
  EXPECT_EQ(plan.end_position(), 8);
  EXPECT_EQ(plan.exactness, "set-exact");
}

TEST(Plan, SetIsTheSameForEveryOrder) {
  const ComposeOptions options{ComposeMode::kSet, DocumentOrder::kGiven};
  const Plan first = MakePlan(Example(kDocs), options, kKeys).value();
  std::vector<PromptNode> docs = kDocs;
  std::mt19937 random(1);
  for (int i = 0; i < 10; ++i) {
    std::shuffle(docs.begin(), docs.end(), random);
    const Plan plan = MakePlan(Example(docs), options, kKeys).value();
    ASSERT_EQ(plan.runs.size(), first.runs.size());
    for (size_t r = 0; r < plan.runs.size(); ++r) {
      EXPECT_EQ(plan.runs[r].address, first.runs[r].address);
      EXPECT_EQ(plan.runs[r].tokens, first.runs[r].tokens);
    }
    for (size_t d = 0; d < docs.size(); ++d)
      EXPECT_EQ(plan.pieces[d + 1].document, docs[d].document);  // the report keeps the order
  }
}

TEST(Plan, AddressesSayWhatTokensSee) {
  const ComposeOptions set{ComposeMode::kSet, DocumentOrder::kGiven};
  const Plan three = MakePlan(Example(kDocs), set, kKeys).value();
  const Plan two = MakePlan(Example({kDocs[0], kDocs[2]}), set, kKeys).value();
  // A document's address does not depend on its companions; the tail's does.
  const auto find = [](const Plan& plan, const std::vector<int32_t>& tokens) {
    return std::ranges::find(plan.runs, tokens, &PlannedRun::tokens)->address;
  };
  EXPECT_EQ(find(three, kDocs[0].tokens), find(two, kDocs[0].tokens));
  EXPECT_NE(three.runs.back().address, two.runs.back().address);
  // The prefix is an ordinary beginning of a flat prompt.
  EXPECT_EQ(three.runs[0].address, MakePlan(Example(kDocs), {}, kKeys).value().runs[0].address);
}

// Which runs of a plan are as they are without salts, in the order of the plan.
std::vector<bool> Public(const PromptNode& tree, const ComposeOptions& options, const std::string& request_salt = {}) {
  PromptNode plain = tree;
  const auto clear = [](const auto& self, PromptNode* node) -> void {
    node->salts.clear();
    for (PromptNode& child : node->children) self(self, &child);
  };
  clear(clear, &plain);
  const Plan salted = MakePlan(tree, options, {kKeys.model, request_salt}).value();
  const Plan same = MakePlan(plain, options, {kKeys.model, ""}).value();
  EXPECT_EQ(salted.runs.size(), same.runs.size());
  std::vector<bool> is_public;
  for (size_t i = 0; i < salted.runs.size(); ++i) {
    EXPECT_EQ(salted.runs[i].tokens, same.runs[i].tokens);  // salts move nothing
    EXPECT_EQ(salted.runs[i].visible, same.runs[i].visible);
    is_public.push_back(salted.runs[i].address == same.runs[i].address);
  }
  return is_public;
}

TEST(Plan, SaltsEnterWhateverHasSeenTheirText) {
  const auto example = [](const Salts& before, const std::vector<Salts>& documents, const Salts& after) {
    PromptNode tree = Example(kDocs);
    tree.children.front().salts = before;
    for (size_t i = 0; i < documents.size(); ++i) tree.children[1].children[i].salts = documents[i];
    tree.children.back().salts = after;
    return tree;
  };
  const ComposeOptions set{ComposeMode::kSet, DocumentOrder::kGiven}, twice{ComposeMode::kSet, DocumentOrder::kRepeat};
  const ComposeOptions repair{.mode = ComposeMode::kRepair};
  EXPECT_THAT(Public(example({}, {{}, {}, {}}, {}), set), ElementsAre(true, true, true, true, true));
  EXPECT_THAT(Public(example({"a"}, {{}, {}, {}}, {}), set), ElementsAre(false, false, false, false, false));
  EXPECT_THAT(Public(example({}, {{}, {}, {}}, {"a"}), set), ElementsAre(true, true, true, true, false));
  // One of the documents: itself, what follows the set, and with `repeat` all of the second set.
  std::vector<bool> one = Public(example({}, {{}, {"a"}, {}}, {}), set);
  EXPECT_EQ(std::ranges::count(one, false), 2);
  EXPECT_FALSE(one.back());
  one = Public(example({}, {{}, {"a"}, {}}, {}), twice);
  EXPECT_EQ(std::count(one.begin(), one.begin() + 4, false), 1);
  EXPECT_EQ(std::count(one.end() - 4, one.end(), false), 4);
  // Repaired documents: what is recomputed of each depends on all of the prompt. Their sources are as in a set.
  const PromptNode tree = example({}, {{}, {}, {"a"}}, {});
  EXPECT_THAT(Public(tree, repair), ElementsAre(true, true, false, false, false));
  const Plan repaired = MakePlan(tree, repair, kKeys).value();
  EXPECT_TRUE(repaired.runs[2].source->address.salted.empty());
  EXPECT_EQ(repaired.runs[3].source->address.salted.size(), 1u);
  EXPECT_EQ(repaired.runs[2].source->address.root, repaired.runs[3].source->address.root);  // of one set
  // A request's salt alone: of what it generates, in the block where that begins.
  EXPECT_THAT(Public(example({}, {{}, {}, {}}, {}), set, "a"), ElementsAre(true, true, true, true, false));
  // Equal documents are placed once, under the salts of both.
  const auto twin = [](const Salts& first, const Salts& second) {
    return MakePlan(PromptNode::Sequence({PromptNode::Set({PromptNode::Text({1, 2}, "x", {}, first),
                                                           PromptNode::Text({1, 2}, "y", {}, second)}),
                                          PromptNode::Text({3})}),
                    {ComposeMode::kSet}, kKeys)
        .value();
  };
  const Plan both = twin({"a"}, {"b"});
  ASSERT_EQ(both.runs.size(), 2u);
  EXPECT_EQ(both.pieces.size(), 3u);
  EXPECT_EQ(both.runs[0].address, twin({"b"}, {"a"}).runs[0].address);
  EXPECT_NE(both.runs[0].address, twin({"a"}, {"a"}).runs[0].address);
  EXPECT_EQ(twin({}, {"a"}).runs[0].address, twin({"a"}, {"a"}).runs[0].address);
}

TEST(Plan, AFlatPromptIsIsolatedFromTheBlockOfTheFirstSaltOn) {
  const auto plan = [](const std::vector<std::pair<int, Salts>>& texts) {
    std::vector<PromptNode> children;
    int at = 0;
    for (const auto& [n, salts] : texts) {
      std::vector<int32_t> tokens(static_cast<size_t>(n));
      std::iota(tokens.begin(), tokens.end(), at);
      at += n;
      children.push_back(PromptNode::Text(std::move(tokens), {}, {}, salts));
    }
    return MakePlan(PromptNode::Sequence(std::move(children)), {}, kKeys).value().runs[0];
  };
  const auto shared = [](const PlannedRun& a, const PlannedRun& b) {  // tokens
    int n = 0;
    const auto key = [](const PlannedRun& run, int end) {
      return RunKey(run.address, std::span(run.tokens).first(static_cast<size_t>(end)));
    };
    while (n + kKvBlockTokens <= static_cast<int>(a.tokens.size()) &&
           key(a, n + kKvBlockTokens) == key(b, n + kKvBlockTokens))
      n += kKvBlockTokens;
    EXPECT_EQ(std::min(n, a.address.CommonTokens(b.address)), std::min(256, a.address.CommonTokens(b.address)));
    return n;
  };
  const PlannedRun open = plan({{256, {}}});
  EXPECT_EQ(shared(open, plan({{256, {"a"}}})), 0);
  EXPECT_EQ(shared(open, plan({{63, {}}, {193, {"a"}}})), 0);
  EXPECT_EQ(shared(open, plan({{64, {}}, {192, {"a"}}})), 64);
  EXPECT_EQ(shared(open, plan({{200, {}}, {10, {"a"}}, {46, {}}})), 192);  // and not again behind it
  const PlannedRun ab = plan({{70, {}}, {70, {"a"}}, {116, {"b"}}});
  EXPECT_EQ(shared(ab, plan({{70, {}}, {70, {"a"}}, {116, {"a"}}})), 128);
  EXPECT_EQ(shared(ab, plan({{70, {}}, {70, {"b"}}, {116, {"a"}}})), 64);
  EXPECT_EQ(shared(ab, plan({{70, {}}, {70, {"a"}}, {10, {"b"}}, {10, {"a"}}, {96, {}}})), 256);
  EXPECT_EQ(shared(ab, ab), 256);
}

TEST(Plan, DuplicatesArePlacedOnce) {
  const Plan plan =
      MakePlan(Example({kDocs[0], Doc(kDocs[0].tokens, "again")}), {ComposeMode::kSet, DocumentOrder::kGiven}, kKeys)
          .value();
  EXPECT_EQ(plan.runs.size(), 3u);
  EXPECT_EQ(plan.pieces[1].run, plan.pieces[2].run);
}

TEST(Plan, ApeWeighsEachSetAsAGroup) {
  ComposeOptions options{ComposeMode::kApe, DocumentOrder::kGiven};
  options.documents_temperature = 0.5;
  options.documents_scale = 0.8;
  const Plan set = MakePlan(Example(kDocs), {ComposeMode::kSet, DocumentOrder::kGiven}, kKeys).value();
  const Plan ape = MakePlan(Example(kDocs), options, kKeys).value();
  EXPECT_EQ(ape.exactness, "operator-exact");
  ASSERT_EQ(ape.groups.size(), 1u);
  EXPECT_EQ(ape.groups[0].inverse_temperature, 2);
  EXPECT_EQ(ape.groups[0].lse_scale, 0.4);
  ASSERT_EQ(ape.runs.size(), set.runs.size());
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(ape.runs[i].group, i >= 1 && i <= 3 ? 1 : 0);
    // Documents see no group, so their KV are those of sets; the tail's are its own.
    EXPECT_EQ(ape.runs[i].address == set.runs[i].address, i < 4) << i;
  }
  options.documents_temperature = options.documents_scale = 1;
  const Plan plain = MakePlan(Example(kDocs), options, kKeys).value();
  EXPECT_TRUE(plain.groups.empty());
  EXPECT_EQ(plain.runs.back().address, set.runs.back().address);
  for (const auto& [temperature, scale] : {std::pair{0.0, 1.0}, {1.0, -1.0}, {std::nan(""), 1.0}, {1.0, INFINITY}}) {
    options.documents_temperature = temperature;
    options.documents_scale = scale;
    EXPECT_EQ(MakePlan(Example(kDocs), options, kKeys).status().code(), StatusCode::kInvalidArgument);
  }
}

TEST(Plan, RepairPlacesKeptDocumentsInSequence) {
  const ComposeOptions options{.mode = ComposeMode::kRepair};
  const Plan set = MakePlan(Example(kDocs), {ComposeMode::kSet, DocumentOrder::kGiven}, kKeys).value();
  const Plan plan = MakePlan(Example(kDocs), options, kKeys).value();
  EXPECT_EQ(plan.exactness, "convergent");
  ASSERT_EQ(plan.runs.size(), 5u);
  const auto root_in_set = [&](const std::vector<int32_t>& tokens) {
    return std::ranges::find(set.runs, tokens, &PlannedRun::tokens)->address;
  };
  int base = 2;
  for (size_t i = 1; i < 4; ++i) {
    const PlannedRun& run = plan.runs[i];
    EXPECT_EQ(run.tokens, kDocs[i - 1].tokens);
    EXPECT_EQ(run.base, base);
    EXPECT_EQ(run.visible.size(), i);
    base += static_cast<int>(run.tokens.size());
    // The first stands where it was read; the others begin with what a set's member is.
    EXPECT_EQ(run.source.has_value(), i > 1);
    EXPECT_EQ(run.source ? run.source->address : run.address, root_in_set(run.tokens));
    if (run.source) {
      EXPECT_EQ(run.source->base, 2);
      EXPECT_THAT(run.source->visible, ElementsAre(0));
    }
  }
  EXPECT_EQ(plan.runs[4].base, base);
  // What is recomputed enters the address.
  ComposeOptions more = options;
  more.repair_fraction = 0.5;
  EXPECT_NE(MakePlan(Example(kDocs), more, kKeys)->runs[2].address, plan.runs[2].address);
  EXPECT_NE(MakePlan(Example({kDocs[2], kDocs[1]}), options, kKeys)->runs[2].address, plan.runs[2].address);
  more.repair_fraction = 1;
  EXPECT_EQ(MakePlan(Example(kDocs), more, kKeys)->runs.size(), 1u);
  EXPECT_EQ(MakePlan(Example(kDocs), more, kKeys)->exactness, kCausalExact);
  more.repair_fraction = 1.5;
  EXPECT_EQ(MakePlan(Example(kDocs), more, kKeys).status().code(), StatusCode::kInvalidArgument);
  more.repair_fraction = 0.5;
  more.repair_policy = "guess";
  EXPECT_THAT(MakePlan(Example(kDocs), more, kKeys).status().message(), HasSubstr("focused, first, question"));
}

TEST(RepairPolicy, ChoosesWithinItsBudget) {
  RepairInput input{.lengths = {20, 3, 40, 0},
                    .sentences = std::vector<std::vector<int32_t>>(4),
                    .budget = 12,
                    .question = {},
                    .deviation = {},
                    .attention = {},
                    .neighbours = {}};
  for (const int n : input.lengths) {
    input.question.emplace_back(static_cast<size_t>(n), 1.0f);
    input.neighbours.push_back({10, 20});
    input.attention.emplace_back(static_cast<size_t>(3 * n), 0.1f);
  }
  input.question[2][35] = 100;
  input.question[0][7] = 50;
  input.deviation = input.question;
  const auto choose = [&](const char* name) { return FindRepairPolicy(name).value()->choose(input); };
  for (const char* name : {"focused", "first", "question", "deviation", "cachecraft", "random"})
    for (const int budget : {0, 1, 12, 40, 63, 100}) {
      input.budget = budget;
      const auto chosen = choose(name);
      ASSERT_EQ(chosen.size(), 4u);
      size_t n = 0;
      for (size_t d = 0; d < 4; ++d) {
        n += chosen[d].size();
        EXPECT_TRUE(std::ranges::is_sorted(chosen[d]));
        EXPECT_EQ(std::ranges::adjacent_find(chosen[d]), chosen[d].end());
        EXPECT_TRUE(chosen[d].empty() || (chosen[d].front() >= 0 && chosen[d].back() < input.lengths[d]));
      }
      EXPECT_EQ(n, static_cast<size_t>(std::min(budget, 63))) << name;
    }
  input.budget = 12;
  EXPECT_THAT(choose("first"),
              ElementsAre(ElementsAre(0, 1, 2, 3, 4), ElementsAre(0, 1, 2), ElementsAre(0, 1, 2, 3), ElementsAre()));
  input.budget = 2;
  EXPECT_THAT(choose("question"), ElementsAre(ElementsAre(7), ElementsAre(), ElementsAre(35), ElementsAre()));
  // How each document begins, then where it is looked at most.
  input.budget = 16;
  EXPECT_THAT(choose("focused"), ElementsAre(ElementsAre(0, 1, 2, 3, 4, 5), ElementsAre(0, 1),
                                             ElementsAre(0, 1, 34, 35, 36, 37, 38, 39), ElementsAre()));
  // Stretches end with a sentence, however short the others in them are.
  input.sentences[2] = {2, 5, 36};
  EXPECT_THAT(choose("focused"), ElementsAre(ElementsAre(0, 1), ElementsAre(0, 1),
                                             ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11), ElementsAre()));
  // A sentence of four times the length is cut.
  RepairInput one{.lengths = {300},
                  .sentences = {{2}},
                  .budget = 45,
                  .question = {std::vector<float>(300, 1)},
                  .deviation = {},
                  .attention = {},
                  .neighbours = {}};
  one.question[0][100] = 1000;
  const auto of_one = FindRepairPolicy("focused").value()->choose(one)[0];
  EXPECT_EQ(std::vector(of_one.begin(), of_one.begin() + 4), (std::vector<int32_t>{0, 1, 78, 79}));
  // What attends to the document before it, in the documents that the question looks at.
  input.budget = 4;
  input.question.assign(4, {});
  for (size_t d = 0; d < 4; ++d) input.question[d].assign(static_cast<size_t>(input.lengths[d]), d == 2 ? 1.0f : 0.0f);
  for (const size_t token : {3u, 4u, 9u, 30u}) input.attention[2][3 * token + 1] = 0.8f;
  input.attention[0][3 * 5] = 0.9f;
  EXPECT_THAT(choose("cachecraft"), ElementsAre(ElementsAre(), ElementsAre(), ElementsAre(3, 4, 9, 30), ElementsAre()));
  EXPECT_EQ(RepairBudget(input.lengths, 0.15), 10);
  EXPECT_EQ(RepairBudget(input.lengths, 0), 0);
  EXPECT_EQ(RepairBudget(input.lengths, 1), 63);
}

TEST(Plan, SaysWhatItCannotDo) {
  EXPECT_EQ(MakePlan(Example(kDocs), {ComposeMode::kSet, DocumentOrder::kSearch}, kKeys).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(MakePlan(PromptNode::Sequence({}), {}, kKeys).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(MakePlan(PromptNode::Set(kDocs), {ComposeMode::kSet, DocumentOrder::kGiven}, kKeys).status().code(),
            StatusCode::kInvalidArgument);
}

TEST(Labels, KeepNumbersAndDoNotDependOnOrder) {
  std::vector<Document> docs;
  for (int i = 0; i < 300; ++i) docs.push_back({"doc-" + std::to_string(i), "", "text " + std::to_string(i)});
  docs.push_back({"417", "", ""});
  docs.push_back({"0417", "", ""});
  std::vector<std::string> labels = AssignLabels(docs);
  EXPECT_EQ(labels[300], "417");
  std::vector<std::string> sorted = labels;
  std::ranges::sort(sorted);
  EXPECT_EQ(std::ranges::adjacent_find(sorted), sorted.end());
  std::vector<Document> reversed(docs.rbegin(), docs.rend());
  std::vector<std::string> other = AssignLabels(reversed);
  std::ranges::reverse(other);
  EXPECT_EQ(other, labels);
  docs.resize(1200);
  for (size_t i = 302; i < docs.size(); ++i) docs[i].text = "more " + std::to_string(i);
  sorted = AssignLabels(docs);
  std::ranges::sort(sorted);
  EXPECT_EQ(std::ranges::adjacent_find(sorted), sorted.end());
}

TEST(Labels, AreOfWhatDocumentsSay) {
  std::vector<Document> docs = {{"a.txt", "A", "first"}, {"b.txt", "B", "second"}, {"", "", "third"}};
  const std::vector<std::string> labels = AssignLabels(docs);
  docs = {{"", "", "third"}, {"other/a.md@77", "A", "first"}, {"x", "B", "second"}, {"y", "A", "first"}};
  const std::vector<std::string> other = AssignLabels(docs);
  EXPECT_EQ(other[0], labels[2]);
  EXPECT_EQ(other[1], labels[0]);
  EXPECT_EQ(other[2], labels[1]);
  EXPECT_EQ(other[3], other[1]);  // says the same
  docs[3].title = "a";
  EXPECT_NE(AssignLabels(docs)[3], other[1]);
  // Those without an id are called by their place.
  NameDocuments(&docs);
  EXPECT_EQ(docs[0].id, "1");
  EXPECT_EQ(docs[1].id, "other/a.md@77");
}

TEST(Labels, OfPublicTextsDoNotTellOfPrivateOnes) {
  std::vector<Document> docs;
  for (int i = 0; i < 500; ++i) docs.push_back({"d" + std::to_string(i), "", std::to_string(i), {}, ""});
  const std::vector<std::string> labels = AssignLabels(docs);
  int moved = 0;
  for (int i = 0; i < 400; ++i) {
    docs.push_back({"p" + std::to_string(i), "", "p" + std::to_string(i)});
    if (i % 2) docs.back().cache_salt = "group";
  }
  const std::vector<std::string> more = AssignLabels(docs, "tenant"), open = AssignLabels(docs);
  EXPECT_TRUE(std::equal(labels.begin(), labels.end(), more.begin()));
  for (size_t i = 0; i < labels.size(); ++i) moved += open[i] != labels[i];
  EXPECT_GT(moved, 50);  // else there was nothing to tell
}

}  // namespace
}  // namespace spanwise

// Orders that are settled at a request's turn: by what is kept, and by what the model finds likely.
#include "engine/arrangement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "engine/test_engines.h"

namespace spanwise {
namespace {

using ::testing::HasSubstr;

// One that asks for what the last document says, so that order decides.
Request Question() {
  Request request;
  for (const auto& [id, text] :
       {std::pair{"1", "The warden of Dorrel Moor is Ines Vahl. She has held the post since 1998."},
        {"2", "The warden of Dorrel Moor is Tomas Erk, who came from Norhaven last spring."},
        {"3", "Dorrel Moor lies north of Norhaven and is known for its peat and its herons."},
        {"4", "The warden of Velk is Anna Rood. Velk has a lighthouse and two ferries."}})
    request.documents.push_back({.id = id, .title = "", .text = text});
  request.messages = {{"user", "Who is the warden of Dorrel Moor?"}};
  request.compose.order = DocumentOrder::kSearch;
  request.compose.force = true;
  request.sampling.logprobs = 0;
  return request;
}

// The same with the documents as they stood in the answer's prompt.
Request Ordered(const Request& request, const Answer& answer) {
  Request ordered = request;
  ordered.documents.clear();
  for (const PieceReport& piece : answer.compose.spans)
    for (const Document& document : request.documents)
      if (document.id == piece.document) ordered.documents.push_back(document);
  ordered.compose.order = DocumentOrder::kGiven;
  return ordered;
}

double LogLikelihood(Engine& engine, Request request, const std::string& text) {
  request.compose.order = DocumentOrder::kGiven;
  request.forced_tokens = engine.Tokenize(text, false).value();
  const Answer answer = engine.Run(request).value();
  double sum = 0;
  for (const TokenReport& token : answer.tokens) sum += double{*token.logprob};
  return sum;
}

TEST(SearchedOrder, IsAtLeastAsLikelyAsTheGivenOneAndAnswersAsThatOrderDoes) {
  for (const ComposeMode mode : {ComposeMode::kExact, ComposeMode::kRepair}) {
    for (const char* draft : {"", "The warden of Dorrel Moor is Ines Vahl. [1]"}) {
      SCOPED_TRACE(::testing::Message() << ComposeModeName(mode) << " " << draft);
      const auto engine = OpenPocket(), small_steps = OpenPocket(13);
      Request request = Question();
      request.compose.mode = mode;
      request.compose.search_draft = draft;
      const Answer found = engine->Run(request).value();
      ASSERT_TRUE(found.compose.search);
      const SearchReport& search = *found.compose.search;
      EXPECT_GE(search.trials, 4);
      EXPECT_LE(search.trials, 16);
      EXPECT_GE(search.chosen, search.given);
      EXPECT_LT(search.given, 0);
      // What trials have in common is not read again.
      EXPECT_GT(search.tokens, found.usage.prompt_tokens);
      EXPECT_LT(search.tokens, search.trials * found.usage.prompt_tokens);
      EXPECT_EQ(found.compose.order, DocumentOrder::kSearch);

      const Request ordered = Ordered(request, found);
      ASSERT_EQ(ordered.documents.size(), 4u);
      ExpectSame(OpenPocket()->Run(ordered).value().tokens, found.tokens);
      if (*draft != '\0') {
        EXPECT_NEAR(LogLikelihood(*engine, request, draft), search.given, 1e-4);
        EXPECT_NEAR(LogLikelihood(*engine, ordered, draft), search.chosen, 1e-4);
        EXPECT_GT(search.chosen, search.given + 0.1);
      }
      // Warm, and cut otherwise.
      for (Engine* other : {engine.get(), small_steps.get()}) {
        const Answer again = other->Run(request).value();
        ExpectSame(again.tokens, found.tokens);
        EXPECT_EQ(again.compose.search->trials, search.trials);
        EXPECT_EQ(again.compose.search->chosen, search.chosen);
      }
    }
  }
}

TEST(SearchedOrder, KeepsToItsTrials) {
  const auto engine = OpenPocket();
  Request request = Question();
  request.compose.search_trials = 1;
  const Answer given = engine->Run(request).value();
  EXPECT_EQ(given.compose.search->trials, 1);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(given.compose.spans[i + 1].document, request.documents[i].id);
  request.use_cache = false;
  request.compose.search_trials = 3;
  const Answer uncached = engine->Run(request).value();
  EXPECT_EQ(uncached.compose.search->trials, 3);
  EXPECT_EQ(uncached.compose.search->tokens, 3 * uncached.usage.prompt_tokens);
  EXPECT_EQ(uncached.usage.cached_tokens, 0);
  request.documents.resize(1);
  EXPECT_EQ(engine->Run(request).value().compose.search->trials, 1);
  request.documents.clear();
  EXPECT_FALSE(engine->Run(request).value().compose.search);
}

TEST(SearchedOrder, CanBeCancelledBetweenTrials) {
  const auto engine = OpenPocket(16);
  auto cancel = std::make_shared<CancelFlag>();
  cancel->Cancel();
  EXPECT_EQ(engine->Run(Question(), {}, cancel).status().code(), StatusCode::kCancelled);
  EXPECT_EQ(engine->stats().kv_blocks_reserved, 0u);
}

TEST(LateOrders, RefuseWhatTheyCannotDo) {
  const auto engine = OpenPocket();
  const auto error = [&](const Request& request) { return engine->Run(request).status().message(); };
  Request request = Question();
  for (const ComposeMode mode : {ComposeMode::kSet, ComposeMode::kApe}) {
    request.compose.mode = mode;
    for (const DocumentOrder order : {DocumentOrder::kSearch, DocumentOrder::kCached}) {
      request.compose.order = order;
      EXPECT_THAT(error(request), HasSubstr("changes nothing in compose mode"));
    }
  }
  request.compose.mode = ComposeMode::kRepair;
  request.compose.order = DocumentOrder::kCached;
  EXPECT_THAT(error(request), HasSubstr("order 'cached' is of compose mode 'exact'"));
  request = Question();
  for (const int trials : {0, -1, ComposeOptions::kMostTrials + 1}) {
    request.compose.search_trials = trials;
    EXPECT_THAT(error(request), HasSubstr("search_trials is"));
  }
  request = Question();
  request.compose.search_draft = std::string(100'000, 'x');
  EXPECT_THAT(error(request), HasSubstr("search_draft has"));
  request = Question();
  request.branches = {{"a", 2}};
  EXPECT_THAT(error(request), HasSubstr("goes with neither 'branches'"));
}

TEST(CachedOrder, HitsMoreAndAnswersAsThatOrderDoes) {
  const auto engine = OpenPocket();
  Request request = Question();
  request.compose.order = DocumentOrder::kGiven;
  ASSERT_TRUE(engine->Run(request).ok());
  // The same and one more, in another order and with another question.
  Request other = request;
  std::ranges::reverse(other.documents);
  other.documents.insert(other.documents.begin(), {.id = "5", .title = "", .text = "Norhaven has a harbour."});
  other.messages[0].content = "What is Dorrel Moor known for?";
  const auto elsewhere = OpenPocket();
  ASSERT_TRUE(elsewhere->Run(request).ok());
  const int given = elsewhere->Run(other).value().usage.cached_tokens;
  other.compose.order = DocumentOrder::kCached;
  const Answer cached = engine->Run(other).value();
  EXPECT_LT(given, 10);
  int n_known = 0;
  for (size_t i = 0; i < 5; ++i) n_known += cached.compose.spans[i].tokens;
  EXPECT_GE(cached.usage.cached_tokens, n_known);  // what stands before the documents, and four of them
  const Request ordered = Ordered(other, cached);
  const std::vector<std::string> expected = {"1", "2", "3", "4", "5"};
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(ordered.documents[i].id, expected[i]);
  ExpectSame(OpenPocket()->Run(ordered).value().tokens, cached.tokens);
  EXPECT_EQ(cached.compose.exactness, "causal-exact");

  // Without a cache, or for another tenant, equal sets still make equal prompts.
  other.use_cache = false;
  const Answer uncached = engine->Run(other).value();
  other.use_cache = true;
  other.cache_salt = "other";
  const Answer salted = engine->Run(other).value();
  for (size_t i = 0; i < 5; ++i)
    EXPECT_EQ(salted.compose.spans[i + 1].document, uncached.compose.spans[i + 1].document);
}

// The longest beginning of all, not the longest next piece.
TEST(CachedOrder, FindsTheLongestBeginning) {
  const auto text = [](int seed, int n) {
    std::vector<int32_t> tokens(static_cast<size_t>(n));
    std::iota(tokens.begin(), tokens.end(), seed * 1000);
    return tokens;
  };
  const std::vector<PromptNode> documents = {PromptNode::Text(text(1, 90), "a"), PromptNode::Text(text(2, 100), "b"),
                                             PromptNode::Text(text(3, 150), "c"), PromptNode::Text(text(4, 20), "d")};
  const PromptNode tree =
      PromptNode::Sequence({PromptNode::Text(text(9, 10)), PromptNode::Set(documents), PromptNode::Text(text(8, 5))});
  const Arrangement arrangement{
      .tree = tree, .options = {.order = DocumentOrder::kCached}, .keys = {Sha256("m"), ""}, .draft = {}};
  const KvGeometry geometry{.n_layers = 1, .n_kv_heads = 1, .head_dim = 2, .dtype = DType::kF32};
  SpanStore store(geometry, size_t{1} << 20);
  const auto keep = [&](const std::vector<size_t>& order) {
    std::vector<int32_t> tokens = tree.children[0].tokens;
    for (const size_t i : order) tokens.insert(tokens.end(), documents[i].tokens.begin(), documents[i].tokens.end());
    SpanKey parent = RootKey(arrangement.keys.model, "causal", {});
    for (std::span<const int32_t> rest = tokens; !rest.empty();) {
      const auto block = rest.first(std::min<size_t>(rest.size(), kKvBlockTokens));
      parent = store.Publish(parent, block, store.Allocate().value())->key;
      rest = rest.subspan(block.size());
    }
  };
  std::vector<size_t> canonical = arrangement.CachedOrder(store);
  keep({1});     // the longest to begin with ...
  keep({0, 2});  // ... but this goes on
  const std::vector<size_t> order = arrangement.CachedOrder(store);
  EXPECT_EQ(order[0], 0u);
  EXPECT_EQ(order[1], 2u);
  EXPECT_LT(std::ranges::find(canonical, order[2]), std::ranges::find(canonical, order[3]));
  const uint64_t before = store.stats().lookup_tokens;
  EXPECT_EQ(arrangement.CachedOrder(store), order);
  EXPECT_EQ(store.stats().lookup_tokens, before);  // asking leaves no trace
  keep({3, 1, 0, 2});
  EXPECT_EQ(arrangement.CachedOrder(store), (std::vector<size_t>{3, 1, 0, 2}));
}

}  // namespace
}  // namespace spanwise

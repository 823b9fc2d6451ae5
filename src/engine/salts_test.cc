// Who finds whose KV: tenants, and private and public texts in one prompt.
#include <gmock/gmock.h>

#include <filesystem>
#include <random>

#include "engine/test_engines.h"

namespace spanwise {
namespace {

using Salt = std::optional<std::string>;

std::string Text(unsigned seed, int n) {
  std::mt19937 random(seed);
  std::string text;
  for (int i = 0; i < n; ++i) text += static_cast<char>('a' + random() % 26);
  return text;
}

Request Asked(ComposeMode mode, const std::string& salt) {
  Request request;
  request.messages = {{"user", "Which?"}};
  request.compose = {.mode = mode, .force = true};
  request.sampling.max_tokens = 3;
  request.sampling.ignore_eos = true;
  request.sampling.logprobs = 2;
  request.cache_salt = salt;
  return request;
}

Answer Answered(Engine& engine, const Request& request) {
  auto answer = engine.Run(request);
  if (answer.ok()) return std::move(*answer);
  ADD_FAILURE() << answer.status().message();
  return {};
}

// Tokens found of each piece of the prompt, then of all.
std::vector<int> Found(const Answer& answer) {
  std::vector<int> found;
  for (const PieceReport& piece : answer.compose.spans) found.push_back(piece.cached_tokens);
  found.push_back(answer.usage.cached_tokens);
  return found;
}

int FoundOf(const Answer& answer, const std::string& document) {
  for (const PieceReport& piece : answer.compose.spans)
    if (piece.document == document) return piece.cached_tokens;
  return -1;
}

constexpr ComposeMode kModes[] = {ComposeMode::kExact, ComposeMode::kSet, ComposeMode::kApe, ComposeMode::kRepair};

// The whole promise: what one tenant is told about the cache does not depend on what another one's private texts say.
TEST(Salts, NobodySeesWhetherAnothersTextIsKept) {
  std::mt19937 random(20);
  const auto pick = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  for (int round = 0; round < 150; ++round) {
    const auto drawn = random();
    const auto draw = [&](bool other_texts) {  // a tenant's request; private texts may be others
      random.seed(drawn);
      Request a = Asked(kModes[pick(4)], pick(2) ? "a" : "");
      if (a.compose.mode != ComposeMode::kExact || pick(2))
        a.compose.order = pick(3) ? DocumentOrder::kGiven : DocumentOrder::kRepeat;
      const auto text = [&](const Salt& salt, int n) {
        const unsigned seed = static_cast<unsigned>(pick(1000));
        const bool is_private = !salt.value_or(a.cache_salt).empty();
        return Text(seed + (is_private && other_texts ? 5000 : 0), n);
      };
      const bool open = pick(3) > 0;  // most is public
      const auto salt = [&]() -> Salt {
        if (open && pick(5) > 0) return "";
        const int n = pick(4);
        return n == 0 ? Salt("") : n == 1 ? Salt("a") : n == 2 ? Salt("aa") : Salt();
      };
      a.messages.clear();
      if (pick(2)) {
        const Salt s = salt();
        a.messages.push_back({"system", text(s, 10 + pick(50)), s});
      }
      const int longest = a.compose.order == DocumentOrder::kRepeat ? 30 : 80;
      for (int i = 1 + pick(3), n = 1; n <= i; ++n) {
        const Salt s = salt();
        a.documents.push_back({std::to_string(n), "", text(s, 5 + pick(longest)), {}, s});
      }
      const Salt s = salt();
      a.messages.push_back({"user", text(s, 10), s});
      switch (pick(4)) {
        case 0:
          a.branches = {{text(Salt(), 8), 4}, {"y", 70}};
          a.join = "z";
          break;
        case 1:
          a.steps = {{text(Salt(), 8), 70}, {"more", 3}};
          break;
        case 2:
          a.sampling.max_tokens = 80;
          break;
      }
      return a;
    };
    const Request a = draw(false), other = draw(true);
    // Tenant b asks for the very same texts without a's salts, twice, and for what followed them.
    Request b = a;
    b.cache_salt = pick(2) ? "b" : "";
    for (Message& m : b.messages) m.cache_salt.reset();
    for (Document& d : b.documents) d.cache_salt.reset();
    Request flat = b;
    flat.compose.mode = kModes[pick(4)];
    const auto engine = OpenTiny(2000), twin = OpenTiny(2000);
    const Answer read = Answered(*engine, a);
    (void)Answered(*twin, other);
    for (const Request& asked : {b, flat}) {
      const Answer seen = Answered(*engine, asked), expected = Answered(*twin, asked);
      EXPECT_EQ(Found(seen), Found(expected)) << "round " << round << " mode " << ComposeModeName(a.compose.mode);
      ExpectSame(seen.tokens, expected.tokens);
    }
    // A finds all of its own again, and salts change no answer.
    Request open = a;
    open.cache_salt.clear();
    for (Message& m : open.messages) m.cache_salt.reset();
    for (Document& d : open.documents) d.cache_salt.reset();
    open.use_cache = false;
    ExpectSame(Answered(*engine, open).tokens, read.tokens);
    const Answer again = Answered(*engine, a);
    ExpectSame(again.tokens, read.tokens);
    if (a.branches.empty() && a.steps.empty()) {
      EXPECT_EQ(again.usage.cached_tokens, again.usage.prompt_tokens - 1);
    }
  }
}

TEST(Salts, PublicDocumentsAreSharedAndPrivateOnesAreNot) {
  for (const ComposeMode mode : {ComposeMode::kSet, ComposeMode::kApe, ComposeMode::kRepair}) {
    SCOPED_TRACE(ComposeModeName(mode));
    const auto engine = OpenTiny(2000);
    Request a = Asked(mode, "a");
    a.documents = {{"1", "", Text(1, 100), {}, ""}, {"2", "", Text(2, 90)}, {"3", "", Text(3, 80), {}, "group"}};
    (void)Answered(*engine, a);
    Request b = a;
    b.cache_salt = "b";
    b.documents[2].cache_salt = "group";
    const Answer answer = Answered(*engine, b);
    const auto tokens = [&](size_t i) { return answer.compose.spans[i].tokens; };
    EXPECT_EQ(FoundOf(answer, "1"), tokens(1));
    EXPECT_EQ(FoundOf(answer, "2"), 0);
    // Who knows the salt of the group shares with it; of what is repaired that counts which is not recomputed.
    EXPECT_GT(FoundOf(answer, "3"), mode == ComposeMode::kRepair ? tokens(3) / 2 : tokens(3) - 1);
    EXPECT_EQ(answer.compose.spans.front().cached_tokens, answer.compose.spans.front().tokens);  // the template's text
    EXPECT_EQ(answer.compose.spans.back().cached_tokens, 0);
    // A system message that says nothing else is the tenant's own, and so are documents that have seen it.
    a.messages.insert(a.messages.begin(), {"system", "Be brief."});
    b.messages = a.messages;
    (void)Answered(*engine, a);
    EXPECT_EQ(Answered(*engine, b).usage.cached_tokens, 0);
    b.cache_salt = "c";
    a.messages[0].cache_salt = b.messages[0].cache_salt = "";
    (void)Answered(*engine, a);
    const Answer shared = Answered(*engine, b);
    EXPECT_EQ(FoundOf(shared, "1"), tokens(1));
    EXPECT_EQ(FoundOf(shared, "2"), 0);
  }
}

TEST(Salts, AFlatPromptIsSharedUpToTheFirstPrivateDocument) {
  for (const DocumentOrder order : {DocumentOrder::kGiven, DocumentOrder::kCached}) {
    const auto engine = OpenTiny(2000);
    Request a = Asked(ComposeMode::kExact, "a");
    a.compose.order = order;
    a.documents = {{"1", "", Text(1, 150), {}, ""}, {"2", "", Text(2, 90)}, {"3", "", Text(3, 80), {}, ""}};
    const Answer first = Answered(*engine, a);
    const auto reached = [&](const Answer& answer) {  // tokens up to the end of the first piece that is not all found
      int n = 0;
      for (const PieceReport& piece : answer.compose.spans) n += piece.cached_tokens;
      return n;
    };
    Request b = a;
    b.cache_salt = "b";
    if (order == DocumentOrder::kCached) b.compose.order = DocumentOrder::kGiven;
    std::vector<Document> arranged;
    for (const PieceReport& piece : first.compose.spans)
      for (const Document& d : a.documents)
        if (d.id == piece.document) arranged.push_back(d);
    b.documents = arranged;
    int before = first.compose.spans[0].tokens;
    for (size_t i = 0; i < arranged.size() && arranged[i].cache_salt; ++i) before += first.compose.spans[i + 1].tokens;
    EXPECT_EQ(reached(Answered(*engine, b)), before / 64 * 64);
    // An order that asks what is kept is told no more.
    b.cache_salt = "c";
    b.compose.order = DocumentOrder::kCached;
    EXPECT_LE(reached(Answered(*engine, b)), before / 64 * 64);
    b = a;
    b.documents = arranged;
    const Answer again = Answered(*engine, b);
    EXPECT_EQ(again.usage.cached_tokens, again.usage.prompt_tokens - 1);
  }
}

TEST(Salts, OnDiskToo) {
  std::string folder = (std::filesystem::temp_directory_path() / "salts.XXXXXX").string();
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  EngineOptions options{.model = TinyModel(),
                        .threads = 2,
                        .kv_memory_bytes = size_t{16} << 20,
                        .cache_dir = folder + "/kv",
                        .cache_dir_bytes = uint64_t{64} << 20,
                        .cache_dir_waits = true,
                        .plan_loads = false};
  Request documents = Asked(ComposeMode::kSet, "");
  documents.documents = {{"1", "", Text(1, 100)}, {"2", "", Text(2, 90), {}, "a"}, {"3", "", Text(3, 200)}};
  documents.documents_only = true;
  (void)Answered(*Engine::Open(options).value(), documents);  // baked: two public documents and a private one
  options.baked_dirs = {std::exchange(options.cache_dir, "")};
  for (const std::string salt : {"a", "b"}) {
    const auto engine = Engine::Open(options).value();
    Request request = Asked(ComposeMode::kSet, salt);
    request.documents = documents.documents;
    request.documents[0].cache_salt = "";
    request.documents[1].cache_salt.reset();
    const Answer answer = Answered(*engine, request);
    EXPECT_EQ(FoundOf(answer, "1"), answer.compose.spans[1].tokens);
    EXPECT_EQ(FoundOf(answer, "2"), salt == "a" ? answer.compose.spans[2].tokens : 0);
    EXPECT_LE(FoundOf(answer, "3"), 1);  // the tenant's own, who says nothing else; it begins as his other one
  }
  // A flat prompt whose end is private comes back whole, and to its tenant alone.
  options.cache_dir = folder + "/flat";
  options.baked_dirs.clear();
  Request flat = Asked(ComposeMode::kExact, "a");
  flat.documents = {{"1", "", Text(1, 150), {}, ""}, {"2", "", Text(2, 200)}};
  (void)Answered(*Engine::Open(options).value(), flat);
  for (const bool own : {false, true}) {
    const auto engine = Engine::Open(options).value();
    Request request = flat;
    if (!own) request.cache_salt = "b";
    const Answer answer = Answered(*engine, request);
    const int before = answer.compose.spans[0].tokens + answer.compose.spans[1].tokens;
    EXPECT_EQ(answer.usage.cached_tokens, own ? answer.usage.prompt_tokens - 1 : before / 64 * 64);
    EXPECT_EQ(engine->stats().kv_disk_tokens, static_cast<uint64_t>(answer.usage.cached_tokens));
  }
  std::filesystem::remove_all(folder);
}

// Chains that go on under a salt lose their blocks like others, and what is left of them is as good.
TEST(Salts, InMemoryThatIsTooSmall) {
  const auto engine = OpenTiny(24);
  for (int round = 0; round < 3; ++round)
    for (unsigned i = 0; i < 6; ++i)
      for (const ComposeMode mode : {ComposeMode::kExact, ComposeMode::kSet, ComposeMode::kRepair}) {
        Request request = Asked(mode, i % 2 ? "a" : "b");
        request.documents = {
            {"1", "", Text(i / 2, 90), {}, ""}, {"2", "", Text(i, 80)}, {"3", "", Text(7, 70), {}, ""}};
        const Answer answer = Answered(*engine, request);
        request.use_cache = false;
        ExpectSame(Answered(*engine, request).tokens, answer.tokens);
      }
  EXPECT_GT(engine->stats().cached_tokens, 0u);
  EXPECT_LE(engine->stats().kv_blocks, 24u);
}

TEST(Salts, HaveALimit) {
  const auto engine = OpenTiny();
  const auto refused = [&](const auto& change, const std::string& name) {
    Request request = Asked(ComposeMode::kSet, "a");
    request.documents = {{"1", "", "text"}};
    change(request, std::string(Document::kMostSaltBytes, 'x'));
    EXPECT_TRUE(engine->Run(request).ok());
    change(request, std::string(Document::kMostSaltBytes + 1, 'x'));
    const auto answer = engine->Run(request);
    EXPECT_EQ(answer.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(answer.status().message(), testing::HasSubstr("'" + name + "' has 1025 bytes"));
  };
  refused([](Request& r, const std::string& salt) { r.cache_salt = salt; }, "cache_salt");
  refused([](Request& r, const std::string& salt) { r.messages[0].cache_salt = salt; }, "messages[0].cache_salt");
  refused([](Request& r, const std::string& salt) { r.documents[0].cache_salt = salt; }, "documents[0].cache_salt");
}

}  // namespace
}  // namespace spanwise

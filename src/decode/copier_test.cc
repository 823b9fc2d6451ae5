#include "decode/copier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

#include "decode/sampler.h"

namespace spanwise::decode {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// One byte a token; words are letters, and a word may begin without the space before it.
CopySource Bytes(const std::string& name, const std::string& text) {
  CopySource source{.name = name, .text = text, .tokens = {}};
  for (size_t i = 0; i < text.size(); ++i) {
    const bool letter = text[i] != ' ';
    const bool begins = letter && (i == 0 || text[i - 1] == ' '), ends = i + 1 == text.size() || text[i + 1] == ' ';
    source.tokens.push_back({.id = text[i],
                             .begin = i,
                             .end = i + 1,
                             .first = begins ? text[i] : CopySource::kNone,
                             .first_begin = i,
                             .may_end = letter && ends});
  }
  return source;
}

TEST(Copier, FollowsAllPlacesAtOnce) {
  const std::vector<CopySource> sources = {Bytes("a", "ab ad"), Bytes("b", "b ab c")};
  Copier copier(sources);
  EXPECT_THAT(copier.next(), ElementsAre('a', 'b', 'c'));
  EXPECT_FALSE(copier.may_end());
  copier.Accept('a');
  EXPECT_THAT(copier.next(), ElementsAre('b', 'd'));
  EXPECT_FALSE(copier.may_end());
  copier.Accept('b');
  EXPECT_TRUE(copier.may_end());
  EXPECT_EQ(copier.place().source, &sources[0]);
  for (const char c : std::string(" c")) copier.Accept(c);
  EXPECT_THAT(copier.next(), IsEmpty());
  EXPECT_TRUE(copier.may_end());
  EXPECT_EQ(copier.place().source, &sources[1]);
  EXPECT_EQ(copier.place().begin, 2u);
  EXPECT_EQ(copier.place().end, 6u);
}

TEST(Copier, DoesNotCopyOverGaps) {
  CopySource source = Bytes("a", "abc");
  source.tokens[1] = {};
  const std::vector<CopySource> sources = {source, Bytes("empty", "")};
  Copier copier(sources);
  copier.Accept('a');
  EXPECT_THAT(copier.next(), IsEmpty());
}

// Whatever is chosen of what is offered is a stretch of a source, from a word's beginning on; all stretches are
// reached.
TEST(Copier, OffersAllStretchesAndNothingElse) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    std::vector<CopySource> sources;
    std::set<std::string> expected;
    for (int s = 0; s < 3; ++s) {
      std::string text;
      for (int i = static_cast<int>(random() % 12); i > 0; --i) text += "ab "[random() % 3];
      sources.push_back(Bytes(std::to_string(s), text));
      for (const auto& first : sources.back().tokens)
        for (const auto& last : sources.back().tokens)
          if (first.first != CopySource::kNone && last.may_end && last.end > first.begin)
            expected.insert(text.substr(first.begin, last.end - first.begin));
    }
    std::set<std::string> reached;
    const auto explore = [&](const auto& self, const Copier& at, const std::string& text) -> void {
      if (!text.empty()) {
        const Copier::Place place = at.place();
        ASSERT_EQ(place.source->text.substr(place.begin, place.end - place.begin), text);
        if (at.may_end()) reached.insert(text);
      }
      for (const int32_t token : at.next()) {
        Copier further = at;
        further.Accept(token);
        self(self, further, text + static_cast<char>(token));
      }
    };
    explore(explore, Copier(sources), "");
    EXPECT_EQ(reached, expected);
  }
}

TEST(Sampler, ChoosesAmongWhatIsAllowed) {
  const std::vector<float> logits = {1, 5, 2, 4, 3};
  const std::vector<int32_t> allowed = {0, 2, 4};
  for (const float temperature : {0.0f, 1.0f, 100.0f}) {
    SamplingParams params;
    params.temperature = temperature;
    params.seed = 7;
    params.logprobs = 1;
    Sampler sampler = Sampler::Create(params, {.vocab_size = 5}).value();
    std::set<int32_t> seen;
    for (int i = 0; i < 200; ++i) {
      const SampledToken token = sampler.Sample(logits, i, allowed).value();
      seen.insert(token.id);
      EXPECT_EQ(token.logprob, LogprobsOf(logits, token.id, 0)->logprob);
      EXPECT_EQ(token.alternatives[0].id, 1);
    }
    EXPECT_TRUE(std::ranges::includes(std::set<int32_t>{0, 2, 4}, seen));
    EXPECT_EQ(seen.size(), temperature == 0 ? 1u : 3u);
    EXPECT_TRUE(seen.contains(4));
  }
}

}  // namespace
}  // namespace spanwise::decode

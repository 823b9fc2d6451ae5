#include "retrieval/chunker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

#include "base/hash.h"
#include "base/str.h"
#include "retrieval/unicode.h"

namespace spanwise::retrieval {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> Texts(std::string_view text, const std::vector<Chunk>& chunks) {
  std::vector<std::string> texts;
  for (const Chunk& c : chunks) texts.emplace_back(text.substr(c.range.begin, c.range.size()));
  return texts;
}

std::vector<std::string> SentenceTexts(std::string_view text) {
  std::vector<std::string> texts;
  for (const ByteRange r : SplitSentences(text)) texts.emplace_back(text.substr(r.begin, r.size()));
  return texts;
}

bool AllSpace(std::string_view text) {
  for (size_t i = 0; i < text.size(); i += DecodeAt(text, i).bytes)
    if (!IsSpace(DecodeAt(text, i).value)) return false;
  return true;
}

// What chunker.h promises of every result.
void ExpectSound(std::string_view text, const std::vector<Chunk>& chunks, const ChunkOptions& options) {
  size_t end = 0;
  for (const Chunk& chunk : chunks) {
    ASSERT_LE(end, chunk.range.begin);
    ASSERT_LT(chunk.range.begin, chunk.range.end);
    ASSERT_LE(chunk.range.end, text.size());
    EXPECT_TRUE(AllSpace(text.substr(end, chunk.range.begin - end)));
    const std::string_view chunk_text = text.substr(chunk.range.begin, chunk.range.size());
    EXPECT_TRUE(IsValidUtf8(chunk_text));
    if (chunk.n_tokens > options.max_tokens) {
      EXPECT_EQ(DecodeAt(chunk_text, 0).bytes, chunk_text.size());
    }
    end = chunk.range.end;
  }
  EXPECT_TRUE(AllSpace(text.substr(end)));
}

size_t CountWords(std::string_view text) {
  size_t n = 0;
  for (size_t i = 0; i < text.size(); ++i)
    n += !AllSpace(text.substr(i, 1)) && (i == 0 || AllSpace(text.substr(i - 1, 1)));
  return n;
}

ChunkOptions Words(size_t max_tokens) {
  ChunkOptions options;
  options.max_tokens = max_tokens;
  options.cut_tokens = max_tokens;  // no cuts by content
  options.min_tokens = 1;
  options.count_tokens = CountWords;
  options.counter_name = "words";
  return options;
}

TEST(SplitSentences, KnowsWhatEndsOne) {
  EXPECT_THAT(SentenceTexts("One. Two! \"Three?\" Four"), ElementsAre("One.", "Two!", "\"Three?\"", "Four"));
  EXPECT_THAT(SentenceTexts("Dr. A. Vell paid 3.50, e.g. to St. Orm. He left at 5 p.m. on foot."),
              ElementsAre("Dr. A. Vell paid 3.50, e.g. to St. Orm.", "He left at 5 p.m. on foot."));
  EXPECT_THAT(SentenceTexts("1. First point. 2. Second"), ElementsAre("1. First point.", "2. Second"));
  EXPECT_THAT(SentenceTexts("A line\nwrapped. Done\n\nno stop"), ElementsAre("A line\nwrapped.", "Done", "no stop"));
  EXPECT_THAT(SentenceTexts("東京は首都。人口は多い！終"), ElementsAre("東京は首都。", "人口は多い！", "終"));
  EXPECT_THAT(SentenceTexts("Wait... what? Founded in 1962. Built"),
              ElementsAre("Wait... what?", "Founded in 1962.", "Built"));
  EXPECT_THAT(SentenceTexts(" \n\n "), ElementsAre());
}

TEST(ParseBlocks, SeesMarkdownStructure) {
  const std::string text =
      "# One\ntext\n\nTwo\n---\n- a\n- b\n  more\n\n```\n# code\n\nx\n```\n| h | i |\n|---|---|\n| 1 | 2 |\npara | "
      "graph\n\n    indented\n";
  std::vector<std::pair<BlockKind, std::string>> blocks;
  for (const Block& b : ParseBlocks(text, DocumentFormat::kMarkdown))
    blocks.emplace_back(b.kind, text.substr(b.range.begin, b.range.size()));
  using enum BlockKind;
  EXPECT_THAT(blocks, ElementsAre(std::pair(kHeading, "# One"), std::pair(kParagraph, "text"),
                                  std::pair(kHeading, "Two\n---"), std::pair(kListItem, "- a"),
                                  std::pair(kListItem, "- b\n  more"), std::pair(kCode, "```\n# code\n\nx\n```"),
                                  std::pair(kTable, "| h | i |\n|---|---|\n| 1 | 2 |\npara | graph"),
                                  std::pair(kCode, "    indented")));
  EXPECT_EQ(ParseBlocks(text, DocumentFormat::kText).size(), 5u);
}

TEST(Chunker, KeepsSectionsApartAndNamesTheirHeadings) {
  const std::string text = "# A\n\n## B\n\none two\n\nthree\n\n## C\n\nfour\n\n# D\n\nfive\n";
  const auto chunks = ChunkText(text, DocumentFormat::kMarkdown, Words(50));
  EXPECT_THAT(Texts(text, chunks), ElementsAre("# A\n\n## B\n\none two\n\nthree", "## C\n\nfour", "# D\n\nfive"));
  EXPECT_EQ(chunks[0].heading_path, "A > B");
  EXPECT_EQ(chunks[1].heading_path, "A > C");
  EXPECT_EQ(chunks[2].heading_path, "D");
  ExpectSound(text, chunks, Words(50));
}

TEST(Chunker, CutsAtBlocksThenSentencesThenLinesThenWords) {
  const std::string blocks = "a b\n\nc d\n\ne f";
  EXPECT_THAT(Texts(blocks, ChunkText(blocks, DocumentFormat::kText, Words(4))), ElementsAre("a b\n\nc d", "e f"));
  const std::string sentences = "Aa bb. Cc dd. Ee ff gg hh ii jj. Kk.";
  EXPECT_THAT(Texts(sentences, ChunkText(sentences, DocumentFormat::kText, Words(4))),
              ElementsAre("Aa bb. Cc dd.", "Ee ff gg hh", "ii jj. Kk."));
  const std::string code = "```\na b c\nd e f\ng h i j k\n```";
  EXPECT_THAT(Texts(code, ChunkText(code, DocumentFormat::kMarkdown, Words(4))),
              ElementsAre("```\na b c", "d e f", "g h i j", "k\n```"));
  const std::string table = "| a | b |\n|---|---|\n| 1 | 2 |\n";
  EXPECT_THAT(Texts(table, ChunkText(table, DocumentFormat::kMarkdown, Words(6))),
              ElementsAre("| a | b |\n|---|---|", "| 1 | 2 |"));
}

TEST(Chunker, HandlesWindowsLineEndsEmptyAndBlankText) {
  const std::string text = "# A\r\n\r\none\r\n\r\ntwo\r\n";
  const auto chunks = ChunkText(text, DocumentFormat::kMarkdown, Words(3));
  EXPECT_THAT(Texts(text, chunks), ElementsAre("# A\r\n\r\none", "two"));
  EXPECT_TRUE(ChunkText("", DocumentFormat::kMarkdown, {}).empty());
  EXPECT_TRUE(ChunkText(" \n\t\n", DocumentFormat::kText, {}).empty());
}

TEST(Chunker, NeverHalvesACharacter) {
  std::string text;
  for (int i = 0; i < 3000; ++i) AppendUtf8(&text, i % 3 == 0 ? 0x1F600 : 0x4E00 + i % 500);
  for (const size_t max : {1, 2, 7, 240}) {
    ChunkOptions options;
    options.max_tokens = max;
    const auto chunks = ChunkText(text, DocumentFormat::kText, options);
    ExpectSound(text, chunks, options);
    std::string joined;
    for (const std::string& t : Texts(text, chunks)) joined += t;
    EXPECT_EQ(joined, text);
  }
}

std::string RandomText(std::mt19937_64* random, size_t n_pieces) {
  static constexpr std::string_view kParts[] = {
      "# ",    "## ",        "\n", "\n\n",   "\r\n", "```\n", "- ",   "| a | b |\n", "|---|---|\n",
      "word ", "Sentence. ", "é",  "東京",   "。",   "😀 ",    "\t",   "    ",        "===\n",
      "---\n", "1. ",        " ",  "\u2003", "a-b",  "~~~",   "Dr. ", "x|y"};
  std::string text;
  for (size_t i = 0; i < n_pieces; ++i) text += kParts[(*random)() % std::size(kParts)];
  return text;
}

TEST(Chunker, IsSoundForRandomText) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 3000; ++round) {
    const std::string text = RandomText(&random, random() % 200), edited = RandomText(&random, random() % 200);
    const auto format = round % 2 ? DocumentFormat::kMarkdown : DocumentFormat::kText;
    ChunkOptions options = Words(1 + random() % 20);
    if (round % 3 == 0) options.count_tokens = nullptr;
    options.cut_tokens = options.max_tokens / 2;
    const auto chunks = ChunkText(text, format, options);
    ExpectSound(text, chunks, options);
    std::vector<ByteRange> ranges;
    for (const Chunk& c : chunks) ranges.push_back(c.range);
    ExpectSound(edited, RechunkText(edited, format, options, text, ranges), options);
    const auto same = RechunkText(text, format, options, text, ranges);
    EXPECT_EQ(Texts(text, same), Texts(text, chunks));
  }
}

std::vector<std::string> Paragraphs(std::mt19937_64* random, size_t n) {
  std::vector<std::string> paragraphs;
  for (size_t i = 0; i < n; ++i) {
    std::string p = i % 25 == 0 ? "## Section\n\n" : "";
    for (size_t words = 20 + (*random)() % 100; words > 0; --words) p += StrFormat("w{} ", (*random)() % 5000);
    p.back() = '.';
    paragraphs.push_back(std::move(p));
  }
  return paragraphs;
}

std::string Joined(const std::vector<std::string>& paragraphs) {
  std::string text;
  for (const std::string& p : paragraphs) text += p + "\n\n";
  return text;
}

// One paragraph of a hundred replaced: on an update only its chunk goes; cut from scratch, few chunks change.
TEST(Chunker, OneEditChangesOneChunk) {
  std::mt19937_64 random(11);
  ChunkOptions options = Words(240);
  options.cut_tokens = 96;
  options.min_tokens = 32;
  std::vector<size_t> from_scratch;
  for (int round = 0; round < 300; ++round) {
    std::vector<std::string> paragraphs = Paragraphs(&random, 100);
    const std::string before = Joined(paragraphs);
    const auto chunks = ChunkText(before, DocumentFormat::kMarkdown, options);
    std::vector<ByteRange> ranges;
    for (const Chunk& c : chunks) ranges.push_back(c.range);
    std::string& edited = paragraphs[random() % 100];
    edited.replace(edited.rfind('w'), 1, "changed w");  // at most a word more: the chunk may only split in two
    const std::string after = Joined(paragraphs);
    const auto gone = [&](const std::vector<Chunk>& now) {
      const auto old_texts = Texts(before, chunks), new_texts = Texts(after, now);
      const std::multiset<std::string> kept(new_texts.begin(), new_texts.end());
      return static_cast<size_t>(
          std::count_if(old_texts.begin(), old_texts.end(), [&](const std::string& t) { return !kept.contains(t); }));
    };
    const auto rechunked = RechunkText(after, DocumentFormat::kMarkdown, options, before, ranges);
    ExpectSound(after, rechunked, options);
    EXPECT_EQ(gone(rechunked), 1u);
    from_scratch.push_back(gone(ChunkText(after, DocumentFormat::kMarkdown, options)));
  }
  std::sort(from_scratch.begin(), from_scratch.end());
  EXPECT_LE(from_scratch[from_scratch.size() * 95 / 100], 5u);
}

TEST(Chunker, SmallLeftoversJoinTheirNeighbour) {
  ChunkOptions options = Words(40);
  options.min_tokens = 5;
  std::string first = "# Head\n\n", second;
  for (int i = 0; i < 30; ++i) first += StrFormat("a{} ", i), second += StrFormat("b{} ", i);
  const std::string before = first + "\n\n" + second;
  const auto chunks = ChunkText(before, DocumentFormat::kMarkdown, options);
  ASSERT_EQ(chunks.size(), 2u);
  const std::vector<ByteRange> ranges = {chunks[0].range, chunks[1].range};
  const std::string after = before + "\n\ntail";
  const auto now = RechunkText(after, DocumentFormat::kMarkdown, options, before, ranges);
  ASSERT_EQ(now.size(), 2u);
  EXPECT_EQ(now[0].range, chunks[0].range);
  EXPECT_EQ(now[1].range.end, after.size());
}

}  // namespace
}  // namespace spanwise::retrieval

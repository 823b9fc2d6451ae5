// Turns one word into tokens: the model of tokenizer.json.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/bpe.h"
#include "tokenizer/trie.h"

namespace spanwise {

struct WordToken {
  int32_t id = 0;
  uint32_t begin = 0, end = 0;  // bytes of the word
};

// Immutable, thread-safe.
class Model {
 public:
  // One call's working memory. Thread-compatible; the model must outlive it.
  class Run {
   public:
    static constexpr size_t kAll = static_cast<size_t>(-1);
    virtual ~Run() = default;
    // Appends the tokens of `word`. Gives kAll, or the first byte that the vocabulary has no token for.
    // REQUIRES: `word` is valid UTF-8 (ByteBpe: any bytes) and not empty.
    virtual size_t Tokenize(std::string_view word, std::vector<WordToken>* out) = 0;
  };

  virtual ~Model() = default;
  virtual std::unique_ptr<Run> Start() const = 0;
};

// Tokens by their text. The texts need to live only during the call that takes them.
using Vocabulary = std::vector<std::pair<std::string_view, int32_t>>;

// One file for each of these in model/.

// Byte-pair merges over the bytes of a word.
struct ByteBpeDefinition {
  std::array<int32_t, 256> id_of_byte{};  // -1: the vocabulary lacks it
  std::vector<MergeTable::Merge> merges;
  Vocabulary whole_words;  // tokens by their bytes that a word becomes without merging; often empty
};
std::shared_ptr<const Model> MakeByteBpe(const ByteBpeDefinition& definition);

// Byte-pair merges over the characters of a word.
struct CharBpeDefinition {
  Vocabulary vocabulary;
  std::vector<MergeTable::Merge> merges;
  std::string continuing_prefix, end_suffix;  // how characters that do not begin, or that end, a word are written
  std::optional<int32_t> unknown;             // for characters that the vocabulary lacks; `fuse_unknown`: one for a run
  bool fuse_unknown = false;
  std::optional<std::array<int32_t, 256>> byte_tokens;  // before `unknown`, where it has all bytes; -1: none
  bool whole_words = false;                             // a word that is a token is not merged
  // Ids from here on stand for characters that are no tokens, but parts of some. Those that have not merged in the end
  // are treated like characters that the vocabulary lacks.
  int32_t first_provisional = INT32_MAX;
};
std::shared_ptr<const Model> MakeCharBpe(const CharBpeDefinition& definition);

// The most probable segmentation.
struct UnigramDefinition {
  struct Token {
    std::string_view text;
    int32_t id = 0;
    double score = 0;  // finite
  };
  std::vector<Token> tokens;  // of equal texts the last one counts
  double unknown_score = 0;   // of a character that is no token
  std::optional<int32_t> unknown;
  std::optional<std::array<int32_t, 256>> byte_tokens;  // for a run of unknown characters, where it has all bytes
};
std::shared_ptr<const Model> MakeUnigram(const UnigramDefinition& definition);

// Again and again the longest token.
struct WordPieceDefinition {
  Vocabulary vocabulary;
  std::string continuing_prefix;   // of tokens that do not begin a word
  std::optional<int32_t> unknown;  // for a word that cannot be divided, or is longer than `max_characters`
  size_t max_characters = 100;
};
std::shared_ptr<const Model> MakeWordPiece(const WordPieceDefinition& definition);

// A token for each word.
std::shared_ptr<const Model> MakeWordLevel(const Vocabulary& vocabulary, std::optional<int32_t> unknown);

}  // namespace spanwise

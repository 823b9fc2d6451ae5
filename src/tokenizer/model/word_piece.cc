#include "tokenizer/model.h"

namespace spanwise {
namespace {

class WordPiece final : public Model {
 public:
  explicit WordPiece(const WordPieceDefinition& definition)
      : unknown_(definition.unknown), max_characters_(definition.max_characters) {
    vocabulary_.Build(definition.vocabulary);
    continuing_ = vocabulary_.Walk(Trie::kRoot, definition.continuing_prefix);
  }

  std::unique_ptr<Model::Run> Start() const override { return std::make_unique<Run>(*this); }

 private:
  class Run final : public Model::Run {
   public:
    explicit Run(const WordPiece& model) : model_(model) {}

    size_t Tokenize(std::string_view word, std::vector<WordToken>* out) override {
      const size_t n_before = out->size();
      if (Divide(word, out)) return kAll;
      out->resize(n_before);
      if (!model_.unknown_) return 0;
      out->push_back({*model_.unknown_, 0, static_cast<uint32_t>(word.size())});
      return kAll;
    }

   private:
    bool Divide(std::string_view word, std::vector<WordToken>* out) const {
      if (word.size() > model_.max_characters_ && CountCharacters(word) > model_.max_characters_) return false;
      size_t begin = 0;
      size_t end = Longest(Trie::kRoot, word, 0, out);
      while (end > begin && end < word.size()) {
        begin = end;
        end = Longest(model_.continuing_, word, begin, out);
      }
      return end > begin;
    }

    // Appends the longest token at `begin`, and gives its end, or `begin` when there is none.
    size_t Longest(Trie::Node node, std::string_view word, size_t begin, std::vector<WordToken>* out) const {
      int32_t id = Trie::kNone;
      size_t end = begin;
      for (size_t at = begin; node != Trie::kNone && at < word.size();) {
        node = model_.vocabulary_.Step(node, word[at++]);
        if (const int32_t value = model_.vocabulary_.ValueAt(node); value != Trie::kNone) {
          id = value;
          end = at;
        }
      }
      if (id != Trie::kNone) out->push_back({id, static_cast<uint32_t>(begin), static_cast<uint32_t>(end)});
      return end;
    }

    static size_t CountCharacters(std::string_view word) {
      size_t n = 0;
      for (const char byte : word) n += (static_cast<uint8_t>(byte) & 0xC0) != 0x80;
      return n;
    }

    const WordPiece& model_;
  };

  Trie vocabulary_;
  Trie::Node continuing_ = Trie::kRoot;
  const std::optional<int32_t> unknown_;
  const size_t max_characters_;
};

}  // namespace

std::shared_ptr<const Model> MakeWordPiece(const WordPieceDefinition& definition) {
  return std::make_shared<WordPiece>(definition);
}

}  // namespace spanwise

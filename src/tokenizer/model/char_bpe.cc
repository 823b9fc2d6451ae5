#include <algorithm>

#include "tokenizer/model.h"
#include "tokenizer/unicode.h"

namespace spanwise {
namespace {

class CharBpe final : public Model {
 public:
  explicit CharBpe(const CharBpeDefinition& definition)
      : end_suffix_(definition.end_suffix),
        unknown_(definition.unknown),
        fuse_unknown_(definition.fuse_unknown),
        byte_tokens_(definition.byte_tokens),
        whole_words_(definition.whole_words),
        first_provisional_(definition.first_provisional) {
    vocabulary_.Build(definition.vocabulary);
    continuing_ = vocabulary_.Walk(Trie::kRoot, definition.continuing_prefix);
    merges_.Build(definition.merges);
  }

  std::unique_ptr<Model::Run> Start() const override { return std::make_unique<Run>(*this); }

 private:
  class Run final : public Model::Run {
   public:
    explicit Run(const CharBpe& model) : model_(model) {}

    size_t Tokenize(std::string_view word, std::vector<WordToken>* out) override {
      if (model_.whole_words_)
        if (const int32_t whole = model_.vocabulary_.Find(word); whole != Trie::kNone) {
          out->push_back({whole, 0, static_cast<uint32_t>(word.size())});
          return kAll;
        }
      if (const size_t bad = Divide(word); bad != kAll) return bad;
      merger_.Run(model_.merges_, &symbols_);
      uint32_t at = 0;
      for (const Symbol& symbol : symbols_) {
        const uint32_t end = at + symbol.bytes;
        if (symbol.id < model_.first_provisional_) {
          out->push_back({symbol.id, at, end});
        } else if (HasBytes(word.substr(at, symbol.bytes))) {
          for (uint32_t i = at; i < end; ++i) out->push_back({ByteToken(word[i]), i, i + 1});
        } else if (model_.unknown_) {
          out->push_back({*model_.unknown_, at, end});
        } else {
          return at;
        }
        at = end;
      }
      return kAll;
    }

   private:
    // The word's characters as symbols.
    size_t Divide(std::string_view word) {
      symbols_.clear();
      Symbol unknown;  // bytes > 0: a run of unknown characters that is still open
      const auto close_unknown = [&] {
        if (unknown.bytes > 0) symbols_.push_back(unknown);
        unknown.bytes = 0;
      };
      for (size_t i = 0; i < word.size();) {
        const uint32_t length = CharacterAt(word, i).length;
        Trie::Node node = model_.vocabulary_.Walk(i == 0 ? Trie::kRoot : model_.continuing_, word.substr(i, length));
        if (i + length == word.size()) node = model_.vocabulary_.Walk(node, model_.end_suffix_);
        if (const int32_t id = model_.vocabulary_.ValueAt(node); id != Trie::kNone) {
          close_unknown();
          symbols_.push_back({id, length});
        } else if (HasBytes(word.substr(i, length))) {
          // As in the library, a run of unknown characters stays open here and comes after these bytes.
          for (const char byte : word.substr(i, length)) symbols_.push_back({ByteToken(byte), 1});
        } else if (!model_.unknown_) {
          return i;
        } else {
          if (!model_.fuse_unknown_) close_unknown();
          unknown = {*model_.unknown_, unknown.bytes + length};
        }
        i += length;
      }
      close_unknown();
      return kAll;
    }

    // REQUIRES: model_.byte_tokens_.
    int32_t ByteToken(char byte) const { return (*model_.byte_tokens_)[static_cast<uint8_t>(byte)]; }
    bool HasBytes(std::string_view text) const {
      return model_.byte_tokens_ &&
             std::all_of(text.begin(), text.end(), [&](char byte) { return ByteToken(byte) >= 0; });
    }

    const CharBpe& model_;
    Merger merger_;
    std::vector<Symbol> symbols_;
  };

  Trie vocabulary_;
  Trie::Node continuing_ = Trie::kRoot;
  MergeTable merges_;
  const std::string end_suffix_;
  const std::optional<int32_t> unknown_;
  const bool fuse_unknown_;
  const std::optional<std::array<int32_t, 256>> byte_tokens_;
  const bool whole_words_;
  const int32_t first_provisional_;
};

}  // namespace

std::shared_ptr<const Model> MakeCharBpe(const CharBpeDefinition& definition) {
  return std::make_shared<CharBpe>(definition);
}

}  // namespace spanwise

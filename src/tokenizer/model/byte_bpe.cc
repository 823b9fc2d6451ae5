#include "tokenizer/model.h"

namespace spanwise {
namespace {

class ByteBpe final : public Model {
 public:
  explicit ByteBpe(const ByteBpeDefinition& definition) : id_of_byte_(definition.id_of_byte) {
    merges_.Build(definition.merges);
    whole_words_.Build(definition.whole_words);
  }

  std::unique_ptr<Model::Run> Start() const override { return std::make_unique<Run>(*this); }

 private:
  class Run final : public Model::Run {
   public:
    explicit Run(const ByteBpe& model) : model_(model) {}

    size_t Tokenize(std::string_view word, std::vector<WordToken>* out) override {
      if (const int32_t whole = model_.whole_words_.Find(word); whole != Trie::kNone) {
        out->push_back({whole, 0, static_cast<uint32_t>(word.size())});
        return kAll;
      }
      symbols_.clear();
      for (size_t i = 0; i < word.size(); ++i) {
        const int32_t id = model_.id_of_byte_[static_cast<uint8_t>(word[i])];
        if (id < 0) return i;
        symbols_.push_back({id, 1});
      }
      merger_.Run(model_.merges_, &symbols_);
      uint32_t at = 0;
      for (const Symbol& symbol : symbols_) {
        out->push_back({symbol.id, at, at + symbol.bytes});
        at += symbol.bytes;
      }
      return kAll;
    }

   private:
    const ByteBpe& model_;
    Merger merger_;
    std::vector<Symbol> symbols_;
  };

  const std::array<int32_t, 256> id_of_byte_;
  MergeTable merges_;
  Trie whole_words_;
};

}  // namespace

std::shared_ptr<const Model> MakeByteBpe(const ByteBpeDefinition& definition) {
  return std::make_shared<ByteBpe>(definition);
}

}  // namespace spanwise

#include "tokenizer/model.h"

namespace spanwise {
namespace {

class WordLevel final : public Model {
 public:
  WordLevel(const Vocabulary& vocabulary, std::optional<int32_t> unknown) : unknown_(unknown) {
    vocabulary_.Build(vocabulary);
  }

  std::unique_ptr<Model::Run> Start() const override { return std::make_unique<Run>(*this); }

 private:
  class Run final : public Model::Run {
   public:
    explicit Run(const WordLevel& model) : model_(model) {}

    size_t Tokenize(std::string_view word, std::vector<WordToken>* out) override {
      int32_t id = model_.vocabulary_.Find(word);
      if (id == Trie::kNone) {
        if (!model_.unknown_) return 0;
        id = *model_.unknown_;
      }
      out->push_back({id, 0, static_cast<uint32_t>(word.size())});
      return kAll;
    }

   private:
    const WordLevel& model_;
  };

  Trie vocabulary_;
  const std::optional<int32_t> unknown_;
};

}  // namespace

std::shared_ptr<const Model> MakeWordLevel(const Vocabulary& vocabulary, std::optional<int32_t> unknown) {
  return std::make_shared<WordLevel>(vocabulary, unknown);
}

}  // namespace spanwise

#include <algorithm>
#include <limits>

#include "tokenizer/model.h"
#include "tokenizer/unicode.h"

namespace spanwise {
namespace {

class Unigram final : public Model {
 public:
  explicit Unigram(const UnigramDefinition& definition)
      : unknown_score_(definition.unknown_score), unknown_(definition.unknown), byte_tokens_(definition.byte_tokens) {
    Vocabulary vocabulary;
    for (const UnigramDefinition::Token& token : definition.tokens) {
      vocabulary.emplace_back(token.text, static_cast<int32_t>(tokens_.size()));
      tokens_.push_back({token.id, token.score});
    }
    trie_.Build(std::move(vocabulary));
  }

  std::unique_ptr<Model::Run> Start() const override { return std::make_unique<Run>(*this); }

 private:
  static constexpr int32_t kUnknown = -1;
  struct Scored {
    int32_t id;
    double score;
  };

  class Run final : public Model::Run {
   public:
    explicit Run(const Unigram& model) : model_(model) {}

    size_t Tokenize(std::string_view word, std::vector<WordToken>* out) override {
      FindBest(word);
      // From the end back to the start; runs of unknown characters become one token.
      path_.clear();
      for (auto end = static_cast<uint32_t>(word.size()); end > 0;) {
        const Best& best = best_[end];
        if (best.id == kUnknown && !path_.empty() && path_.back().id == kUnknown) {
          path_.back().begin = best.begin;
        } else {
          path_.push_back({best.id, best.begin, end});
        }
        end = best.begin;
      }
      for (auto token = path_.rbegin(); token != path_.rend(); ++token) {
        if (token->id != kUnknown) {
          out->push_back(*token);
        } else if (!EmitBytes(word, *token, out)) {
          if (!model_.unknown_) return token->begin;
          out->push_back({*model_.unknown_, token->begin, token->end});
        }
      }
      return kAll;
    }

   private:
    struct Best {
      double score = -std::numeric_limits<double>::infinity();
      uint32_t begin = kUnreached;
      int32_t id = 0;
    };
    static constexpr uint32_t kUnreached = UINT32_MAX;

    // Viterbi's algorithm: best_[i] is the last token of the best segmentation of word[0, i).
    void FindBest(std::string_view word) {
      best_.assign(word.size() + 1, Best());
      best_[0].score = 0;
      for (size_t begin = 0; begin < word.size();) {
        const double score = best_[begin].score;
        const auto offer = [&](size_t end, double token_score, int32_t id) {
          Best& best = best_[end];
          if (best.begin != kUnreached && !(score + token_score > best.score)) return;
          best = {score + token_score, static_cast<uint32_t>(begin), id};
        };
        const size_t next = begin + CharacterAt(word, begin).length;
        bool has_single = false;
        Trie::Node node = Trie::kRoot;
        for (size_t end = begin; end < word.size();) {
          node = model_.trie_.Step(node, word[end++]);
          if (node == Trie::kNone) break;
          const int32_t token = model_.trie_.ValueAt(node);
          if (token == Trie::kNone) continue;
          const Scored& scored = model_.tokens_[static_cast<size_t>(token)];
          offer(end, scored.score, scored.id);
          has_single |= end == next;
        }
        if (!has_single) offer(next, model_.unknown_score_, kUnknown);
        begin = next;
      }
    }

    bool EmitBytes(std::string_view word, const WordToken& token, std::vector<WordToken>* out) const {
      if (!model_.byte_tokens_) return false;
      const std::string_view bytes = word.substr(token.begin, token.end - token.begin);
      const auto id_of = [&](char byte) { return (*model_.byte_tokens_)[static_cast<uint8_t>(byte)]; };
      if (!std::all_of(bytes.begin(), bytes.end(), [&](char byte) { return id_of(byte) >= 0; })) return false;
      for (const char byte : bytes) out->push_back({id_of(byte), token.begin, token.end});
      return true;
    }

    const Unigram& model_;
    std::vector<Best> best_;
    std::vector<WordToken> path_;
  };

  Trie trie_;  // to indices of tokens_
  std::vector<Scored> tokens_;
  const double unknown_score_;
  const std::optional<int32_t> unknown_;
  const std::optional<std::array<int32_t, 256>> byte_tokens_;
};

}  // namespace

std::shared_ptr<const Model> MakeUnigram(const UnigramDefinition& definition) {
  return std::make_shared<Unigram>(definition);
}

}  // namespace spanwise

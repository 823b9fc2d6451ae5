#include "base/str.h"
#include "tokenizer/split/stretches.h"
#include "tokenizer/unicode.h"

namespace spanwise {
namespace {

class CharacterSplit final : public SplitStep {
 public:
  CharacterSplit(CharacterTest test, std::string_view name, SplitBehavior behavior)
      : test_(test), name_(name), behavior_(behavior) {}

  Status Split(const Piece& piece, const SplitRun&, const PieceSink& sink) const override {
    Stretches stretches(piece, behavior_, false, sink);
    for (size_t at = 0; at < piece.text.size();) {
      const Character c = CharacterAt(piece.text, at);
      if (test_(c.code)) SW_RETURN_IF_ERROR(stretches.Match(at, at + c.length));
      at += c.length;
    }
    return stretches.Finish();
  }

  std::string Description() const override { return StrFormat("characters {} {}", name_, static_cast<int>(behavior_)); }

 private:
  const CharacterTest test_;
  const std::string name_;
  const SplitBehavior behavior_;
};

class WordSplit final : public SplitStep {
 public:
  Status Split(const Piece& piece, const SplitRun&, const PieceSink& sink) const override {
    enum class Kind { kSpace, kWord, kOther };
    const auto kind_of = [](char32_t code) {
      return IsWordCharacter(code) ? Kind::kWord : IsWhiteSpace(code) ? Kind::kSpace : Kind::kOther;
    };
    size_t begin = 0;
    Kind kind = Kind::kSpace;
    for (size_t at = 0; at < piece.text.size();) {
      const Character c = CharacterAt(piece.text, at);
      if (const Kind next = kind_of(c.code); next != kind) {
        if (kind != Kind::kSpace) SW_RETURN_IF_ERROR(sink(piece.Slice(begin, at)));
        begin = at;
        kind = next;
      }
      at += c.length;
    }
    return kind == Kind::kSpace ? Status::Ok() : sink(piece.Slice(begin, piece.text.size()));
  }

  std::string Description() const override { return "words"; }
};

class FixedLength final : public SplitStep {
 public:
  explicit FixedLength(size_t n_characters) : n_characters_(n_characters) {}

  Status Split(const Piece& piece, const SplitRun&, const PieceSink& sink) const override {
    for (size_t begin = 0; begin < piece.text.size();) {
      size_t end = begin;
      for (size_t n = 0; n < n_characters_ && end < piece.text.size(); ++n) end += CharacterAt(piece.text, end).length;
      SW_RETURN_IF_ERROR(sink(piece.Slice(begin, end)));
      begin = end;
    }
    return Status::Ok();
  }

  std::string Description() const override { return StrFormat("every {}", n_characters_); }

 private:
  const size_t n_characters_;
};

}  // namespace

std::shared_ptr<const SplitStep> MakeCharacterSplit(CharacterTest test, std::string_view name, SplitBehavior behavior) {
  return std::make_shared<CharacterSplit>(test, name, behavior);
}

std::shared_ptr<const SplitStep> MakeWordSplit() { return std::make_shared<WordSplit>(); }

std::shared_ptr<const SplitStep> MakeFixedLength(size_t n_characters) {
  return std::make_shared<FixedLength>(n_characters);
}

}  // namespace spanwise

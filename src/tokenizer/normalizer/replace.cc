#include "base/str.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/unicode.h"

namespace spanwise {
namespace {

class StripStep final : public NormalizerStep {
 public:
  StripStep(bool left, bool right) : left_(left), right_(right) {}

  Status Apply(std::string_view text, RegexRun*, Rewriter* out) const override {
    size_t begin = 0, end = text.size();
    while (left_ && begin < end) {
      const Character c = CharacterAt(text, begin);
      if (!IsWhiteSpace(c.code)) break;
      begin += c.length;
    }
    while (right_ && begin < end) {
      const size_t last = LastCharacter(text.substr(0, end));
      if (!IsWhiteSpace(CharacterAt(text, last).code)) break;
      end = last;
    }
    out->Replace(0, begin, "");
    out->Replace(end, text.size(), "");
    return Status::Ok();
  }

  std::string Description() const override { return StrFormat("strip {} {}", left_, right_); }

 private:
  const bool left_, right_;
};

class PrependStep final : public NormalizerStep {
 public:
  explicit PrependStep(std::string with) : with_(std::move(with)) {}

  Status Apply(std::string_view, RegexRun*, Rewriter* out) const override {
    out->Prepend(with_);
    return Status::Ok();
  }

  std::string Description() const override { return StrFormat("prepend {}:{}", with_.size(), with_); }

 private:
  const std::string with_;
};

class ReplaceTextStep final : public NormalizerStep {
 public:
  ReplaceTextStep(std::string what, std::string with) : what_(std::move(what)), with_(std::move(with)) {}

  Status Apply(std::string_view text, RegexRun*, Rewriter* out) const override {
    for (size_t at = 0; (at = text.find(what_, at)) != std::string_view::npos; at += what_.size())
      out->Replace(at, at + what_.size(), with_);
    return Status::Ok();
  }

  std::string Description() const override {
    return StrFormat("replace {}:{} {}:{}", what_.size(), what_, with_.size(), with_);
  }

 private:
  const std::string what_, with_;
};

class ReplaceRegexStep final : public NormalizerStep {
 public:
  ReplaceRegexStep(std::shared_ptr<const Regex> regex, std::string with)
      : regex_(std::move(regex)), with_(std::move(with)) {}

  Status Apply(std::string_view text, RegexRun* regexes, Rewriter* out) const override {
    return regexes->EachMatch(regex_, text, [&](size_t begin, size_t end) {
      out->Replace(begin, end, with_);
      return Status::Ok();
    });
  }

  std::string Description() const override {
    return StrFormat("replace regex {}:{} {}:{}", regex_->pattern().size(), regex_->pattern(), with_.size(), with_);
  }

 private:
  const std::shared_ptr<const Regex> regex_;
  const std::string with_;
};

// Each byte as its character of the byte-level alphabet.
class ByteSymbolsStep final : public NormalizerStep {
 public:
  Status Apply(std::string_view text, RegexRun*, Rewriter* out) const override {
    for (size_t i = 0; i < text.size();) {
      const uint32_t length = CharacterAt(text, i).length;
      out->Replace(i, i + length, SymbolsOfBytes(text.substr(i, length)));
      i += length;
    }
    return Status::Ok();
  }

  std::string Description() const override { return "byte symbols"; }
};

class SentencePieceSpacesStep final : public NormalizerStep {
 public:
  SentencePieceSpacesStep(bool prepend, bool merge) : prepend_(prepend), merge_(merge) {}

  Status Apply(std::string_view text, RegexRun*, Rewriter* out) const override {
    constexpr std::string_view kSpace = "\u2581";
    bool in_word = false, prepended = false;
    for (size_t i = 0; i < text.size();) {
      if (text[i] == ' ') {
        out->Replace(i, i + 1, merge_ ? std::string_view() : kSpace);
        in_word = false;
        ++i;
        continue;
      }
      const uint32_t length = CharacterAt(text, i).length;
      if (!in_word && (merge_ || (prepend_ && !prepended))) {
        out->Replace(i, i + length, std::string(kSpace) + std::string(text.substr(i, length)));
        prepended = true;
      }
      in_word = true;
      i += length;
    }
    return Status::Ok();
  }

  std::string Description() const override { return StrFormat("sentencepiece spaces {} {}", prepend_, merge_); }

 private:
  const bool prepend_, merge_;
};

}  // namespace

std::shared_ptr<const NormalizerStep> MakeStrip(bool left, bool right) {
  return std::make_shared<StripStep>(left, right);
}

std::shared_ptr<const NormalizerStep> MakePrepend(std::string text) {
  return std::make_shared<PrependStep>(std::move(text));
}

std::shared_ptr<const NormalizerStep> MakeReplaceText(std::string text, std::string with) {
  return std::make_shared<ReplaceTextStep>(std::move(text), std::move(with));
}

std::shared_ptr<const NormalizerStep> MakeReplaceRegex(std::shared_ptr<const Regex> regex, std::string with) {
  return std::make_shared<ReplaceRegexStep>(std::move(regex), std::move(with));
}

std::shared_ptr<const NormalizerStep> MakeByteSymbols() { return std::make_shared<ByteSymbolsStep>(); }

std::shared_ptr<const NormalizerStep> MakeSentencePieceSpaces(bool prepend, bool merge) {
  return std::make_shared<SentencePieceSpacesStep>(prepend, merge);
}

}  // namespace spanwise

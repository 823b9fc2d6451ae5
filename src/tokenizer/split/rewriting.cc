// Steps that change the text before they hand it on.
#include "base/str.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/rewriter.h"
#include "tokenizer/split/stretches.h"
#include "tokenizer/unicode.h"

namespace spanwise {
namespace {

// Hands on what the rewriter made, through `split`, while the rewritten text lives.
template <typename Each>
Status HandOn(const Piece& piece, Rewriter* rewriter, const Each& each) {
  SW_ASSIGN_OR_RETURN(const auto rewritten, rewriter->Finish());
  return each(rewritten ? Piece{rewritten->text, 0, rewritten.get()} : piece);
}

class PrefixSpace final : public SplitStep {
 public:
  Status Split(const Piece& piece, const SplitRun& run, const PieceSink& sink) const override {
    Rewriter rewriter(run.input, piece, run.growth);
    if (piece.text.front() != ' ') rewriter.Prepend(" ");
    return HandOn(piece, &rewriter, sink);
  }

  std::string Description() const override { return "prefix space"; }
};

class ByteSymbolSplit final : public SplitStep {
 public:
  Status Split(const Piece& piece, const SplitRun& run, const PieceSink& sink) const override {
    Rewriter rewriter(run.input, piece, run.growth);
    for (size_t i = 0; i < piece.text.size();) {
      const uint32_t length = CharacterAt(piece.text, i).length;
      rewriter.Replace(i, i + length, SymbolsOfBytes(piece.text.substr(i, length)));
      i += length;
    }
    return HandOn(piece, &rewriter, sink);
  }

  std::string Description() const override { return "byte symbols"; }
};

class Metaspace final : public SplitStep {
 public:
  Metaspace(std::string replacement, PrependScheme scheme, bool split)
      : replacement_(std::move(replacement)), scheme_(scheme), split_(split) {}

  Status Split(const Piece& piece, const SplitRun& run, const PieceSink& sink) const override {
    Rewriter rewriter(run.input, piece, run.growth);
    const bool has_one = piece.text.front() == ' ' || piece.text.starts_with(replacement_);
    const bool prepends = !has_one && (scheme_ == PrependScheme::kAlways ||
                                       (scheme_ == PrependScheme::kFirst && piece.Source(run.input, 0, 1).begin == 0));
    if (prepends) rewriter.Prepend(replacement_);
    for (size_t at = 0; (at = piece.text.find(' ', at)) != std::string_view::npos; ++at)
      rewriter.Replace(at, at + 1, replacement_);
    return HandOn(piece, &rewriter, [&](const Piece& spaced) {
      if (!split_) return sink(spaced);
      Stretches stretches(spaced, SplitBehavior::kMergedWithNext, false, sink);
      for (size_t at = 0; (at = spaced.text.find(replacement_, at)) != std::string_view::npos;
           at += replacement_.size())
        SW_RETURN_IF_ERROR(stretches.Match(at, at + replacement_.size()));
      return stretches.Finish();
    });
  }

  std::string Description() const override {
    return StrFormat("metaspace {} {} {}", replacement_, static_cast<int>(scheme_), split_);
  }

 private:
  const std::string replacement_;
  const PrependScheme scheme_;
  const bool split_;
};

}  // namespace

std::shared_ptr<const SplitStep> MakePrefixSpace() { return std::make_shared<PrefixSpace>(); }

std::shared_ptr<const SplitStep> MakeByteSymbolSplit() { return std::make_shared<ByteSymbolSplit>(); }

std::shared_ptr<const SplitStep> MakeMetaspace(std::string replacement, PrependScheme scheme, bool split) {
  return std::make_shared<Metaspace>(std::move(replacement), scheme, split);
}

}  // namespace spanwise

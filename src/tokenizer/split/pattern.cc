#include "base/str.h"
#include "tokenizer/split/stretches.h"
#include "tokenizer/unicode.h"

namespace spanwise {

const std::string_view kGpt2Pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace {

class RegexSplit final : public SplitStep {
 public:
  RegexSplit(std::shared_ptr<const Regex> regex, SplitBehavior behavior, bool invert)
      : regex_(std::move(regex)), behavior_(behavior), invert_(invert) {}

  Status Split(const Piece& piece, const SplitRun& run, const PieceSink& sink) const override {
    Stretches stretches(piece, behavior_, invert_, sink);
    SW_RETURN_IF_ERROR(run.regexes->EachMatch(regex_, piece.text,
                                              [&](size_t begin, size_t end) { return stretches.Match(begin, end); }));
    return stretches.Finish();
  }

  std::string Description() const override {
    return StrFormat("regex {}:{} {} {}", regex_->pattern().size(), regex_->pattern(), static_cast<int>(behavior_),
                     invert_);
  }

 private:
  const std::shared_ptr<const Regex> regex_;
  const SplitBehavior behavior_;
  const bool invert_;
};

class TextSplit final : public SplitStep {
 public:
  TextSplit(std::string text, SplitBehavior behavior, bool invert)
      : text_(std::move(text)), behavior_(behavior), invert_(invert) {}

  Status Split(const Piece& piece, const SplitRun&, const PieceSink& sink) const override {
    Stretches stretches(piece, behavior_, invert_, sink);
    for (size_t at = 0; (at = piece.text.find(text_, at)) != std::string_view::npos; at += text_.size())
      SW_RETURN_IF_ERROR(stretches.Match(at, at + text_.size()));
    return stretches.Finish();
  }

  std::string Description() const override {
    return StrFormat("text {}:{} {} {}", text_.size(), text_, static_cast<int>(behavior_), invert_);
  }

 private:
  const std::string text_;
  const SplitBehavior behavior_;
  const bool invert_;
};

class CutBefore final : public SplitStep {
 public:
  explicit CutBefore(std::string mark) : mark_(std::move(mark)) {}

  Status Split(const Piece& piece, const SplitRun&, const PieceSink& sink) const override {
    size_t begin = 0;
    size_t run_end = std::string_view::npos;  // of the latest run of marks
    for (size_t at = 0; (at = piece.text.find(mark_, at)) != std::string_view::npos; at = run_end) {
      if (at != run_end && at > begin) {
        SW_RETURN_IF_ERROR(sink(piece.Slice(begin, at)));
        begin = at;
      }
      run_end = at + mark_.size();
    }
    return sink(piece.Slice(begin, piece.text.size()));
  }

  std::string Description() const override { return StrFormat("cut before {}", mark_); }

 private:
  const std::string mark_;
};

}  // namespace

std::shared_ptr<const SplitStep> MakeRegexSplit(std::shared_ptr<const Regex> regex, SplitBehavior behavior,
                                                bool invert) {
  return std::make_shared<RegexSplit>(std::move(regex), behavior, invert);
}

std::shared_ptr<const SplitStep> MakeTextSplit(std::string text, SplitBehavior behavior, bool invert) {
  return std::make_shared<TextSplit>(std::move(text), behavior, invert);
}

std::shared_ptr<const SplitStep> MakeCutBefore(std::string mark) {
  return std::make_shared<CutBefore>(std::move(mark));
}

}  // namespace spanwise

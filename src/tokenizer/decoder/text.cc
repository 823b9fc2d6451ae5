// Steps that change, drop and join text.
#include "base/str.h"
#include "tokenizer/decoder/steps.h"
#include "tokenizer/unicode.h"

namespace spanwise {
namespace {

// English punctuation and contractions without the space that splitting put before them.
void CleanUp(std::string* text) {
  static constexpr std::pair<std::string_view, std::string_view> kRules[] = {
      {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
      {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [what, with] : kRules) ReplaceAll(what, with, text);
}

// The last token's suffix goes, so that each token waits for the next.
class SuffixDecoder final : public DecoderStep {
 public:
  explicit SuffixDecoder(std::string suffix) : suffix_(std::move(suffix)) {}
  std::unique_ptr<DecoderStep::Run> Start(DecoderStep::Run* next, bool joined) const override {
    return StartWhole<Run>(joined, suffix_, next);
  }

 private:
  class Run final : public DecoderStep::Run {
   public:
    Run(std::string_view suffix, DecoderStep::Run* next) : suffix_(suffix), next_(next) {}
    void Push(std::string token) override {
      if (held_) {
        ReplaceAll(suffix_, " ", &*held_);
        next_->Push(std::move(*held_));
      }
      held_ = std::move(token);
    }
    void Finish() override {
      if (held_) {
        ReplaceAll(suffix_, "", &*held_);
        next_->Push(std::move(*held_));
      }
      next_->Finish();
    }

   private:
    const std::string_view suffix_;
    DecoderStep::Run* const next_;
    std::optional<std::string> held_;
  };

  const std::string suffix_;
};

class ReplaceTextDecoder final : public DecoderStep {
 public:
  ReplaceTextDecoder(std::string what, std::string with) : what_(std::move(what)), with_(std::move(with)) {}
  std::unique_ptr<DecoderStep::Run> Start(DecoderStep::Run* next, bool joined) const override {
    return std::make_unique<Run>(*this, joined, next);
  }

 private:
  class Run final : public DecoderStep::Run {
   public:
    Run(const ReplaceTextDecoder& step, bool joined, DecoderStep::Run* next)
        : step_(step), joined_(joined), next_(next) {}
    void Push(std::string token) override {
      std::string text = pending_ + token, out;
      pending_.clear();
      size_t done = 0;
      for (size_t at; (at = text.find(step_.what_, done)) != std::string::npos; done = at + step_.what_.size()) {
        out.append(text, done, at - done);
        out += step_.with_;
      }
      // What could begin an occurrence waits for the next part.
      size_t hold = joined_ ? std::min(step_.what_.size() - 1, text.size() - done) : 0;
      while (hold > 0 && text.compare(text.size() - hold, hold, step_.what_, 0, hold) != 0) --hold;
      out.append(text, done, text.size() - hold - done);
      pending_ = text.substr(text.size() - hold);
      next_->Push(std::move(out));
    }
    void Finish() override {
      if (!pending_.empty()) next_->Push(std::move(pending_));
      next_->Finish();
    }

   private:
    const ReplaceTextDecoder& step_;
    const bool joined_;
    DecoderStep::Run* const next_;
    std::string pending_;
  };

  const std::string what_, with_;
};

class ReplaceRegexDecoder final : public DecoderStep {
 public:
  ReplaceRegexDecoder(std::shared_ptr<const Regex> regex, std::string with)
      : regex_(std::move(regex)), with_(std::move(with)) {}
  std::unique_ptr<DecoderStep::Run> Start(DecoderStep::Run* next, bool joined) const override {
    return StartWhole<Run>(joined, *this, next);
  }

 private:
  class Run final : public DecoderStep::Run {
   public:
    Run(const ReplaceRegexDecoder& step, DecoderStep::Run* next) : step_(step), next_(next) {}
    void Push(std::string token) override {
      regexes_.AddText(token.size());
      std::string out;
      size_t done = 0;
      const Status status = regexes_.EachMatch(step_.regex_, token, [&](size_t begin, size_t end) {
        out.append(token, done, begin - done);
        out += step_.with_;
        done = end;
        return Status::Ok();
      });
      // An expression that runs on and on replaces nothing.
      next_->Push(status.ok() ? out.append(token, done) : std::move(token));
    }
    void Finish() override { next_->Finish(); }

   private:
    const ReplaceRegexDecoder& step_;
    DecoderStep::Run* const next_;
    RegexRun regexes_{0};
  };

  const std::shared_ptr<const Regex> regex_;
  const std::string with_;
};

class StripDecoder final : public DecoderStep {
 public:
  StripDecoder(std::string content, size_t n_left, size_t n_right)
      : content_(std::move(content)), n_left_(n_left), n_right_(n_right) {}
  std::unique_ptr<DecoderStep::Run> Start(DecoderStep::Run* next, bool joined) const override {
    return std::make_unique<Run>(*this, joined, next);
  }

 private:
  class Run final : public DecoderStep::Run {
   public:
    Run(const StripDecoder& step, bool joined, DecoderStep::Run* next)
        : step_(step), joined_(joined), next_(next), left_(step.n_left_) {}
    void Push(std::string token) override {
      std::string_view text = token;
      if (!joined_) left_ = step_.n_left_;
      for (; left_ > 0 && text.starts_with(step_.content_); --left_) text.remove_prefix(step_.content_.size());
      if (!text.empty()) left_ = 0;
      if (!joined_) {
        for (size_t n = step_.n_right_; n > 0 && text.ends_with(step_.content_); --n)
          text.remove_suffix(step_.content_.size());
        next_->Push(std::string(text));
        return;
      }
      // What the end may have to lose waits.
      std::string all = std::exchange(held_, {}) + std::string(text);
      size_t keep = all.size();
      for (size_t n = step_.n_right_; n > 0 && std::string_view(all).substr(0, keep).ends_with(step_.content_); --n)
        keep -= step_.content_.size();
      held_ = all.substr(keep);
      all.resize(keep);
      next_->Push(std::move(all));
    }
    void Finish() override { next_->Finish(); }

   private:
    const StripDecoder& step_;
    const bool joined_;
    DecoderStep::Run* const next_;
    size_t left_;
    std::string held_;
  };

  const std::string content_;
  const size_t n_left_, n_right_;
};

class FuseDecoder final : public DecoderStep {
 public:
  std::unique_ptr<DecoderStep::Run> Start(DecoderStep::Run* next, bool) const override {
    return std::make_unique<Run>(next);
  }
  bool joins() const override { return true; }

 private:
  class Run final : public DecoderStep::Run {
   public:
    explicit Run(DecoderStep::Run* next) : next_(next) {}
    void Push(std::string token) override {
      if (!token.empty()) next_->Push(std::move(token));
    }
    void Finish() override { next_->Finish(); }

   private:
    DecoderStep::Run* const next_;
  };
};

}  // namespace

std::shared_ptr<const DecoderStep> MakeMetaspaceDecoder(std::string replacement, bool strips_first) {
  return std::make_shared<EachToken>([replacement = std::move(replacement), strips_first](bool first, std::string* t) {
    ReplaceAll(replacement, first && strips_first ? "" : " ", t);
  });
}

std::shared_ptr<const DecoderStep> MakeWordPieceDecoder(std::string prefix, bool cleanup) {
  return std::make_shared<EachToken>([prefix = std::move(prefix), cleanup](bool first, std::string* token) {
    if (!first) {
      if (token->starts_with(prefix)) {
        token->erase(0, prefix.size());
      } else {
        token->insert(0, " ");
      }
    }
    if (cleanup) CleanUp(token);
  });
}

std::shared_ptr<const DecoderStep> MakeSuffixDecoder(std::string suffix) {
  return std::make_shared<SuffixDecoder>(std::move(suffix));
}

std::shared_ptr<const DecoderStep> MakeReplaceTextDecoder(std::string text, std::string with) {
  return std::make_shared<ReplaceTextDecoder>(std::move(text), std::move(with));
}

std::shared_ptr<const DecoderStep> MakeReplaceRegexDecoder(std::shared_ptr<const Regex> regex, std::string with) {
  return std::make_shared<ReplaceRegexDecoder>(std::move(regex), std::move(with));
}

std::shared_ptr<const DecoderStep> MakeStripDecoder(std::string content, size_t n_left, size_t n_right) {
  return std::make_shared<StripDecoder>(std::move(content), n_left, n_right);
}

std::shared_ptr<const DecoderStep> MakeFuseDecoder() { return std::make_shared<FuseDecoder>(); }

std::shared_ptr<const DecoderStep> MakeSpacesBetween() {
  return std::make_shared<EachToken>([](bool first, std::string* token) {
    if (!first) token->insert(0, " ");
  });
}

}  // namespace spanwise

// Shapes that most decoder steps have.
#pragma once

#include <functional>
#include <utility>

#include "tokenizer/decoder.h"

namespace spanwise {

// Gathers the parts of a joined token, so that a step sees it whole.
class GatherParts final : public DecoderStep::Run {
 public:
  explicit GatherParts(std::unique_ptr<DecoderStep::Run> step) : step_(std::move(step)) {}
  void Push(std::string part) override { whole_ += part; }
  void Finish() override {
    step_->Push(std::move(whole_));
    step_->Finish();
  }

 private:
  const std::unique_ptr<DecoderStep::Run> step_;
  std::string whole_;
};

// A run of a step for `next`; one that knows nothing of joined tokens gets them whole.
template <typename Run, typename... Args>
std::unique_ptr<DecoderStep::Run> StartWhole(bool joined, Args&&... args) {
  auto run = std::make_unique<Run>(std::forward<Args>(args)...);
  if (!joined) return run;
  return std::make_unique<GatherParts>(std::move(run));
}

// A step that changes each token by itself; `change` is told whether it is the first.
class EachToken final : public DecoderStep {
 public:
  using Change = std::function<void(bool first, std::string* token)>;
  explicit EachToken(Change change) : change_(std::move(change)) {}
  std::unique_ptr<DecoderStep::Run> Start(DecoderStep::Run* next, bool joined) const override {
    return StartWhole<Run>(joined, change_, next);
  }

 private:
  class Run final : public DecoderStep::Run {
   public:
    Run(const Change& change, DecoderStep::Run* next) : change_(change), next_(next) {}
    void Push(std::string token) override {
      change_(std::exchange(first_, false), &token);
      next_->Push(std::move(token));
    }
    void Finish() override { next_->Finish(); }

   private:
    const Change& change_;
    DecoderStep::Run* const next_;
    bool first_ = true;
  };

  const Change change_;
};

// Every occurrence of `what` in *text becomes `with`. REQUIRES: `what` is not empty.
inline void ReplaceAll(std::string_view what, std::string_view with, std::string* text) {
  size_t at = text->find(what);
  if (at == std::string::npos) return;
  std::string out;
  size_t done = 0;
  for (; at != std::string::npos; at = text->find(what, done)) {
    out.append(*text, done, at - done);
    out += with;
    done = at + what.size();
  }
  out.append(*text, done);
  *text = std::move(out);
}

}  // namespace spanwise

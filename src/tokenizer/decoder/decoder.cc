#include "tokenizer/decoder.h"

#include <algorithm>
#include <utility>

namespace spanwise {

class Decoder::Run::Output final : public DecoderStep::Run {
 public:
  void Push(std::string token) override { text_ += token; }
  void Finish() override {}
  std::string Take() { return std::exchange(text_, {}); }

 private:
  std::string text_;
};

Decoder::Run::Run(const Decoder& decoder) : output_(std::make_unique<Output>()), first_(output_.get()) {
  std::vector<bool> joined;  // what each step gets
  bool now = false;
  for (const auto& step : decoder.steps_) {
    joined.push_back(now);
    now |= step->joins();
  }
  for (size_t i = decoder.steps_.size(); i-- > 0;) {
    runs_.push_back(decoder.steps_[i]->Start(first_, joined[i]));
    first_ = runs_.back().get();
  }
}

Decoder::Run::~Run() = default;
Decoder::Run::Run(Run&&) noexcept = default;

std::string Decoder::Run::Push(std::string token) {
  first_->Push(std::move(token));
  return output_->Take();
}

std::string Decoder::Run::Finish() {
  first_->Finish();
  return output_->Take();
}

bool Decoder::reads_bytes() const {
  return std::any_of(steps_.begin(), steps_.end(), [](const auto& step) { return step->reads_bytes(); });
}

}  // namespace spanwise

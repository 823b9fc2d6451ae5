// Steps that make characters from bytes.
#include "base/str.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/decoder/steps.h"

namespace spanwise {
namespace {

constexpr std::string_view kReplacement = "\uFFFD";

// Moves the text at the front of `bytes` to `out`, each ill-formed part as U+FFFD. What could still become a character
// is left in `bytes` unless `all`.
void Release(std::string* bytes, bool all, std::string* out) {
  std::string_view rest = *bytes;
  while (!rest.empty()) {
    size_t good = rest.size();
    if (IsValidUtf8(rest, &good)) good = rest.size();
    out->append(rest.substr(0, good));
    rest.remove_prefix(good);
    if (rest.empty()) break;
    // The longest run that begins a character counts as one error, as the Unicode standard recommends.
    size_t bad = 1;
    while (bad < rest.size() && bad < 4 && CompleteUtf8Prefix(rest.substr(0, bad)) == 0 &&
           CompleteUtf8Prefix(rest.substr(0, bad + 1)) == 0)
      ++bad;
    if (bad == rest.size() && CompleteUtf8Prefix(rest) == 0 && !all) break;
    out->append(kReplacement);
    rest.remove_prefix(bad);
  }
  *bytes = std::string(rest);
}

class ByteLevelDecoder final : public DecoderStep {
 public:
  explicit ByteLevelDecoder(bool bytes_given) : bytes_given_(bytes_given) {}
  std::unique_ptr<DecoderStep::Run> Start(DecoderStep::Run* next, bool joined) const override {
    return StartWhole<Run>(joined, bytes_given_, next);
  }
  bool joins() const override { return true; }

 private:
  class Run final : public DecoderStep::Run {
   public:
    Run(bool bytes_given, DecoderStep::Run* next) : bytes_given_(bytes_given), next_(next) {}
    void Push(std::string token) override {
      if (const auto bytes = bytes_given_ ? std::nullopt : BytesOfSymbols(token)) token = *bytes;
      pending_ += token;
      PutOut(false);
    }
    void Finish() override {
      PutOut(true);
      next_->Finish();
    }

   private:
    void PutOut(bool all) {
      std::string text;
      Release(&pending_, all, &text);
      if (!text.empty()) next_->Push(std::move(text));
    }

    const bool bytes_given_;
    DecoderStep::Run* const next_;
    std::string pending_;
  };

  const bool bytes_given_;
};

class ByteFallbackDecoder final : public DecoderStep {
 public:
  std::unique_ptr<DecoderStep::Run> Start(DecoderStep::Run* next, bool joined) const override {
    return StartWhole<Run>(joined, next);
  }
  bool reads_bytes() const override { return true; }

 private:
  // A run of byte tokens is text only as a whole, so that it waits for its end.
  class Run final : public DecoderStep::Run {
   public:
    explicit Run(DecoderStep::Run* next) : next_(next) {}
    void Push(std::string token) override {
      if (const auto byte = ByteOfToken(token)) {
        bytes_ += *byte;
        return;
      }
      PutOut();
      next_->Push(std::move(token));
    }
    void Finish() override {
      PutOut();
      next_->Finish();
    }

   private:
    void PutOut() {
      if (bytes_.empty()) return;
      if (IsValidUtf8(bytes_)) {
        next_->Push(std::move(bytes_));
      } else {
        for (size_t i = 0; i < bytes_.size(); ++i) next_->Push(std::string(kReplacement));
      }
      bytes_.clear();
    }

    DecoderStep::Run* const next_;
    std::string bytes_;
  };
};

}  // namespace

std::shared_ptr<const DecoderStep> MakeByteLevelDecoder(bool bytes_given) {
  return std::make_shared<ByteLevelDecoder>(bytes_given);
}

std::shared_ptr<const DecoderStep> MakeByteFallbackDecoder() { return std::make_shared<ByteFallbackDecoder>(); }

}  // namespace spanwise

#include "tokenizer/tokenizer.h"

namespace spanwise {

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer) : stream_(tokenizer.StartDecoding()) {}

std::string StreamDecoder::Push(int32_t id) { return stream_ ? stream_->Push(id, /*keep_special=*/false) : ""; }

std::string StreamDecoder::Finish() {
  if (!stream_) return {};
  std::string text = stream_->Finish();
  stream_.reset();
  return text;
}

}  // namespace spanwise

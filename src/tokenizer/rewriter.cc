#include "tokenizer/rewriter.h"

#include <algorithm>

#include "base/str.h"
#include "tokenizer/unicode.h"

namespace spanwise {
namespace {

// No Unicode normalisation makes more than 11 bytes out of one.
constexpr size_t kMaxGrowth = 32;
constexpr size_t kMaxSmallGrowth = size_t{1} << 16;
constexpr size_t kMaxAllGrowth = size_t{3} << 30;  // offsets have 32 bits, the input at most 2^30 bytes

}  // namespace

GrowthBudget::GrowthBudget(size_t text_bytes)
    : all(std::min(kMaxGrowth * text_bytes + kMaxSmallGrowth, kMaxAllGrowth)), left(all) {}

void Rewriter::CopyUntil(size_t end) {
  std::vector<ByteRange>& sources = result_->sources;
  if (piece_.rewritten) {
    const auto from = piece_.rewritten->sources.begin() + piece_.origin;
    sources.insert(sources.end(), from + static_cast<ptrdiff_t>(copied_), from + static_cast<ptrdiff_t>(end));
  } else {
    for (size_t i = copied_; i < end;) {
      const uint32_t length = CharacterAt(piece_.text, i).length;
      const auto begin = piece_.origin + static_cast<uint32_t>(i);
      sources.insert(sources.end(), length, ByteRange{begin, begin + length});
      i += length;
    }
  }
  result_->text += piece_.text.substr(copied_, end - copied_);
  copied_ = end;
}

void Rewriter::Replace(size_t begin, size_t end, std::string_view with) {
  if (piece_.text.substr(begin, end - begin) == with) return;
  if (!result_) {
    result_ = std::make_unique<RewrittenText>();
    result_->text.reserve(piece_.text.size() + piece_.text.size() / 4);
    result_->sources.reserve(piece_.text.size() + piece_.text.size() / 4);
  }
  too_long_ |= result_->text.size() + with.size() > piece_.text.size() + growth_->left;
  if (too_long_) return;
  CopyUntil(begin);
  ByteRange source;
  if (begin < end) {
    source = piece_.Source(input_, begin, end);
  } else {
    source = begin > 0 ? piece_.Source(input_, begin - 1, begin) : piece_.Source(input_, 0, 1);
  }
  result_->text += with;
  result_->sources.insert(result_->sources.end(), with.size(), source);
  copied_ = end;
}

void Rewriter::Prepend(std::string_view with) {
  if (piece_.text.empty()) return;
  const uint32_t first = CharacterAt(piece_.text, 0).length;
  std::string both(with);
  both += piece_.text.substr(0, first);
  Replace(0, first, both);
}

Result<std::unique_ptr<RewrittenText>> Rewriter::Finish() {
  if (too_long_)
    return ResourceExhausted(StrFormat("the tokenizer's steps make a text of {} bytes more than {} bytes longer",
                                       input_.size(), growth_->all));
  if (!result_) return std::move(result_);
  CopyUntil(piece_.text.size());
  if (result_->text.size() > piece_.text.size())
    growth_->left -= std::min(growth_->left, result_->text.size() - piece_.text.size());
  return std::move(result_);
}

}  // namespace spanwise

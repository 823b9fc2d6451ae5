#include "tokenizer/word_cache.h"

namespace spanwise {
namespace {

constexpr size_t kMaxSlots = size_t{1} << 17;
constexpr size_t kMaxProbes = 16;  // words whose hashes were made to collide are simply not kept

}  // namespace

std::span<const int32_t> WordCache::Find(std::string_view word, uint64_t hash) const {
  for (size_t probe = 0; probe < kMaxProbes; ++probe) {
    const Slot& slot = slots_[(hash + probe) & (slots_.size() - 1)];
    if (slot.n_tokens == 0) return {};
    if (slot.hash == hash && std::string_view(words_).substr(slot.word, slot.word_bytes) == word)
      return {tokens_.data() + slot.tokens, slot.n_tokens};
  }
  return {};
}

void WordCache::Insert(std::string_view word, uint64_t hash, std::span<const int32_t> tokens) {
  if (word.size() > kMaxWordBytes) return;
  if (used_ * 2 >= slots_.size()) {
    if (slots_.size() == kMaxSlots) return;
    Grow();
  }
  for (size_t probe = 0; probe < kMaxProbes; ++probe) {
    Slot& slot = slots_[(hash + probe) & (slots_.size() - 1)];
    if (slot.n_tokens != 0) continue;
    slot = {hash, static_cast<uint32_t>(words_.size()), static_cast<uint32_t>(tokens_.size()),
            static_cast<uint16_t>(word.size()), static_cast<uint16_t>(tokens.size())};
    words_ += word;
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
    ++used_;
    return;
  }
}

void WordCache::Grow() {
  std::vector<Slot> old(slots_.size() * 4);
  old.swap(slots_);
  for (const Slot& slot : old) {
    if (slot.n_tokens == 0) continue;
    size_t probe = 0;
    while (probe < kMaxProbes && slots_[(slot.hash + probe) & (slots_.size() - 1)].n_tokens != 0) ++probe;
    if (probe < kMaxProbes) slots_[(slot.hash + probe) & (slots_.size() - 1)] = slot;
  }
}

}  // namespace spanwise

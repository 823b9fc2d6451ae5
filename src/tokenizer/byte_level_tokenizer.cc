#include "tokenizer/byte_level_tokenizer.h"

#include "base/hash.h"
#include "base/str.h"
#include "tokenizer/normalize.h"
#include "tokenizer/word_cache.h"

namespace spanwise {
namespace {

constexpr size_t kMaxTextBytes = size_t{1} << 30;

std::vector<AddedToken> Selected(const std::vector<AddedToken>& tokens, bool normalized) {
  std::vector<AddedToken> selected;
  for (const AddedToken& token : tokens)
    if (token.normalized == normalized) selected.push_back(token);
  return selected;
}

}  // namespace

ByteLevelTokenizer::ByteLevelTokenizer(Definition definition)
    : definition_(std::move(definition)),
      raw_added_(Selected(definition_.added, false), false),
      normalized_added_(Selected(definition_.added, true), definition_.nfc) {
  for (const AddedToken& token : definition_.added) id_of_added_.emplace(token.content, token.id);
}

// One call of Encode: the text goes through added tokens, normalisation and splitting, word by word, into `ids` or
// `tokens`.
class ByteLevelTokenizer::Encoder {
 public:
  using Slice = ::spanwise::Piece;

  Encoder(const ByteLevelTokenizer& tokenizer, std::string_view input, std::vector<int32_t>* ids,
          std::vector<EncodedToken>* tokens)
      : tokenizer_(tokenizer),
        definition_(tokenizer.definition_),
        input_(input),
        ids_(ids),
        tokens_(tokens),
        words_(definition_.pre_tokenizer, input, [this](const Slice& word) { return EncodeWord(word); }) {}

  Status Run(bool parse_special) {
    if (input_.size() > kMaxTextBytes)
      return ResourceExhausted(
          StrFormat("text of {} bytes, at most {} are encoded at once", input_.size(), kMaxTextBytes));
    size_t bad = 0;
    if (!IsValidUtf8(input_, &bad)) return InvalidArgument(StrFormat("text is not valid UTF-8 at byte {}", bad));
    const Slice whole{input_, 0, nullptr};
    if (!parse_special) return EncodeNormalized(whole, false);
    return EachAdded(tokenizer_.raw_added_, whole, [this](const Slice& rest) { return EncodeNormalized(rest, true); });
  }

 private:
  // Emits the added tokens in `piece` and hands what is between them to `rest`.
  template <typename Rest>
  Status EachAdded(const AddedTokenMatcher& matcher, const Slice& piece, const Rest& rest) {
    size_t at = 0;
    while (const auto match = matcher.Next(piece.text, at)) {
      if (match->begin > at) SW_RETURN_IF_ERROR(rest(piece.Slice(at, match->begin)));
      Emit(match->id, piece, match->begin, match->end);
      at = match->end;
    }
    return at < piece.text.size() ? rest(piece.Slice(at, piece.text.size())) : Status::Ok();
  }

  Status EncodeNormalized(const Slice& piece, bool parse_special) {
    const auto rewritten = definition_.nfc ? NormalizeNfc(piece) : nullptr;
    const Slice normal = rewritten ? Slice{rewritten->text, 0, rewritten.get()} : piece;
    if (!parse_special || tokenizer_.normalized_added_.empty()) return words_.Feed(normal);
    return EachAdded(tokenizer_.normalized_added_, normal, [this](const Slice& rest) { return words_.Feed(rest); });
  }

  Status EncodeWord(const Slice& word) {
    if (definition_.ignore_merges)
      if (const auto known = definition_.id_of_word.find(word.text); known != definition_.id_of_word.end()) {
        Emit(known->second, word, 0, word.text.size());
        return Status::Ok();
      }
    const bool cached = word.text.size() <= WordCache::kMaxWordBytes;
    const uint64_t hash = cached ? Xxh3(word.text) : 0;
    if (cached) {
      if (const auto known = cache_.Find(word.text, hash); !known.empty()) {
        EmitAll(known, word);
        return Status::Ok();
      }
    }
    symbols_.clear();
    for (size_t i = 0; i < word.text.size(); ++i) {
      const auto byte = static_cast<uint8_t>(word.text[i]);
      if (definition_.id_of_byte[byte] < 0)
        return InvalidArgument(StrFormat("text byte {} is 0x{:02x}, for which the vocabulary has no token",
                                         word.Source(input_, i, i + 1).begin, byte));
      symbols_.push_back(definition_.id_of_byte[byte]);
    }
    merger_.Run(definition_.merges, &symbols_);
    if (cached) cache_.Insert(word.text, hash, symbols_);
    EmitAll(symbols_, word);
    return Status::Ok();
  }

  void EmitAll(std::span<const int32_t> ids, const Slice& word) {
    if (ids_) {
      ids_->insert(ids_->end(), ids.begin(), ids.end());
      return;
    }
    size_t at = 0;
    for (const int32_t id : ids) {
      const size_t end = at + definition_.tokens.Bytes(id).size();
      Emit(id, word, at, end);
      at = end;
    }
  }

  void Emit(int32_t id, const Slice& piece, size_t begin, size_t end) {
    if (ids_) {
      ids_->push_back(id);
      return;
    }
    const ByteRange source = piece.Source(input_, begin, end);
    tokens_->push_back({id, source.begin, source.end});
  }

  const ByteLevelTokenizer& tokenizer_;
  const Definition& definition_;
  const std::string_view input_;
  std::vector<int32_t>* const ids_;
  std::vector<EncodedToken>* const tokens_;
  PreTokenizerRun words_;
  Merger merger_;
  WordCache cache_;
  std::vector<int32_t> symbols_;
};

Result<std::vector<int32_t>> ByteLevelTokenizer::Encode(std::string_view text, bool parse_special) const {
  std::vector<int32_t> ids;
  SW_RETURN_IF_ERROR(Encoder(*this, text, &ids, nullptr).Run(parse_special));
  return ids;
}

Result<std::vector<EncodedToken>> ByteLevelTokenizer::EncodeWithOffsets(std::string_view text,
                                                                        bool parse_special) const {
  std::vector<EncodedToken> tokens;
  SW_RETURN_IF_ERROR(Encoder(*this, text, nullptr, &tokens).Run(parse_special));
  return tokens;
}

std::string ByteLevelTokenizer::TokenBytes(int32_t id, bool keep_special) const {
  if (IsSpecial(id) && !keep_special) return {};
  return std::string(definition_.tokens.Bytes(id));
}

std::optional<int32_t> ByteLevelTokenizer::IdOf(std::string_view token) const {
  const auto found = id_of_added_.find(token);
  return found == id_of_added_.end() ? std::nullopt : std::optional<int32_t>(found->second);
}

std::vector<Tokenizer::Piece> ByteLevelTokenizer::SplitAtSpecials(std::string_view text) const {
  std::vector<Piece> pieces;
  const auto split = [&](const AddedTokenMatcher& matcher, std::string_view part, const auto& rest) {
    size_t at = 0;
    while (const auto match = matcher.Next(part, at)) {
      if (match->begin > at) rest(part.substr(at, match->begin - at));
      pieces.push_back({part.substr(match->begin, match->end - match->begin), match->id});
      at = match->end;
    }
    if (at < part.size()) rest(part.substr(at));
  };
  split(raw_added_, text, [&](std::string_view part) {
    split(normalized_added_, part, [&](std::string_view plain) { pieces.push_back({plain, std::nullopt}); });
  });
  return pieces;
}

}  // namespace spanwise

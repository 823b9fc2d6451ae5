// The tokenizer: added tokens, normaliser, pre-tokenizer and model one way, the decoder the other.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tokenizer/added_tokens.h"
#include "tokenizer/decoder.h"
#include "tokenizer/model.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/pretokenizer.h"
#include "tokenizer/tokenizer.h"

namespace spanwise {

// What the decoder makes of every token by id, in one buffer.
class TokenTable {
 public:
  enum class Kind : uint8_t { kNone, kPlain, kAdded, kSpecial };

  void Resize(size_t n_ids) { entries_.resize(n_ids); }
  // REQUIRES: all texts together are below 2^32 bytes.
  void Set(int32_t id, std::string_view text, Kind kind) {
    entries_[static_cast<size_t>(id)] = {static_cast<uint32_t>(texts_.size()), static_cast<uint32_t>(text.size()),
                                         kind};
    texts_ += text;
  }
  void SetKind(int32_t id, Kind kind) { entries_[static_cast<size_t>(id)].kind = kind; }
  bool Has(int32_t id) const { return id >= 0 && static_cast<size_t>(id) < entries_.size(); }
  Kind KindOf(int32_t id) const { return Has(id) ? entries_[static_cast<size_t>(id)].kind : Kind::kNone; }
  std::string_view Text(int32_t id) const {
    if (!Has(id)) return {};
    const Entry& entry = entries_[static_cast<size_t>(id)];
    return std::string_view(texts_).substr(entry.begin, entry.length);
  }
  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    uint32_t begin = 0, length = 0;
    Kind kind = Kind::kNone;
  };
  std::vector<Entry> entries_;
  std::string texts_;
};

class PipelineTokenizer final : public Tokenizer {
 public:
  // What a file defines, checked.
  struct Definition {
    TokenTable tokens;
    bool token_bytes = false;  // the table holds bytes, which need not be UTF-8
    std::vector<AddedToken> added;
    Normalizer normalizer;
    PreTokenizer pre_tokenizer;
    std::shared_ptr<const Model> model;
    Decoder decoder;
    TokensAround around;
    std::string digest;
  };
  static Result<std::shared_ptr<const Tokenizer>> Create(Definition definition);

  Result<std::vector<int32_t>> Encode(std::string_view text, bool parse_special) const override;
  Result<std::vector<EncodedToken>> EncodeWithOffsets(std::string_view text, bool parse_special) const override;
  std::string TokenBytes(int32_t id, bool keep_special) const override;
  std::string Decode(const std::vector<int32_t>& ids, bool keep_special) const override;
  int vocab_size() const override { return static_cast<int>(definition_.tokens.size()); }
  std::optional<int32_t> IdOf(std::string_view token) const override;
  bool IsSpecial(int32_t id) const override { return definition_.tokens.KindOf(id) == TokenTable::Kind::kSpecial; }
  std::vector<Piece> SplitAtSpecials(std::string_view text) const override;
  const TokensAround& around() const override { return definition_.around; }
  const std::string& digest() const override { return definition_.digest; }

 private:
  class Encoder;
  class Stream;

  explicit PipelineTokenizer(Definition definition) : definition_(std::move(definition)) {}
  std::unique_ptr<DecoderStream> StartDecoding() const override;

  Definition definition_;
  std::map<std::string, int32_t, std::less<>> id_of_added_;
  AddedTokenMatcher raw_added_;         // looked for in the text as it is
  AddedTokenMatcher normalized_added_;  // then, in what is left, after normalisation
  AddedTokenMatcher template_added_;    // the same as the file writes them, for text that is not normalised
};

}  // namespace spanwise

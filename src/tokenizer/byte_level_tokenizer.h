// The one kind of tokenizer this engine has: byte-level BPE.
#pragma once

#include <array>
#include <map>
#include <string>
#include <vector>

#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"
#include "tokenizer/pretokenizer.h"
#include "tokenizer/tokenizer.h"

namespace spanwise {

// Bytes of every token by id, in one buffer.
class TokenTable {
 public:
  enum class Kind : uint8_t { kNone, kPlain, kAdded, kSpecial };

  void Resize(size_t n_ids) { entries_.resize(n_ids); }
  void Set(int32_t id, std::string_view bytes, Kind kind) {
    entries_[static_cast<size_t>(id)] = {static_cast<uint32_t>(bytes_.size()), static_cast<uint32_t>(bytes.size()),
                                         kind};
    bytes_ += bytes;
  }
  void SetKind(int32_t id, Kind kind) { entries_[static_cast<size_t>(id)].kind = kind; }
  bool Has(int32_t id) const { return id >= 0 && static_cast<size_t>(id) < entries_.size(); }
  Kind KindOf(int32_t id) const { return Has(id) ? entries_[static_cast<size_t>(id)].kind : Kind::kNone; }
  std::string_view Bytes(int32_t id) const {
    if (!Has(id)) return {};
    const Entry& entry = entries_[static_cast<size_t>(id)];
    return std::string_view(bytes_).substr(entry.begin, entry.length);
  }
  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    uint32_t begin = 0, length = 0;
    Kind kind = Kind::kNone;
  };
  std::vector<Entry> entries_;
  std::string bytes_;
};

class ByteLevelTokenizer final : public Tokenizer {
 public:
  // What tokenizer.json defines, checked.
  struct Definition {
    TokenTable tokens;
    std::array<int32_t, 256> id_of_byte{};  // -1: the vocabulary lacks it
    MergeTable merges;
    bool ignore_merges = false;                              // a word that is a token is not merged
    std::map<std::string, int32_t, std::less<>> id_of_word;  // plain tokens by bytes; only with ignore_merges
    std::vector<AddedToken> added;
    bool nfc = false;
    PreTokenizer pre_tokenizer;
    std::string digest;
  };
  explicit ByteLevelTokenizer(Definition definition);

  Result<std::vector<int32_t>> Encode(std::string_view text, bool parse_special) const override;
  Result<std::vector<EncodedToken>> EncodeWithOffsets(std::string_view text, bool parse_special) const override;
  std::string TokenBytes(int32_t id, bool keep_special) const override;
  int vocab_size() const override { return static_cast<int>(definition_.tokens.size()); }
  std::optional<int32_t> IdOf(std::string_view token) const override;
  bool IsSpecial(int32_t id) const override { return definition_.tokens.KindOf(id) == TokenTable::Kind::kSpecial; }
  std::vector<Piece> SplitAtSpecials(std::string_view text) const override;
  const std::string& digest() const override { return definition_.digest; }

 private:
  class Encoder;

  Definition definition_;
  std::map<std::string, int32_t, std::less<>> id_of_added_;
  AddedTokenMatcher raw_added_;         // looked for in the text as it is
  AddedTokenMatcher normalized_added_;  // then, in what is left, after normalisation
};

}  // namespace spanwise

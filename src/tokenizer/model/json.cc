#include "tokenizer/model/json.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>

#include "base/str.h"
#include "tokenizer/byte_level.h"

namespace spanwise {
namespace {

constexpr int64_t kMaxId = (int64_t{1} << 24) - 1;
constexpr size_t kMaxGap =
    size_t{1} << 20;                    // ids that the vocabulary may leave unused: tables are sized by the largest
constexpr double kUnknownPenalty = 10;  // of an unknown character, below the worst token

using Kind = TokenTable::Kind;

Result<std::string> TypeOf(const json::object& model) {
  SW_ASSIGN_OR_RETURN(auto type, GetString(model, "type"));
  if (type) return std::move(*type);
  // Older files leave it out.
  const json::value* const vocab = model.if_contains("vocab");
  return std::string(vocab && vocab->is_array() ? "Unigram" : model.contains("merges") ? "BPE" : "");
}

// Vocabulary, merges and options. Token names are resolved through the JSON object itself, which is a hash table.
class ModelReader {
 public:
  ModelReader(const json::object& model, bool bytes_stay, PipelineTokenizer::Definition* out, DefinitionDigest* digest)
      : model_(model), bytes_stay_(bytes_stay), out_(out), digest_(*digest) {}

  Result<ModelTraits> Read() {
    SW_ASSIGN_OR_RETURN(const std::string type, TypeOf(model_));
    digest_.Add("spanwise tokenizer 2", type);
    SW_RETURN_IF_ERROR(type == "Unigram" ? ReadList() : ReadVocabulary());
    SW_RETURN_IF_ERROR(ReadAdded());
    if (type == "BPE") {
      SW_RETURN_IF_ERROR(ReadBpe());
    } else if (type == "Unigram") {
      SW_RETURN_IF_ERROR(ReadUnigram());
    } else if (type == "WordPiece") {
      SW_RETURN_IF_ERROR(ReadWordPiece());
    } else if (type == "WordLevel") {
      SW_ASSIGN_OR_RETURN(const auto unknown, GetString(model_, "unk_token"));
      out_->model = MakeWordLevel(PlainTokens(), Named("unk_token", unknown.value_or("<unk>")));
    } else {
      return Unimplemented(StrFormat("'type' is {}, expected BPE, Unigram, WordPiece or WordLevel", Quoted(type)));
    }
    for (size_t id = 0; id < texts_.size(); ++id)
      if (out_->tokens.KindOf(static_cast<int32_t>(id)) != Kind::kNone)
        digest_.Add("token", id).Add("text", texts_[id]);
    return traits_;
  }

 private:
  Status ReadVocabulary() {
    SW_ASSIGN_OR_RETURN(vocab_, GetObject(model_, "vocab"));
    if (!vocab_) return InvalidArgument("'vocab' is missing, expected an object of token: id");
    int32_t largest = -1;
    for (const auto& item : *vocab_) {
      auto id = ReadTokenId(item.value());
      if (!id.ok()) return id.status().WithContext(StrFormat("'vocab' member {}", Quoted(item.key())));
      largest = std::max(largest, *id);
    }
    SW_RETURN_IF_ERROR(Resize(largest, vocab_->size()));
    for (const auto& item : *vocab_) {
      const auto id = static_cast<int32_t>(item.value().get_int64());
      if (out_->tokens.KindOf(id) != Kind::kNone)
        return InvalidArgument(StrFormat("'vocab' gives id {} to {} and to {}", id,
                                         Quoted(texts_[static_cast<size_t>(id)]), Quoted(item.key())));
      SW_RETURN_IF_ERROR(SetToken(id, item.key()));
    }
    return Status::Ok();
  }

  // Unigram's vocabulary: [text, score] by id.
  Status ReadList() {
    SW_ASSIGN_OR_RETURN(const json::array* const list, GetArray(model_, "vocab"));
    if (!list || list->empty())
      return InvalidArgument("'vocab' is missing or empty, expected an array of [token, score]");
    if (list->size() > static_cast<size_t>(kMaxId))
      return InvalidArgument(StrFormat("'vocab' has {} members, at most {} are read", list->size(), kMaxId));
    SW_RETURN_IF_ERROR(Resize(static_cast<int32_t>(list->size() - 1), list->size()));
    for (size_t i = 0; i < list->size(); ++i) {
      const json::array* const pair = (*list)[i].if_array();
      if (!pair || pair->size() != 2 || !(*pair)[0].is_string() || !(*pair)[1].is_number())
        return InvalidArgument(
            StrFormat("'vocab' member {} is {}, expected [token, score]", i, Quoted(json::serialize((*list)[i]), 60)));
      const auto score = (*pair)[1].to_number<double>();
      if (!std::isfinite(score))
        return InvalidArgument(StrFormat("'vocab' member {} has score {}, expected a finite number", i, score));
      SW_RETURN_IF_ERROR(SetToken(static_cast<int32_t>(i), (*pair)[0].get_string()));
      scores_.push_back(score);
    }
    return Status::Ok();
  }

  Status Resize(int32_t largest, size_t n_tokens) {
    for (const AddedToken& token : out_->added) largest = std::max(largest, token.id);
    const auto n_ids = static_cast<size_t>(largest + 1);
    if (n_ids > n_tokens + out_->added.size() + kMaxGap)
      return InvalidArgument(
          StrFormat("largest id is {}, but only {} tokens are defined", largest, n_tokens + out_->added.size()));
    texts_.resize(n_ids);
    out_->tokens.Resize(n_ids);
    return Status::Ok();
  }

  Status SetToken(int32_t id, std::string_view text) {
    if (text.size() > kMaxTokenBytes)
      return InvalidArgument(StrFormat("token {} has {} bytes, expected at most {}", id, text.size(), kMaxTokenBytes));
    texts_[static_cast<size_t>(id)] = text;
    const auto bytes = out_->token_bytes ? BytesOfSymbols(text) : std::nullopt;
    out_->tokens.Set(id, bytes ? std::string_view(*bytes) : text, Kind::kPlain);
    return Status::Ok();
  }

  Status ReadAdded() {
    for (const AddedToken& token : out_->added) {
      std::string_view& text = texts_[static_cast<size_t>(token.id)];
      const bool in_vocab = out_->tokens.KindOf(token.id) != Kind::kNone;
      if (vocab_)
        if (const json::value* const known = vocab_->if_contains(token.content);
            known && known->get_int64() != token.id)
          return InvalidArgument(StrFormat("'added_tokens' gives {} the id {}, 'vocab' gives it {}",
                                           Quoted(token.content), token.id, known->get_int64()));
      if (in_vocab && text != token.content)
        return InvalidArgument(StrFormat("'added_tokens' gives {} the id {}, which belongs to {}",
                                         Quoted(token.content), token.id, Quoted(text)));
      text = token.content;
      // One that the model may make as well keeps the bytes that the model means.
      if (!in_vocab || (out_->token_bytes && !BytesOfSymbols(token.content)))
        out_->tokens.Set(token.id, token.content, Kind::kAdded);
      out_->tokens.SetKind(token.id, token.special ? Kind::kSpecial : Kind::kAdded);
    }
    return Status::Ok();
  }

  // The model's own tokens. Special ones are left out: a model never finds one in plain text.
  Vocabulary PlainTokens() const {
    Vocabulary tokens;
    for (const auto& item : *vocab_) {
      const auto id = static_cast<int32_t>(item.value().get_int64());
      if (out_->tokens.KindOf(id) != Kind::kSpecial) tokens.emplace_back(item.key(), id);
    }
    return tokens;
  }

  std::optional<int32_t> IdOf(std::string_view token) const {
    const json::value* const found = vocab_->if_contains(token);
    return found ? std::optional(static_cast<int32_t>(found->get_int64())) : std::nullopt;
  }

  // The id of a token that an option names, for the model and for hashing.
  std::optional<int32_t> Named(std::string_view option, std::string_view token) {
    const auto id = IdOf(token);
    if (id) digest_.Add(option, static_cast<uint64_t>(*id));
    return id;
  }

  Result<std::optional<std::array<int32_t, 256>>> ReadByteTokens() {
    SW_ASSIGN_OR_RETURN(const auto fallback, GetBool(model_, "byte_fallback"));
    digest_.Add("byte_fallback", uint64_t{fallback.value_or(false)});
    if (!fallback.value_or(false)) return std::optional<std::array<int32_t, 256>>();
    std::array<int32_t, 256> ids;
    ids.fill(-1);
    for (size_t id = 0; id < texts_.size(); ++id)
      if (const auto byte = ByteOfToken(texts_[id]))
        if (TokenOfByte(static_cast<uint8_t>(*byte)) == texts_[id])
          ids[static_cast<uint8_t>(*byte)] = static_cast<int32_t>(id);
    return std::optional(ids);
  }

  Status ReadBpe() {
    SW_ASSIGN_OR_RETURN(const auto dropout, GetNumber(model_, "dropout"));
    if (dropout && *dropout != 0) return Unimplemented(StrFormat("'dropout' is {}, expected none", *dropout));
    CharBpeDefinition bpe;
    SW_ASSIGN_OR_RETURN(const auto unknown, GetString(model_, "unk_token"));
    SW_ASSIGN_OR_RETURN(const auto fuse_unknown, GetBool(model_, "fuse_unk"));
    SW_ASSIGN_OR_RETURN(const auto ignore_merges, GetBool(model_, "ignore_merges"));
    SW_ASSIGN_OR_RETURN(const auto prefix, GetString(model_, "continuing_subword_prefix"));
    SW_ASSIGN_OR_RETURN(const auto suffix, GetString(model_, "end_of_word_suffix"));
    SW_ASSIGN_OR_RETURN(bpe.byte_tokens, ReadByteTokens());
    bpe.continuing_prefix = prefix.value_or("");
    bpe.end_suffix = suffix.value_or("");
    bpe.fuse_unknown = fuse_unknown.value_or(false);
    bpe.whole_words = ignore_merges.value_or(false);
    if (unknown && !unknown->empty()) bpe.unknown = Named("unk_token", *unknown);
    digest_.Add("prefix", bpe.continuing_prefix).Add("suffix", bpe.end_suffix);
    digest_.Add("options", uint64_t{bpe.fuse_unknown} | uint64_t{bpe.whole_words} << 1);
    SW_ASSIGN_OR_RETURN(bpe.merges, ReadMerges(bpe.continuing_prefix.size()));
    digest_.AddMerges(bpe.merges);

    ByteBpeDefinition bytes;
    bytes.id_of_byte.fill(-1);
    for (const auto& item : *vocab_)
      if (const auto byte = BytesOfSymbols(item.key()); byte && byte->size() == 1)
        bytes.id_of_byte[static_cast<uint8_t>(byte->front())] = static_cast<int32_t>(item.value().get_int64());
    const bool complete = std::ranges::all_of(bytes.id_of_byte, [](int32_t id) { return id >= 0; });
    traits_.reads_bytes = bytes_stay_ && (complete || !bpe.unknown) && !bpe.byte_tokens &&
                          bpe.continuing_prefix.empty() && bpe.end_suffix.empty();
    if (traits_.reads_bytes) {
      bytes.merges = std::move(bpe.merges);
      std::vector<std::string> words;  // one for each of whole_words, so that none moves
      if (bpe.whole_words) {
        const Vocabulary plain = PlainTokens();
        words.reserve(plain.size());
        for (const auto& [text, id] : plain)
          if (auto word = BytesOfSymbols(text); word && out_->tokens.KindOf(id) == Kind::kPlain) {
            words.push_back(std::move(*word));
            bytes.whole_words.emplace_back(words.back(), id);
          }
      }
      out_->model = MakeByteBpe(bytes);
      return Status::Ok();
    }
    bpe.vocabulary = PlainTokens();
    traits_.cuts_before_spaces =
        !bpe.whole_words && bpe.continuing_prefix.empty() && bpe.end_suffix.empty() && IdOf("\u2581") &&
        MayCutBeforeSpaces(bpe.merges, [&](int32_t id) { return texts_[static_cast<size_t>(id)]; });
    out_->model = MakeCharBpe(bpe);
    return Status::Ok();
  }

  Result<std::vector<MergeTable::Merge>> ReadMerges(size_t prefix_bytes) {
    SW_ASSIGN_OR_RETURN(const json::array* const list, GetArray(model_, "merges"));
    if (!list) return InvalidArgument("'merges' is missing, expected an array");
    if (list->size() > static_cast<size_t>(kMaxId))
      return InvalidArgument(StrFormat("'merges' has {} members, at most {} are read", list->size(), kMaxId));
    std::vector<MergeTable::Merge> merges;
    merges.reserve(list->size());
    std::string joined;
    for (size_t i = 0; i < list->size(); ++i) {
      std::string_view left, right;
      if (!SplitMerge((*list)[i], &left, &right) || right.size() < prefix_bytes)
        return InvalidArgument(StrFormat("'merges' member {} is {}, expected \"A B\" or [\"A\", \"B\"]", i,
                                         Quoted(json::serialize((*list)[i]), 60)));
      joined.assign(left);
      joined += right.substr(prefix_bytes);
      MergeTable::Merge merge{.rank = static_cast<uint32_t>(i)};
      for (const auto& [name, id] : {std::pair{left, &merge.left}, std::pair{right, &merge.right},
                                     std::pair{std::string_view(joined), &merge.result}}) {
        const auto found = IdOf(name);
        if (!found)
          return InvalidArgument(StrFormat("'merges' member {} needs {}, which 'vocab' lacks", i, Quoted(name)));
        *id = *found;
      }
      if (out_->tokens.KindOf(merge.result) != Kind::kSpecial) merges.push_back(merge);
    }
    return merges;
  }

  static bool SplitMerge(const json::value& value, std::string_view* left, std::string_view* right) {
    if (value.is_array()) {
      const json::array& pair = value.get_array();
      if (pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string()) return false;
      *left = pair[0].get_string();
      *right = pair[1].get_string();
    } else {
      if (!value.is_string()) return false;
      const std::string_view text = value.get_string();
      const size_t space = text.find(' ');
      if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) return false;
      *left = text.substr(0, space);
      *right = text.substr(space + 1);
    }
    return !left->empty() && !right->empty();
  }

  Status ReadUnigram() {
    UnigramDefinition unigram;
    SW_ASSIGN_OR_RETURN(const auto unknown, GetInt(model_, "unk_id"));
    if (unknown && (*unknown < 0 || static_cast<size_t>(*unknown) >= scores_.size()))
      return InvalidArgument(
          StrFormat("'unk_id' is {}, expected an index of 'vocab', which has {} members", *unknown, scores_.size()));
    if (unknown) unigram.unknown = static_cast<int32_t>(*unknown);
    digest_.Add("unk_id", static_cast<uint64_t>(unknown.value_or(-1)));
    SW_ASSIGN_OR_RETURN(unigram.byte_tokens, ReadByteTokens());
    unigram.unknown_score = *std::ranges::min_element(scores_) - kUnknownPenalty;
    for (size_t i = 0; i < scores_.size(); ++i) {
      const auto id = static_cast<int32_t>(i);
      digest_.Add("score", std::bit_cast<uint64_t>(scores_[i]));
      if (out_->tokens.KindOf(id) != Kind::kSpecial && !texts_[i].empty())
        unigram.tokens.push_back({texts_[i], id, scores_[i]});
    }
    out_->model = MakeUnigram(unigram);
    return Status::Ok();
  }

  Status ReadWordPiece() {
    WordPieceDefinition pieces;
    SW_ASSIGN_OR_RETURN(const auto unknown, GetString(model_, "unk_token"));
    SW_ASSIGN_OR_RETURN(const auto prefix, GetString(model_, "continuing_subword_prefix"));
    SW_ASSIGN_OR_RETURN(const auto longest, GetInt(model_, "max_input_chars_per_word"));
    if (longest && *longest < 0)
      return InvalidArgument(StrFormat("'max_input_chars_per_word' is {}, expected 0 or more", *longest));
    pieces.unknown = Named("unk_token", unknown.value_or("[UNK]"));
    pieces.continuing_prefix = prefix.value_or("##");
    pieces.max_characters = static_cast<size_t>(longest.value_or(100));
    digest_.Add("prefix", pieces.continuing_prefix).Add("longest", uint64_t{pieces.max_characters});
    pieces.vocabulary = PlainTokens();
    out_->model = MakeWordPiece(pieces);
    return Status::Ok();
  }

  const json::object& model_;
  const bool bytes_stay_;
  PipelineTokenizer::Definition* const out_;
  const json::object* vocab_ = nullptr;  // null for Unigram
  std::vector<std::string_view> texts_;  // by id, as the file writes them
  std::vector<double> scores_;
  DefinitionDigest& digest_;
  ModelTraits traits_;
};

}  // namespace

Result<int32_t> ReadTokenId(const json::value& value) {
  if (value.is_int64() && value.get_int64() >= 0 && value.get_int64() <= kMaxId)
    return static_cast<int32_t>(value.get_int64());
  return InvalidArgument(
      StrFormat("id is {}, expected an integer from 0 to {}", Quoted(json::serialize(value), 40), kMaxId));
}

Result<ModelTraits> ReadModel(const json::object& model, bool bytes_may_stay, PipelineTokenizer::Definition* out,
                              DefinitionDigest* digest) {
  return ModelReader(model, bytes_may_stay, out, digest).Read();
}

}  // namespace spanwise

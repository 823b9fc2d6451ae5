// Reads tokenizer.json: docs/formats/tokenizer.md says what is accepted.
#include <algorithm>

#include "base/hash.h"
#include "base/json.h"
#include "base/str.h"
#include "formats/json_keys.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/byte_level_tokenizer.h"

namespace spanwise {
namespace {

constexpr int64_t kMaxId = (int64_t{1} << 24) - 1;
constexpr size_t kMaxGap =
    size_t{1} << 20;  // ids that the vocabulary may leave unused: tables are sized by the largest
constexpr size_t kMaxAddedBytes = 1024;
constexpr size_t kMaxFileBytes = size_t{128} << 20;

using Definition = ByteLevelTokenizer::Definition;

Result<std::string> TypeOf(const json::object& object, std::string_view otherwise) {
  SW_ASSIGN_OR_RETURN(auto type, GetString(object, "type"));
  return type ? std::move(*type) : std::string(otherwise);
}

// Applies `each` to the type names of a component that may be null or a Sequence under `members`.
template <typename Each>
Status EachComponent(const json::object& root, std::string_view key, std::string_view members, const Each& each) {
  SW_ASSIGN_OR_RETURN(const json::object* const component, GetObject(root, key));
  if (!component) return Status::Ok();
  SW_ASSIGN_OR_RETURN(const std::string type, TypeOf(*component, ""));
  if (type != "Sequence") return each(type);
  SW_ASSIGN_OR_RETURN(const json::array* const list, GetArray(*component, members));
  if (!list) return InvalidArgument(StrFormat("'{}': Sequence without '{}'", key, members));
  for (const json::value& member : *list) {
    if (!member.is_object())
      return InvalidArgument(StrFormat("'{}': '{}' holds {}, expected objects", key, members, JsonKindName(member)));
    SW_ASSIGN_OR_RETURN(const std::string inner, TypeOf(member.get_object(), ""));
    SW_RETURN_IF_ERROR(each(inner));
  }
  return Status::Ok();
}

Status ReadNormalizer(const json::object& root, Definition* out) {
  return EachComponent(root, "normalizer", "normalizers", [&](const std::string& type) {
    if (type != "NFC") return Unimplemented(StrFormat("'normalizer' type is {}, expected none or NFC", Quoted(type)));
    out->nfc = true;
    return Status::Ok();
  });
}

Status CheckDecoder(const json::object& root) {
  bool found = false;
  SW_RETURN_IF_ERROR(EachComponent(root, "decoder", "decoders", [&](const std::string& type) {
    if (type != "ByteLevel") return Unimplemented(StrFormat("'decoder' type is {}, expected ByteLevel", Quoted(type)));
    found = true;
    return Status::Ok();
  }));
  return found ? Status::Ok() : Unimplemented("'decoder' is missing, expected ByteLevel");
}

// Templates add special tokens themselves, so these only have to be of a kind that leaves the other tokens alone.
Status CheckPostProcessor(const json::object& root) {
  return EachComponent(root, "post_processor", "processors", [&](const std::string& type) {
    if (type == "ByteLevel" || type == "TemplateProcessing") return Status::Ok();
    return Unimplemented(
        StrFormat("'post_processor' type is {}, expected ByteLevel or TemplateProcessing", Quoted(type)));
  });
}

Status CheckModelOptions(const json::object& model) {
  SW_ASSIGN_OR_RETURN(const std::string type, TypeOf(model, "BPE"));
  if (type != "BPE") return Unimplemented(StrFormat("'type' is {}, expected BPE", Quoted(type)));
  SW_ASSIGN_OR_RETURN(const auto dropout, GetNumber(model, "dropout"));
  if (dropout && *dropout != 0) return Unimplemented(StrFormat("'dropout' is {}, expected none", *dropout));
  for (const std::string_view key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    SW_ASSIGN_OR_RETURN(const auto text, GetString(model, key));
    if (text && !text->empty()) return Unimplemented(StrFormat("'{}' is {}, expected none", key, Quoted(*text)));
  }
  SW_ASSIGN_OR_RETURN(const auto byte_fallback, GetBool(model, "byte_fallback"));
  if (byte_fallback.value_or(false)) return Unimplemented("'byte_fallback' is true, expected a byte-level vocabulary");
  return Status::Ok();
}

Result<int32_t> ReadId(const json::value& value) {
  if (value.is_int64() && value.get_int64() >= 0 && value.get_int64() <= kMaxId)
    return static_cast<int32_t>(value.get_int64());
  return InvalidArgument(
      StrFormat("id is {}, expected an integer from 0 to {}", Quoted(json::serialize(value), 40), kMaxId));
}

Result<std::vector<AddedToken>> ReadAddedTokens(const json::object& root) {
  std::vector<AddedToken> tokens;
  SW_ASSIGN_OR_RETURN(const json::array* const list, GetArray(root, "added_tokens"));
  if (!list) return tokens;
  for (size_t i = 0; i < list->size(); ++i) {
    const auto fail = [i](const Status& status) {
      return status.WithContext(StrFormat("'added_tokens' member {}", i));
    };
    if (!(*list)[i].is_object())
      return fail(InvalidArgument(StrFormat("is {}, expected an object", JsonKindName((*list)[i]))));
    const json::object& item = (*list)[i].get_object();
    AddedToken token;
    const json::value* id = item.if_contains("id");
    auto read = ReadId(id ? *id : json::value());
    if (!read.ok()) return fail(read.status());
    token.id = *read;
    auto content = GetString(item, "content");
    if (!content.ok()) return fail(content.status());
    if (!*content || (*content)->empty() || (*content)->size() > kMaxAddedBytes)
      return fail(InvalidArgument(StrFormat("'content' is missing, empty or longer than {} bytes", kMaxAddedBytes)));
    token.content = std::move(**content);
    token.normalized = true;
    bool single_word = false;
    for (const auto& [key, flag] :
         {std::pair{"special", &token.special}, std::pair{"lstrip", &token.lstrip}, std::pair{"rstrip", &token.rstrip},
          std::pair{"normalized", &token.normalized}, std::pair{"single_word", &single_word}}) {
      const auto value = GetBool(item, key);
      if (!value.ok()) return fail(value.status());
      if (*value) *flag = **value;
    }
    if (!item.contains("normalized")) token.normalized = !token.special;
    if (single_word)
      return fail(Unimplemented(StrFormat("{}: 'single_word' is true, only false is done", Quoted(token.content))));
    tokens.push_back(std::move(token));
  }
  return tokens;
}

// Vocabulary and merges. Token names are resolved through the JSON object itself, which is a hash table.
class ModelReader {
 public:
  ModelReader(const json::object& vocab, Definition* out) : vocab_(vocab), out_(out) {}

  Status ReadVocabulary() {
    int32_t largest = -1;
    for (const AddedToken& token : out_->added) largest = std::max(largest, token.id);
    for (const auto& item : vocab_) {
      auto id = ReadId(item.value());
      if (!id.ok()) return id.status().WithContext(StrFormat("'vocab' member {}", Quoted(item.key())));
      largest = std::max(largest, *id);
    }
    const auto n_ids = static_cast<size_t>(largest + 1);
    if (n_ids > vocab_.size() + out_->added.size() + kMaxGap)
      return InvalidArgument(
          StrFormat("largest id is {}, but only {} tokens are defined", largest, vocab_.size() + out_->added.size()));
    symbols_.resize(n_ids);
    out_->tokens.Resize(n_ids);
    out_->id_of_byte.fill(-1);
    for (const auto& item : vocab_) {
      const auto id = static_cast<int32_t>(item.value().get_int64());
      if (out_->tokens.KindOf(id) != TokenTable::Kind::kNone)
        return InvalidArgument(StrFormat("'vocab' gives id {} to {} and to {}", id,
                                         Quoted(symbols_[static_cast<size_t>(id)]), Quoted(item.key())));
      symbols_[static_cast<size_t>(id)] = item.key();
      const auto bytes = BytesOfSymbols(item.key());
      out_->tokens.Set(id, bytes ? std::string_view(*bytes) : std::string_view(item.key()), TokenTable::Kind::kPlain);
      if (bytes && bytes->size() == 1) out_->id_of_byte[static_cast<uint8_t>(bytes->front())] = id;
    }
    return ReadAdded();
  }

  Status ReadMerges(const json::array& list) {
    if (list.size() > static_cast<size_t>(kMaxId))
      return InvalidArgument(StrFormat("'merges' has {} members, at most {} are read", list.size(), kMaxId));
    merges_.reserve(list.size());
    std::string joined;
    for (size_t i = 0; i < list.size(); ++i) {
      std::string_view left, right;
      if (!SplitMerge(list[i], &left, &right))
        return InvalidArgument(StrFormat("'merges' member {} is {}, expected \"A B\" or [\"A\", \"B\"]", i,
                                         Quoted(json::serialize(list[i]), 60)));
      joined.assign(left);
      joined += right;
      MergeTable::Merge merge;
      for (const auto& [name, id] : {std::pair{left, &merge.left}, std::pair{right, &merge.right},
                                     std::pair{std::string_view(joined), &merge.result}}) {
        const json::value* found = vocab_.if_contains(name);
        if (!found)
          return InvalidArgument(StrFormat("'merges' member {} needs {}, which 'vocab' lacks", i, Quoted(name)));
        *id = static_cast<int32_t>(found->get_int64());
      }
      // Offsets come from token lengths, so both sides must be byte-level and their lengths add up.
      if (out_->tokens.Bytes(merge.result).size() !=
          out_->tokens.Bytes(merge.left).size() + out_->tokens.Bytes(merge.right).size())
        return InvalidArgument(StrFormat("'merges' member {} joins {} and {}, which are not both byte-level tokens", i,
                                         Quoted(left), Quoted(right)));
      merges_.push_back(merge);
    }
    out_->merges.Build(merges_);
    return Status::Ok();
  }

  // Everything that determines which ids a text gets, in an order that the file's layout does not change.
  void Digest() {
    Hasher hasher;
    hasher.Field("spanwise tokenizer 1").Field(uint64_t{out_->nfc}).Field(uint64_t{out_->ignore_merges});
    hasher.Field(out_->pre_tokenizer.Description());
    for (size_t id = 0; id < symbols_.size(); ++id)
      if (out_->tokens.KindOf(static_cast<int32_t>(id)) != TokenTable::Kind::kNone)
        hasher.Field(id).Field(symbols_[id]);
    hasher.Field(merges_.size());
    for (const MergeTable::Merge& merge : merges_)
      hasher.Field(static_cast<uint64_t>(merge.left)).Field(static_cast<uint64_t>(merge.right));
    std::vector<const AddedToken*> added;
    for (const AddedToken& token : out_->added) added.push_back(&token);
    std::sort(added.begin(), added.end(), [](const AddedToken* a, const AddedToken* b) { return a->id < b->id; });
    for (const AddedToken* token : added)
      hasher.Field(static_cast<uint64_t>(token->id))
          .Field(token->content)
          .Field(uint64_t{token->special} | uint64_t{token->lstrip} << 1 | uint64_t{token->rstrip} << 2 |
                 uint64_t{token->normalized} << 3);
    out_->digest = hasher.Finish().Hex();
  }

 private:
  Status ReadAdded() {
    std::map<std::string_view, int32_t> seen;
    for (const AddedToken& token : out_->added) {
      const auto id = static_cast<size_t>(token.id);
      if (!seen.emplace(token.content, token.id).second)
        return InvalidArgument(StrFormat("'added_tokens' has {} twice", Quoted(token.content)));
      const json::value* in_vocab = vocab_.if_contains(token.content);
      if (in_vocab && in_vocab->get_int64() != token.id)
        return InvalidArgument(StrFormat("'added_tokens' gives {} the id {}, 'vocab' gives it {}",
                                         Quoted(token.content), token.id, in_vocab->get_int64()));
      if (!in_vocab && out_->tokens.KindOf(token.id) != TokenTable::Kind::kNone)
        return InvalidArgument(StrFormat("'added_tokens' gives {} the id {}, which belongs to {}",
                                         Quoted(token.content), token.id, Quoted(symbols_[id])));
      symbols_[id] = token.content;
      // A merge may produce an added token as well; its length must stay that of its bytes.
      if (!in_vocab || !BytesOfSymbols(token.content))
        out_->tokens.Set(token.id, token.content, TokenTable::Kind::kAdded);
      out_->tokens.SetKind(token.id, token.special ? TokenTable::Kind::kSpecial : TokenTable::Kind::kAdded);
    }
    return Status::Ok();
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

  const json::object& vocab_;
  Definition* const out_;
  std::vector<std::string_view> symbols_;  // by id, as the file writes them
  std::vector<MergeTable::Merge> merges_;
};

Status ReadModel(const json::object& model, Definition* out) {
  SW_RETURN_IF_ERROR(CheckModelOptions(model));
  SW_ASSIGN_OR_RETURN(const auto ignore_merges, GetBool(model, "ignore_merges"));
  out->ignore_merges = ignore_merges.value_or(false);
  SW_ASSIGN_OR_RETURN(const json::object* const vocab, GetObject(model, "vocab"));
  SW_ASSIGN_OR_RETURN(const json::array* const merges, GetArray(model, "merges"));
  if (!vocab) return InvalidArgument("'vocab' is missing, expected an object of token: id");
  if (!merges) return InvalidArgument("'merges' is missing, expected an array");
  ModelReader reader(*vocab, out);
  SW_RETURN_IF_ERROR(reader.ReadVocabulary());
  SW_RETURN_IF_ERROR(reader.ReadMerges(*merges));
  reader.Digest();

  SW_ASSIGN_OR_RETURN(const auto unknown, GetString(model, "unk_token"));
  const bool complete = std::all_of(out->id_of_byte.begin(), out->id_of_byte.end(), [](int32_t id) { return id >= 0; });
  if (unknown && !unknown->empty() && !complete)
    return Unimplemented(
        StrFormat("'unk_token' is {}, expected none or a vocabulary with all 256 bytes", Quoted(*unknown)));
  if (out->ignore_merges)
    for (size_t id = 0; id < out->tokens.size(); ++id)
      // A special token is never found inside plain text.
      if (out->tokens.KindOf(static_cast<int32_t>(id)) == TokenTable::Kind::kPlain)
        out->id_of_word.emplace(out->tokens.Bytes(static_cast<int32_t>(id)), static_cast<int32_t>(id));
  return Status::Ok();
}

Result<Definition> ReadDefinition(const json::object& root) {
  Definition out;
  SW_RETURN_IF_ERROR(ReadNormalizer(root, &out));
  SW_RETURN_IF_ERROR(CheckDecoder(root));
  SW_RETURN_IF_ERROR(CheckPostProcessor(root));
  const json::value* pre_tokenizer = root.if_contains("pre_tokenizer");
  auto steps = PreTokenizer::FromJson(pre_tokenizer ? *pre_tokenizer : json::value());
  if (!steps.ok()) return steps.status().WithContext("'pre_tokenizer'");
  out.pre_tokenizer = std::move(*steps);
  SW_ASSIGN_OR_RETURN(out.added, ReadAddedTokens(root));
  SW_ASSIGN_OR_RETURN(const json::object* const model, GetObject(root, "model"));
  if (!model) return InvalidArgument("'model' is missing, expected an object");
  SW_RETURN_IF_ERROR(ReadModel(*model, &out).WithContext("'model'"));
  return out;
}

}  // namespace

Result<std::shared_ptr<const Tokenizer>> Tokenizer::FromJson(std::string_view tokenizer_json, std::string_view where) {
  if (tokenizer_json.size() > kMaxFileBytes)
    return ResourceExhausted(
        StrFormat("{}: {} bytes, at most {} are read", where, tokenizer_json.size(), kMaxFileBytes));
  SW_ASSIGN_OR_RETURN(const json::value root, ParseJson(tokenizer_json, where));
  if (!root.is_object())
    return InvalidArgument(StrFormat("{}: holds {}, expected an object", where, JsonKindName(root)));
  if (const auto twice = FindDuplicateKey(tokenizer_json))
    return InvalidArgument(StrFormat("{}: {} occurs twice in one object", where, Quoted(*twice)));
  auto definition = ReadDefinition(root.get_object());
  if (!definition.ok()) return definition.status().WithContext(where);
  return std::shared_ptr<const Tokenizer>(std::make_shared<ByteLevelTokenizer>(std::move(*definition)));
}

}  // namespace spanwise

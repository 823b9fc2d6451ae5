// Reads tokenizer.json: docs/formats/tokenizer.md says what is accepted.
#include <map>

#include "base/json.h"
#include "base/str.h"
#include "formats/json_keys.h"
#include "tokenizer/component_json.h"
#include "tokenizer/definition.h"
#include "tokenizer/model/json.h"

namespace spanwise {
namespace {

constexpr size_t kMaxAddedBytes = 1024;
constexpr size_t kMaxAround = 1024;  // tokens around a text
constexpr size_t kMaxFileBytes = size_t{128} << 20;

using Definition = PipelineTokenizer::Definition;

// As the tokenizers library takes the list: empty tokens are none, and one that comes again keeps its first id and
// takes the flags of the last, but stays special.
Result<std::vector<AddedToken>> ReadAddedTokens(const json::object& root) {
  std::vector<AddedToken> tokens;
  std::map<std::string, size_t> seen;
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
    auto read = ReadTokenId(id ? *id : json::value());
    if (!read.ok()) return fail(read.status());
    token.id = *read;
    auto content = GetString(item, "content");
    if (!content.ok()) return fail(content.status());
    if (!*content || (*content)->size() > kMaxAddedBytes)
      return fail(InvalidArgument(StrFormat("'content' is missing or longer than {} bytes", kMaxAddedBytes)));
    if ((*content)->empty()) continue;
    token.content = std::move(**content);
    token.normalized = true;
    for (const auto& [key, flag] :
         {std::pair{"special", &token.special}, std::pair{"lstrip", &token.lstrip}, std::pair{"rstrip", &token.rstrip},
          std::pair{"normalized", &token.normalized}, std::pair{"single_word", &token.single_word}}) {
      const auto value = GetBool(item, key);
      if (!value.ok()) return fail(value.status());
      if (*value) *flag = **value;
    }
    if (!item.contains("normalized")) token.normalized = !token.special;
    if (const auto [at, fresh] = seen.emplace(token.content, tokens.size()); !fresh) {
      AddedToken& first = tokens[at->second];
      token.id = first.id;
      token.special |= first.special;
      first = std::move(token);
      continue;
    }
    tokens.push_back(std::move(token));
  }
  return tokens;
}

// [token, id] of BertProcessing and RobertaProcessing.
Result<int32_t> ReadPair(const json::object& definition, std::string_view key) {
  SW_ASSIGN_OR_RETURN(const json::array* const pair, GetArray(definition, key));
  if (!pair || pair->size() != 2) return InvalidArgument(StrFormat("'{}' is missing, expected [token, id]", key));
  return ReadTokenId((*pair)[1]);
}

// The tokens of TemplateProcessing for a single text.
Status ReadTemplate(const json::object& definition, TokensAround* around) {
  SW_ASSIGN_OR_RETURN(const json::array* const items, GetArray(definition, "single"));
  SW_ASSIGN_OR_RETURN(const json::object* const tokens, GetObject(definition, "special_tokens"));
  if (!items) return InvalidArgument("TemplateProcessing: 'single' is missing, expected an array");
  bool before = true;
  for (const json::value& item : *items) {
    if (!item.is_object()) return InvalidArgument("TemplateProcessing: 'single' holds what is no object");
    if (item.get_object().contains("Sequence")) {
      before = false;
      continue;
    }
    SW_ASSIGN_OR_RETURN(const json::object* const special, GetObject(item.get_object(), "SpecialToken"));
    if (!special) return InvalidArgument("TemplateProcessing: 'single' holds neither a Sequence nor a SpecialToken");
    SW_ASSIGN_OR_RETURN(const auto name, GetString(*special, "id"));
    const json::value* const token = tokens && name ? tokens->if_contains(*name) : nullptr;
    if (!token || !token->is_object())
      return InvalidArgument(
          StrFormat("TemplateProcessing: 'special_tokens' lacks {}", Quoted(name.value_or("a token without an id"))));
    SW_ASSIGN_OR_RETURN(const json::array* const ids, GetArray(token->get_object(), "ids"));
    if (!ids) return InvalidArgument(StrFormat("TemplateProcessing: {} has no 'ids'", Quoted(*name)));
    for (const json::value& value : *ids) {
      SW_ASSIGN_OR_RETURN(const int32_t id, ReadTokenId(value));
      if (around->before.size() + around->after.size() == kMaxAround)
        return InvalidArgument(StrFormat("TemplateProcessing: 'single' adds more than {} tokens", kMaxAround));
      (before ? around->before : around->after).push_back(id);
    }
  }
  return Status::Ok();
}

// Of post-processors only the tokens matter that they add; Encode adds none.
Status ReadPostProcessor(const json::value& definition, Definition* out) {
  if (definition.is_null()) return Status::Ok();
  const auto add = [&](std::string_view type, const json::object& step) -> Status {
    TokensAround added;
    if (type == "TemplateProcessing") {
      SW_RETURN_IF_ERROR(ReadTemplate(step, &added));
    } else if (type == "BertProcessing" || type == "RobertaProcessing") {
      SW_ASSIGN_OR_RETURN(const int32_t cls, ReadPair(step, "cls"));
      SW_ASSIGN_OR_RETURN(const int32_t sep, ReadPair(step, "sep"));
      added = {{cls}, {sep}};
    } else if (type != "ByteLevel") {
      return Unimplemented(
          StrFormat("type is {}, expected Sequence, ByteLevel, TemplateProcessing, BertProcessing or RobertaProcessing",
                    Quoted(type)));
    }
    out->around.before.insert(out->around.before.begin(), added.before.begin(), added.before.end());
    out->around.after.insert(out->around.after.end(), added.after.begin(), added.after.end());
    return Status::Ok();
  };
  SW_RETURN_IF_ERROR(EachStep(definition, "processors", add));
  for (const auto* ids : {&out->around.before, &out->around.after})
    for (const int32_t id : *ids)
      if (!out->tokens.Has(id))
        return InvalidArgument(StrFormat("adds id {}, but ids end at {}", id, out->tokens.size()));
  return Status::Ok();
}

Result<Definition> ReadDefinition(const json::object& root) {
  const auto member = [&](std::string_view key) {
    const json::value* const value = root.if_contains(key);
    return value ? *value : json::value();
  };
  const auto named = [](std::string_view key, const Status& status) {
    return status.WithContext(StrFormat("'{}'", key));
  };
  Definition out;
  auto normalizer = Normalizer::FromJson(member("normalizer"));
  if (!normalizer.ok()) return named("normalizer", normalizer.status());
  out.normalizer = std::move(*normalizer);
  auto decoder = Decoder::FromJson(member("decoder"), &out.token_bytes);
  if (!decoder.ok()) return named("decoder", decoder.status());
  out.decoder = std::move(*decoder);
  SW_ASSIGN_OR_RETURN(out.added, ReadAddedTokens(root));

  bool bytes_may_stay = false;
  auto pre_tokenizer = PreTokenizer::FromJson(member("pre_tokenizer"), &bytes_may_stay);
  if (!pre_tokenizer.ok()) return named("pre_tokenizer", pre_tokenizer.status());
  SW_ASSIGN_OR_RETURN(const json::object* const model, GetObject(root, "model"));
  if (!model) return InvalidArgument("'model' is missing, expected an object");
  DefinitionDigest digest;
  auto traits = ReadModel(*model, bytes_may_stay, &out, &digest);
  if (!traits.ok()) return named("model", traits.status());
  out.pre_tokenizer = std::move(*pre_tokenizer);
  if (bytes_may_stay && !traits->reads_bytes) out.pre_tokenizer.Append(MakeByteSymbolSplit());
  if (traits->cuts_before_spaces) out.pre_tokenizer.Append(MakeCutBefore("\u2581"));
  if (const Status status = ReadPostProcessor(member("post_processor"), &out); !status.ok())
    return named("post_processor", status);
  out.digest = digest.Finish(out);
  return out;
}

}  // namespace

Result<std::shared_ptr<const Tokenizer>> Tokenizer::FromJson(std::string_view tokenizer_json, std::string_view where) {
  if (tokenizer_json.size() > kMaxFileBytes)
    return ResourceExhausted(
        StrFormat("{}: {} bytes, at most {} are read", where, tokenizer_json.size(), kMaxFileBytes));
  tokenizer_json = WithoutByteOrderMark(tokenizer_json);
  SW_ASSIGN_OR_RETURN(const json::value root, ParseJson(tokenizer_json, where));
  if (!root.is_object())
    return InvalidArgument(StrFormat("{}: holds {}, expected an object", where, JsonKindName(root)));
  if (const auto twice = FindDuplicateKey(tokenizer_json))
    return InvalidArgument(StrFormat("{}: {} occurs twice in one object", where, Quoted(*twice)));
  auto definition = ReadDefinition(root.get_object());
  if (!definition.ok()) return definition.status().WithContext(where);
  auto tokenizer = PipelineTokenizer::Create(std::move(*definition));
  if (!tokenizer.ok()) return tokenizer.status().WithContext(where);
  return tokenizer;
}

}  // namespace spanwise

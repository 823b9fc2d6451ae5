#include "formats/gguf_vocabulary.h"

#include <cmath>
#include <limits>
#include <string_view>

#include "base/str.h"
#include "formats/gguf.h"

namespace spanwise {
namespace {

constexpr size_t kMaxTokens = size_t{1} << 24;
constexpr std::string_view kTemplate = "tokenizer.chat_template";

std::string Key(std::string_view name) { return StrFormat("tokenizer.ggml.{}", name); }

class Reader {
 public:
  explicit Reader(const GgufFile& file) : file_(file) {}

  Result<GgufVocabulary> Read() {
    SW_ASSIGN_OR_RETURN(const auto model, file_.GetString(Key("model")));
    if (!model) return Fail("model", "is missing, expected the kind of tokenizer");
    v_.model = *model;
    SW_ASSIGN_OR_RETURN(const auto pre, file_.GetString(Key("pre")));
    v_.pre = pre.value_or("");
    SW_RETURN_IF_ERROR(ReadTokens());
    SW_RETURN_IF_ERROR(ReadMerges());
    SW_RETURN_IF_ERROR(ReadIds());
    SW_RETURN_IF_ERROR(ReadFlags());
    SW_RETURN_IF_ERROR(ReadCharsMap());
    SW_RETURN_IF_ERROR(ReadTemplates());
    return std::move(v_);
  }

 private:
  Status Fail(std::string_view key, std::string_view what) const {
    return Corruption(StrFormat("'tokenizer.ggml.{}' {}", key, what));
  }

  Status ReadTokens() {
    SW_ASSIGN_OR_RETURN(const auto tokens, file_.GetStrings(Key("tokens")));
    if (v_.model != "no_vocab" && v_.model != "none") {
      if (!tokens || tokens->empty()) return Fail("tokens", "is missing or empty, expected the vocabulary");
    }
    if (tokens && tokens->size() > kMaxTokens)
      return Fail("tokens", StrFormat("holds {} tokens, expected at most {}", tokens->size(), kMaxTokens));
    if (tokens) v_.tokens.assign(tokens->begin(), tokens->end());

    constexpr double kHuge = std::numeric_limits<double>::infinity();
    SW_ASSIGN_OR_RETURN(const auto scores, file_.GetNumbers(Key("scores"), -kHuge, kHuge));
    if (scores) {
      SW_RETURN_IF_ERROR(OnePerToken("scores", scores->size()));
      v_.scores.reserve(scores->size());
      for (const double score : *scores) v_.scores.push_back(static_cast<float>(score));
    }
    SW_ASSIGN_OR_RETURN(const auto types, file_.GetInts(Key("token_type"), 0, 6));
    if (types) {
      SW_RETURN_IF_ERROR(OnePerToken("token_type", types->size()));
      v_.types.reserve(types->size());
      for (const int64_t type : *types) v_.types.push_back(static_cast<GgufVocabulary::TokenType>(type));
    }
    return Status::Ok();
  }

  Status OnePerToken(std::string_view key, size_t n) const {
    if (n == v_.tokens.size()) return Status::Ok();
    return Fail(key, StrFormat("has {} members, expected one for each of {} tokens", n, v_.tokens.size()));
  }

  Status ReadMerges() {
    SW_ASSIGN_OR_RETURN(const auto merges, file_.GetStrings(Key("merges")));
    if (!merges) return Status::Ok();
    if (merges->size() > kMaxTokens)
      return Fail("merges", StrFormat("holds {} merges, expected at most {}", merges->size(), kMaxTokens));
    for (size_t i = 0; i < merges->size(); ++i) {
      const std::string_view merge = (*merges)[i];
      const size_t space = merge.find(' ', 1);
      if (space == std::string_view::npos || space + 1 == merge.size())
        return Fail("merges",
                    StrFormat("holds {} at index {}, expected two parts with a space between", Quoted(merge), i));
      v_.merges.emplace_back(merge);
    }
    return Status::Ok();
  }

  // -1, which conversions also write as a uint32, means that there is no such token. Any other id that is no token is
  // an error of begin and end, without which prompts and answers go wrong; the others are not needed to read text.
  Status ReadIds() {
    struct IdKey {
      std::string_view key;
      std::optional<int32_t> GgufVocabulary::*id;
      bool needed = false;
    };
    constexpr IdKey kIds[] = {
        {"bos_token_id", &GgufVocabulary::bos_id, true}, {"eos_token_id", &GgufVocabulary::eos_id, true},
        {"eot_token_id", &GgufVocabulary::eot_id},       {"eom_token_id", &GgufVocabulary::eom_id},
        {"unknown_token_id", &GgufVocabulary::unk_id},   {"seperator_token_id", &GgufVocabulary::sep_id},
        {"padding_token_id", &GgufVocabulary::pad_id},   {"cls_token_id", &GgufVocabulary::cls_id},
        {"mask_token_id", &GgufVocabulary::mask_id},
    };
    std::string ignored;
    for (const IdKey& row : kIds) {
      SW_ASSIGN_OR_RETURN(const auto id, file_.GetInt(Key(row.key), std::numeric_limits<int64_t>::min(),
                                                      std::numeric_limits<int64_t>::max()));
      if (!id || *id == -1 || *id == int64_t{std::numeric_limits<uint32_t>::max()}) continue;
      if (*id >= 0 && *id < static_cast<int64_t>(v_.tokens.size())) {
        v_.*row.id = static_cast<int32_t>(*id);
      } else if (row.needed) {
        return Fail(row.key, StrFormat("is {}, outside the vocabulary of {} tokens", *id, v_.tokens.size()));
      } else {
        ignored += StrFormat("{}'{}' is {}", ignored.empty() ? "" : ", ", Key(row.key), *id);
      }
    }
    if (!ignored.empty())
      v_.warnings.push_back(
          StrFormat("{}, outside the vocabulary of {} tokens, and ignored", ignored, v_.tokens.size()));
    return Status::Ok();
  }

  Status ReadFlags() {
    struct FlagKey {
      std::string_view key;
      std::optional<bool> GgufVocabulary::*flag;
    };
    constexpr FlagKey kFlags[] = {
        {"add_bos_token", &GgufVocabulary::add_bos},
        {"add_eos_token", &GgufVocabulary::add_eos},
        {"add_sep_token", &GgufVocabulary::add_sep},
        {"add_space_prefix", &GgufVocabulary::add_space_prefix},
        {"remove_extra_whitespaces", &GgufVocabulary::remove_extra_whitespaces},
        {"normalizer.lowercase", &GgufVocabulary::lowercase},
        {"normalizer.strip_accents", &GgufVocabulary::strip_accents},
    };
    for (const FlagKey& row : kFlags) {
      SW_ASSIGN_OR_RETURN(v_.*row.flag, file_.GetBool(Key(row.key)));
    }
    return Status::Ok();
  }

  Status ReadCharsMap() {
    const auto found = file_.metadata().find(Key("precompiled_charsmap"));
    if (found == file_.metadata().end()) return Status::Ok();
    const GgufValue& value = found->second;
    if (!value.is_array || (value.type != GgufType::kUint8 && value.type != GgufType::kInt8))
      return Fail("precompiled_charsmap", StrFormat("holds {}, expected an array of bytes", GgufTypeName(value.type)));
    v_.precompiled_charsmap.assign(reinterpret_cast<const char*>(value.bytes.data()), value.bytes.size());
    return Status::Ok();
  }

  // "tokenizer.chat_template" is the default, "tokenizer.chat_template.NAME" the named ones.
  Status ReadTemplates() {
    SW_ASSIGN_OR_RETURN(v_.chat_template, file_.GetString(kTemplate));
    const std::string prefix = std::string(kTemplate) + '.';
    for (auto at = file_.metadata().lower_bound(prefix); at != file_.metadata().end(); ++at) {
      if (!at->first.starts_with(prefix)) break;
      SW_ASSIGN_OR_RETURN(auto source, file_.GetString(at->first));
      v_.chat_templates.emplace(at->first.substr(prefix.size()), *std::move(source));
    }
    return Status::Ok();
  }

  const GgufFile& file_;
  GgufVocabulary v_;
};

}  // namespace

Result<GgufVocabulary> ReadGgufVocabulary(const GgufFile& file) { return Reader(file).Read(); }

}  // namespace spanwise

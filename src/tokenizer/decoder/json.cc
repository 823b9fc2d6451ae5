// The "decoder" of tokenizer.json.
#include <algorithm>

#include "base/str.h"
#include "tokenizer/component_json.h"
#include "tokenizer/decoder.h"

namespace spanwise {
namespace {

using Steps = std::vector<std::shared_ptr<const DecoderStep>>;

constexpr int64_t kMaxStrip = 256;  // so many characters of streamed text may have to wait
constexpr size_t kMaxSuffixBytes = 4096;
constexpr size_t kMaxGrowth = 1024;  // of a text, by all Replace steps together

// How many times as long a text can become.
size_t GrowthOf(const JsonPattern& pattern, std::string_view content) {
  if (pattern.regex) return content.size() + 1;  // a match may be empty
  return std::max<size_t>(1, (content.size() + pattern.text.size() - 1) / pattern.text.size());
}

Status AddStrip(const json::object& definition, Steps* steps) {
  SW_ASSIGN_OR_RETURN(auto content, ReadCharacter(definition, "content", ""));
  size_t counts[2] = {};
  for (const auto& [key, i] : {std::pair{"start", 0}, std::pair{"stop", 1}}) {
    SW_ASSIGN_OR_RETURN(const auto n, GetInt(definition, key));
    if (n.value_or(0) < 0 || n.value_or(0) > kMaxStrip)
      return InvalidArgument(StrFormat("Strip: '{}' is {}, expected 0 to {}", key, *n, kMaxStrip));
    counts[i] = static_cast<size_t>(n.value_or(0));
  }
  steps->push_back(MakeStripDecoder(std::move(content), counts[0], counts[1]));
  return Status::Ok();
}

Status AddMetaspace(const json::object& definition, Steps* steps) {
  SW_ASSIGN_OR_RETURN(auto replacement, ReadCharacter(definition, "replacement", "\u2581"));
  SW_ASSIGN_OR_RETURN(const auto scheme, GetString(definition, "prepend_scheme"));
  SW_ASSIGN_OR_RETURN(const auto prefix_space, GetBool(definition, "add_prefix_space"));
  steps->push_back(MakeMetaspaceDecoder(std::move(replacement), scheme != "never" && prefix_space != false));
  return Status::Ok();
}

Status AddStep(std::string_view type, const json::object& definition, bool* bytes_given, size_t* growth, Steps* steps) {
  const auto add = [&](std::shared_ptr<const DecoderStep> step) {
    steps->push_back(std::move(step));
    return Status::Ok();
  };
  if (type == "ByteLevel") {
    if (steps->empty()) *bytes_given = true;
    return add(MakeByteLevelDecoder(steps->empty()));
  }
  if (type == "ByteFallback") return add(MakeByteFallbackDecoder());
  if (type == "Fuse") return add(MakeFuseDecoder());
  if (type == "Strip") return AddStrip(definition, steps);
  if (type == "Metaspace") return AddMetaspace(definition, steps);
  if (type == "WordPiece") {
    SW_ASSIGN_OR_RETURN(auto prefix, GetString(definition, "prefix"));
    SW_ASSIGN_OR_RETURN(const auto cleanup, GetBool(definition, "cleanup"));
    return add(MakeWordPieceDecoder(prefix.value_or("##"), cleanup.value_or(true)));
  }
  if (type == "BPEDecoder") {
    SW_ASSIGN_OR_RETURN(auto suffix, GetString(definition, "suffix"));
    if (suffix && (suffix->empty() || suffix->size() > kMaxSuffixBytes))
      return InvalidArgument(
          StrFormat("BPEDecoder: 'suffix' has {} bytes, expected 1 to {}", suffix->size(), kMaxSuffixBytes));
    return add(MakeSuffixDecoder(suffix.value_or("</w>")));
  }
  if (type == "Replace") {
    SW_ASSIGN_OR_RETURN(auto content, GetString(definition, "content"));
    if (!content) return InvalidArgument("Replace: 'content' is missing, expected a string");
    SW_ASSIGN_OR_RETURN(JsonPattern pattern, ReadPattern(definition, "Replace"));
    const size_t times = GrowthOf(pattern, *content);
    if (times > kMaxGrowth / *growth)
      return InvalidArgument(StrFormat("Replace: a text could become more than {} times as long", kMaxGrowth));
    *growth *= times;
    return add(pattern.regex ? MakeReplaceRegexDecoder(std::move(pattern.regex), std::move(*content))
                             : MakeReplaceTextDecoder(std::move(pattern.text), std::move(*content)));
  }
  return Unimplemented(
      StrFormat("type is {}, expected Sequence, ByteLevel, ByteFallback, Metaspace, WordPiece, BPEDecoder, Replace, "
                "Strip or Fuse",
                Quoted(type)));
}

}  // namespace

Result<Decoder> Decoder::FromJson(const json::value& definition, bool* bytes_given) {
  *bytes_given = false;
  Steps steps;
  size_t growth = 1;
  if (definition.is_null()) return Decoder({MakeSpacesBetween()});
  SW_RETURN_IF_ERROR(EachStep(definition, "decoders", [&](std::string_view type, const json::object& step) {
    return AddStep(type, step, bytes_given, &growth, &steps);
  }));
  return Decoder(std::move(steps));
}

}  // namespace spanwise

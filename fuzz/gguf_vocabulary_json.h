// A GgufVocabulary written as JSON, for fuzzing: {"model": ..., "pre": ..., "tokens": [...], "scores": [...], ...}.
#pragma once

#include <string>

#include "base/json.h"
#include "formats/gguf_vocabulary.h"

namespace spanwise {

inline bool IsGgufVocabularyJson(const json::value& value) {
  return value.is_object() && value.get_object().contains("tokens");
}

// Missing members stay as they are in the struct; members of another type are left out.
inline GgufVocabulary GgufVocabularyFromJson(const json::object& object) {
  GgufVocabulary out;
  const auto text = [&](const char* key) {
    const json::value* const value = object.if_contains(key);
    return value && value->is_string() ? std::string(value->get_string()) : std::string();
  };
  const auto each = [&](const char* key, const auto& add) {
    if (const json::value* const list = object.if_contains(key); list && list->is_array())
      for (const json::value& item : list->get_array()) add(item);
  };
  out.model = text("model");
  out.pre = text("pre");
  for (const char byte : text("charsmap_hex")) {  // two digits a byte
    const int digit = byte <= '9' ? byte - '0' : byte - 'a' + 10;
    out.precompiled_charsmap.push_back(static_cast<char>(digit & 15));
  }
  for (size_t i = 0; i + 1 < out.precompiled_charsmap.size(); i += 2)
    out.precompiled_charsmap[i / 2] =
        static_cast<char>(out.precompiled_charsmap[i] << 4 | out.precompiled_charsmap[i + 1]);
  out.precompiled_charsmap.resize(out.precompiled_charsmap.size() / 2);
  const auto add_text = [](std::vector<std::string>* to) {
    return [to](const json::value& item) { to->push_back(item.is_string() ? std::string(item.get_string()) : ""); };
  };
  each("tokens", add_text(&out.tokens));
  each("merges", add_text(&out.merges));
  each("scores", [&](const json::value& item) {
    out.scores.push_back(item.is_number() ? static_cast<float>(item.to_number<double>()) : 0);
  });
  each("types", [&](const json::value& item) {
    const int64_t type = item.is_int64() ? item.get_int64() : 0;
    out.types.push_back(static_cast<GgufVocabulary::TokenType>(type >= 0 && type <= 6 ? type : 0));
  });
  const auto id = [&](const char* key, std::optional<int32_t>* to) {
    const json::value* const value = object.if_contains(key);
    if (value && value->is_int64() && value->get_int64() >= 0 &&
        static_cast<uint64_t>(value->get_int64()) < out.tokens.size())
      *to = static_cast<int32_t>(value->get_int64());
  };
  id("unk_id", &out.unk_id);
  id("bos_id", &out.bos_id);
  id("eos_id", &out.eos_id);
  const auto flag = [&](const char* key, std::optional<bool>* to) {
    if (const json::value* const value = object.if_contains(key); value && value->is_bool()) *to = value->get_bool();
  };
  flag("add_space_prefix", &out.add_space_prefix);
  flag("remove_extra_whitespaces", &out.remove_extra_whitespaces);
  flag("lowercase", &out.lowercase);
  flag("strip_accents", &out.strip_accents);
  return out;
}

}  // namespace spanwise

#include "engine/model_text.h"

#include <filesystem>
#include <system_error>

#include "base/file.h"
#include "base/json.h"
#include "base/str.h"
#include "formats/gguf.h"
#include "formats/gguf_vocabulary.h"

namespace spanwise {
namespace {

constexpr size_t kMaxTokenizerBytes = size_t{256} << 20;
constexpr size_t kMaxConfigBytes = size_t{64} << 20;
constexpr size_t kMaxTemplateBytes = size_t{16} << 20;

// `config` is what tokenizer_config.json holds or would hold.
void SetChat(const json::object& config, const std::string& where, ModelText* text) {
  auto format = ChatFormat::Create(text->tokenizer, config);
  if (format.ok()) {
    text->chat = std::move(*format);
  } else {
    text->no_chat = format.status().WithContext(where);
  }
}

Result<ModelText> FromFolder(const std::string& folder) {
  ModelText text;
  const std::string tokenizer_path = folder + "/tokenizer.json";
  SW_ASSIGN_OR_RETURN(const std::string tokenizer_json, ReadFile(tokenizer_path, kMaxTokenizerBytes));
  SW_ASSIGN_OR_RETURN(text.tokenizer, Tokenizer::FromJson(tokenizer_json, tokenizer_path));
  const std::string path = folder + "/tokenizer_config.json";
  if (!FileExists(path)) {
    text.no_chat =
        NotFound(path + ": no such file, so the model has no chat template; only plain prompts work with it");
    return text;
  }
  SW_ASSIGN_OR_RETURN(const std::string config_text, ReadFile(path, kMaxConfigBytes));
  SW_ASSIGN_OR_RETURN(json::value config, ParseJson(config_text, path));
  if (!config.is_object())
    return InvalidArgument(path + ": is " + std::string(JsonKindName(config)) + ", expected an object");
  const std::string template_path = folder + "/chat_template.jinja";
  if (FileExists(template_path)) {
    SW_ASSIGN_OR_RETURN(const std::string source, ReadFile(template_path, kMaxTemplateBytes));
    config.get_object()["chat_template"] = source;
  }
  SetChat(config.get_object(), path, &text);
  return text;
}

Result<ModelText> FromGguf(const std::string& path) {
  ModelText text;
  SW_ASSIGN_OR_RETURN(const auto file, GgufFile::Open(path));
  SW_ASSIGN_OR_RETURN(const GgufVocabulary vocabulary, ReadGgufVocabulary(*file));
  SW_ASSIGN_OR_RETURN(text.tokenizer, Tokenizer::FromGguf(vocabulary, path));
  if (!vocabulary.chat_template) {
    text.no_chat = NotFound(path + ": has no 'tokenizer.chat_template'; only plain prompts work with it");
    return text;
  }
  json::object config{{"chat_template", *vocabulary.chat_template}};
  for (const auto& [name, id] : {std::pair{"bos_token", vocabulary.bos_id}, {"eos_token", vocabulary.eos_id}})
    if (id && IsValidUtf8(vocabulary.tokens[static_cast<size_t>(*id)]))
      config[name] = vocabulary.tokens[static_cast<size_t>(*id)];
  SetChat(config, path, &text);
  return text;
}

}  // namespace

Result<ModelText> LoadModelText(const std::string& path) {
  std::error_code ignored;
  if (path.ends_with(".gguf") && !std::filesystem::is_directory(path, ignored)) return FromGguf(path);
  return FromFolder(path);
}

}  // namespace spanwise

#include "engine/model_text.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <system_error>
#include <utility>

#include "base/file.h"
#include "base/json.h"
#include "base/str.h"
#include "formats/gguf.h"
#include "formats/gguf_vocabulary.h"
#include "formats/model_file.h"

namespace spanwise {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxTokenizerBytes = size_t{256} << 20;
constexpr size_t kMaxConfigBytes = size_t{64} << 20;
constexpr size_t kMaxTemplateBytes = size_t{16} << 20;
constexpr size_t kMaxTemplates = 64;
constexpr const char* kDefaultTemplate = "default";
// The special tokens that templates name.
constexpr const char* kTokenNames[] = {"bos_token", "eos_token", "pad_token", "unk_token"};

// Ends of turn and of text as models write them. Files often name only one of them as the end, and a model then writes
// the other and goes on; as special tokens they mean nothing else. Source: llama.cpp, llama-vocab.cpp.
constexpr std::string_view kEndTexts[] = {
    "<|eot_id|>",      "<|eom_id|>",    "<|im_end|>", "<|end|>", "<|endoftext|>",      "<|end_of_text|>",
    "<|end_of_turn|>", "<end_of_turn>", "<EOT>",      "_<EOT>",  "<end_of_utterance>", "[EOT]",
};

// A special token as files write it: its text, or an object with its "content".
std::optional<std::string> TokenText(const json::object& config, std::string_view name) {
  const json::value* value = config.if_contains(name);
  if (value && value->is_object()) value = value->get_object().if_contains("content");
  if (!value || !value->is_string()) return std::nullopt;
  return std::string(value->get_string());
}

// The chat templates of a model by name, and the file or folder that they stand in.
struct Templates {
  std::map<std::string, std::string> by_name;
  std::string where;
};

// "chat_template" of a JSON file: a text, or several with names as a list or an object.
Status AddTemplates(const json::object& config, const std::string& where, Templates* out) {
  const json::value* const value = config.if_contains("chat_template");
  if (!value || value->is_null()) return Status::Ok();
  out->where = where;
  const auto add = [&](std::string_view name, const json::value& source) -> Status {
    if (!source.is_string())
      return InvalidArgument(
          StrFormat("{}: 'chat_template' {} is {}, expected a string", where, Quoted(name), JsonKindName(source)));
    out->by_name.insert_or_assign(std::string(name), std::string(source.get_string()));
    return Status::Ok();
  };
  if (value->is_string()) return add(kDefaultTemplate, *value);
  if (const json::object* const named = value->if_object()) {
    for (const auto& item : *named) SW_RETURN_IF_ERROR(add(item.key(), item.value()));
    return Status::Ok();
  }
  const json::array* const list = value->if_array();
  if (!list)
    return InvalidArgument(
        StrFormat("{}: 'chat_template' is {}, expected a string or a list of named ones", where, JsonKindName(*value)));
  for (const json::value& item : *list) {
    const json::object* const entry = item.if_object();
    const json::value* const name = entry ? entry->if_contains("name") : nullptr;
    const json::value* const source = entry ? entry->if_contains("template") : nullptr;
    if (!name || !name->is_string() || !source)
      return InvalidArgument(StrFormat("{}: 'chat_template' holds what has no 'name' and 'template'", where));
    SW_RETURN_IF_ERROR(add(name->get_string(), *source));
  }
  return Status::Ok();
}

// What transformers finds: files of their own come before tokenizer_config.json. chat_template.json, which it reads for
// models with pictures alone, comes last.
Result<Templates> FolderTemplates(const std::string& folder, const json::object& config,
                                  const std::string& config_path) {
  Templates out;
  const std::string single = folder + "/chat_template.jinja", others = folder + "/additional_chat_templates";
  if (FileExists(single)) {
    SW_ASSIGN_OR_RETURN(out.by_name[kDefaultTemplate], ReadModelText(single, kMaxTemplateBytes));
    out.where = single;
  }
  std::error_code error;
  for (fs::directory_iterator at(others, error), end; !error && at != end; at.increment(error)) {
    if (at->path().extension() != ".jinja") continue;
    if (out.by_name.size() == kMaxTemplates)
      return InvalidArgument(StrFormat("{}: holds over {} templates", others, kMaxTemplates));
    SW_ASSIGN_OR_RETURN(out.by_name[at->path().stem().string()], ReadModelText(at->path().string(), kMaxTemplateBytes));
    if (out.where.empty()) out.where = others;
  }
  if (!out.by_name.empty()) return out;
  SW_RETURN_IF_ERROR(AddTemplates(config, config_path, &out));
  const std::string old = folder + "/chat_template.json";
  if (!out.by_name.empty() || !FileExists(old)) return out;
  SW_ASSIGN_OR_RETURN(const json::object object, ReadModelJson(old, kMaxTemplateBytes));
  SW_RETURN_IF_ERROR(AddTemplates(object, old, &out));
  return out;
}

// Chooses among the templates as transformers does, and learns how the chosen one renders. `none` says where there
// could have been one.
Status SetChat(const Templates& templates, json::object config, const std::string& none, ModelText* text) {
  text->info = {.bos_token = TokenText(config, "bos_token"),
                .eos_token = TokenText(config, "eos_token"),
                .pad_token = TokenText(config, "pad_token"),
                .unk_token = TokenText(config, "unk_token"),
                .chat_template = std::nullopt};
  for (const auto& item : templates.by_name) text->templates.push_back(item.first);
  if (templates.by_name.empty())
    return NotFound(none + "; only plain prompts (generate, /v1/completions) work with it");
  auto chosen = templates.by_name.find(kDefaultTemplate);
  if (chosen == templates.by_name.end() && templates.by_name.size() == 1) chosen = templates.by_name.begin();
  if (chosen == templates.by_name.end())
    return InvalidArgument(StrFormat("{}: has the chat templates {}, and none that is called \"{}\"; rename one",
                                     templates.where, fmt::join(text->templates, ", "), kDefaultTemplate));
  text->info.chat_template = chosen->second;
  config["chat_template"] = chosen->second;
  auto format = ChatFormat::Create(text->tokenizer, config);
  if (!format.ok()) return format.status().WithContext(templates.where);
  text->chat = std::move(*format);
  text->chosen_template = chosen->first;
  return Status::Ok();
}

// The known ends among the tokenizer's special tokens, and `named`, where it is one.
std::vector<int32_t> EndsOf(const Tokenizer& tokenizer, const std::optional<std::string>& named) {
  std::vector<int32_t> ids;
  for (const std::string_view end : kEndTexts)
    if (const auto id = tokenizer.IdOf(end); id && tokenizer.IsSpecial(*id)) ids.push_back(*id);
  if (named)
    if (const auto id = tokenizer.IdOf(*named)) ids.push_back(*id);
  std::ranges::sort(ids);
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

// Why a folder has no tokenizer.json, and how to come by one.
Status NoTokenizer(const std::string& folder) {
  for (const char* name : {"tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "tekken.json", "vocab.json",
                           "vocab.txt", "tokenizer.model.v3"})
    if (FileExists(StrFormat("{}/{}", folder, name)))
      return NotFound(
          StrFormat("{0}: has no tokenizer.json, only {1}, which is not read; make one with transformers: "
                    "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
                    folder, name));
  return NotFound(folder + ": has no tokenizer.json; download it with the model's other files");
}

// Tokens that tokenizer_config.json, or in older folders added_tokens.json, adds to tokenizer.json's. transformers does
// add them; such a pair of files is one that was not saved together.
void WarnOfLackingTokens(const json::object& config, const std::string& folder, ModelText* text) {
  std::vector<std::string> lacking;
  const auto look = [&](std::string_view content) {
    if (!content.empty() && !text->tokenizer->IdOf(content)) lacking.emplace_back(Quoted(content, 40));
  };
  std::string where = folder + "/tokenizer_config.json";
  if (const json::value* const decoder = config.if_contains("added_tokens_decoder")) {
    if (!decoder->is_object()) return;
    for (const auto& item : decoder->get_object())
      if (const json::object* const token = item.value().if_object())
        if (const auto content = TokenText({{"token", *token}}, "token")) look(*content);
  } else if (where = folder + "/added_tokens.json"; FileExists(where)) {
    const auto tokens = ReadModelJson(where, kMaxConfigBytes);
    if (!tokens.ok()) return text->warnings.push_back(tokens.status().message() + "; it is ignored");
    for (const auto& item : *tokens) look(item.key());
  }
  if (lacking.empty()) return;
  const size_t n = lacking.size();
  lacking.resize(std::min<size_t>(n, 3));
  text->warnings.push_back(
      StrFormat("{}: adds {}{}, which tokenizer.json lacks and which are plain text here; save both together with "
                "transformers",
                where, fmt::join(lacking, ", "), n > 3 ? StrFormat(" and {} more tokens", n - 3) : ""));
}

// tokenizer_config.json with what special_tokens_map.json says: transformers reads that one only where the first has no
// "added_tokens_decoder", and then prefers it.
Result<json::object> FolderConfig(const std::string& folder) {
  json::object config;
  const std::string path = folder + "/tokenizer_config.json", map_path = folder + "/special_tokens_map.json";
  if (FileExists(path)) {
    SW_ASSIGN_OR_RETURN(config, ReadModelJson(path, kMaxConfigBytes));
  }
  if (config.contains("added_tokens_decoder") || !FileExists(map_path)) return config;
  SW_ASSIGN_OR_RETURN(const json::object map, ReadModelJson(map_path, kMaxConfigBytes));
  for (const char* name : kTokenNames)
    if (const json::value* const value = map.if_contains(name); value && !value->is_null()) config[name] = *value;
  return config;
}

Result<ModelText> FromFolder(const std::string& folder) {
  ModelText text;
  const std::string tokenizer_path = folder + "/tokenizer.json", config_path = folder + "/tokenizer_config.json";
  if (!FileExists(tokenizer_path)) return NoTokenizer(folder);
  SW_ASSIGN_OR_RETURN(const std::string tokenizer_json, ReadModelText(tokenizer_path, kMaxTokenizerBytes));
  SW_ASSIGN_OR_RETURN(text.tokenizer, Tokenizer::FromJson(tokenizer_json, tokenizer_path));
  SW_ASSIGN_OR_RETURN(const json::object config, FolderConfig(folder));
  WarnOfLackingTokens(config, folder, &text);
  text.begin = text.tokenizer->around().before;
  auto add_begin = GetBool(config, "add_bos_token");
  if (!add_begin.ok()) return add_begin.status().WithContext(config_path);
  if (*add_begin) {  // a statement of its own comes before the post-processor, as in transformers
    const auto bos = TokenText(config, "bos_token");
    const auto id = bos ? text.tokenizer->IdOf(*bos) : std::nullopt;
    text.begin.clear();
    if (**add_begin && id) text.begin = {*id};
  }
  text.ends = EndsOf(*text.tokenizer, TokenText(config, "eos_token"));
  const auto templates = FolderTemplates(folder, config, config_path);
  text.no_chat = templates.ok() ? SetChat(*templates, config,
                                          folder +
                                              ": has no chat template, neither chat_template.jinja nor one in "
                                              "tokenizer_config.json or chat_template.json",
                                          &text)
                                : templates.status();
  return text;
}

Result<ModelText> FromGguf(const std::string& path) {
  ModelText text;
  SW_ASSIGN_OR_RETURN(const auto file, GgufFile::Open(path));
  const auto read = ReadGgufVocabulary(*file);
  if (!read.ok()) return read.status().WithContext(path);
  const GgufVocabulary& vocabulary = *read;
  for (const std::string& warning : vocabulary.warnings) text.warnings.push_back(StrFormat("{}: {}", path, warning));
  SW_ASSIGN_OR_RETURN(text.tokenizer, Tokenizer::FromGguf(vocabulary, path));
  text.begin = text.tokenizer->around().before;
  text.ends = EndsOf(*text.tokenizer, std::nullopt);
  Templates templates{.by_name = vocabulary.chat_templates, .where = path};
  if (vocabulary.chat_template) templates.by_name.insert_or_assign(kDefaultTemplate, *vocabulary.chat_template);
  json::object config;
  for (const auto& [name, id] : {std::pair{"bos_token", vocabulary.bos_id}, {"eos_token", vocabulary.eos_id}})
    if (id && IsValidUtf8(vocabulary.tokens[static_cast<size_t>(*id)]))
      config[name] = vocabulary.tokens[static_cast<size_t>(*id)];
  text.no_chat = SetChat(templates, std::move(config), path + ": has no 'tokenizer.chat_template'", &text);
  return text;
}

}  // namespace

Result<std::vector<int32_t>> ModelText::EncodePrompt(const std::string& text) const {
  SW_ASSIGN_OR_RETURN(std::vector<int32_t> tokens, tokenizer->Encode(text, /*parse_special=*/true));
  const bool begins = tokens.size() >= begin.size() && std::equal(begin.begin(), begin.end(), tokens.begin());
  if (!begins) tokens.insert(tokens.begin(), begin.begin(), begin.end());
  return tokens;
}

Result<ModelText> LoadModelText(const std::string& path) {
  return IsGgufPath(path) ? FromGguf(path) : FromFolder(path);
}

}  // namespace spanwise

// The text side of a model: its tokenizer, its chat template and its begin and end tokens, from a folder or a GGUF
// file.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "prompt/chat_format.h"
#include "spanwise/engine.h"
#include "spanwise/status.h"
#include "tokenizer/tokenizer.h"

namespace spanwise {

struct ModelText {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<const ChatFormat> chat;  // null: no_chat says why
  Status no_chat;
  std::vector<std::string> templates;  // the names of the chat templates there are, ascending; of one alone "default"
  std::string chosen_template;         // the one that `chat` renders; empty where there is none

  // What the files want before a plain prompt. What they want behind a text is never added: a prompt is gone on with.
  std::vector<int32_t> begin;
  // Special tokens that end an answer, besides those that the configuration states by id: the one that the tokenizer's
  // files name, and known ends of turn. Ascending.
  std::vector<int32_t> ends;
  std::vector<std::string> warnings;  // what was wrong in the files and passed over, one line each

  // A plain prompt: text, in which special tokens are parsed, behind `begin` unless it begins with that itself.
  Result<std::vector<int32_t>> EncodePrompt(const std::string& text) const;
  TokenizerInfo info;  // as the files say, whether it can be used or not
};

// `path` is what FindModel gave (formats/model_file.h): a folder with tokenizer.json, or a GGUF file. Other files of a
// folder need not be there; docs/formats/model-folder.md lists them. A missing or unusable chat template is no failure.
Result<ModelText> LoadModelText(const std::string& path);

}  // namespace spanwise

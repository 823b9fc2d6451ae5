// The text side of a model: its tokenizer and its chat template, from a folder or a GGUF file.
#pragma once

#include <memory>
#include <string>

#include "prompt/chat_format.h"
#include "spanwise/status.h"
#include "tokenizer/tokenizer.h"

namespace spanwise {

struct ModelText {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<const ChatFormat> chat;  // null: no_chat says why
  Status no_chat;
};

// `path` is a folder with tokenizer.json and perhaps tokenizer_config.json and chat_template.jinja, or a GGUF file.
// A missing or unusable chat template is no failure.
Result<ModelText> LoadModelText(const std::string& path);

}  // namespace spanwise

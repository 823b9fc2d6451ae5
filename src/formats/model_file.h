// The files of a model as people have them: which of them a path means, and what a file is that is not what it should
// be.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/json.h"
#include "spanwise/status.h"

namespace spanwise {

// What a model's file turns out to be instead, in words that say what to do: a Git LFS pointer, a web page, a
// compressed or PyTorch file, nothing at all. nullopt: none of these.
std::optional<std::string> ForeignContent(std::span<const std::byte> bytes);

// A text file of a model, without a byte order mark. Corruption for foreign content, which is looked for before
// anything else is.
Result<std::string> ReadModelText(const std::string& path, size_t max_bytes);

// A JSON object in a file of its own, as Python writes it (base/json.h); InvalidArgument for another value.
Result<json::object> ReadModelJson(const std::string& path, size_t max_bytes);

// Whether the path is read as a GGUF file: whatever is no folder.
bool IsGgufPath(const std::string& path);

// The model that a path means: a folder in the Hugging Face layout, or a GGUF file. A folder without safetensors that
// holds one GGUF file, whole or in parts, means that file. NotFound: there is nothing. InvalidArgument: the folder
// holds several GGUF files, or the path is a file that is none.
Result<std::string> FindModel(const std::string& path);

// Why a folder has no weights that are read, in words that follow its name: what it holds instead and what to do.
std::string WhyNoWeights(const std::string& folder);

}  // namespace spanwise

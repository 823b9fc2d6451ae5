// One function a model family, each in the file of its name: what that family's config.json means.
// docs/formats/families.md says how to add one. `root` is the whole file; eos, bos and dtype are read by the caller.
#pragma once

#include "base/json.h"
#include "formats/model_config.h"
#include "spanwise/status.h"

namespace spanwise {

Status ReadGemma2(const json::object& root, ModelConfig* config);
Status ReadGemma3(const json::object& root, ModelConfig* config);  // with a vision tower, which is left out
Status ReadGemma3Text(const json::object& root, ModelConfig* config);
Status ReadGranite(const json::object& root, ModelConfig* config);
Status ReadLlama(const json::object& root, ModelConfig* config);
Status ReadMistral(const json::object& root, ModelConfig* config);
Status ReadMixtral(const json::object& root, ModelConfig* config);
Status ReadOlmo2(const json::object& root, ModelConfig* config);
Status ReadPhi3(const json::object& root, ModelConfig* config);
Status ReadQwen2(const json::object& root, ModelConfig* config);
Status ReadQwen3(const json::object& root, ModelConfig* config);
Status ReadQwen3Moe(const json::object& root, ModelConfig* config);
Status ReadSmolLm3(const json::object& root, ModelConfig* config);

}  // namespace spanwise

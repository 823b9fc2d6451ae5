// A GGUF file as a source of weights under their Hugging Face names.
#pragma once

#include <memory>
#include <string>

#include "formats/weight_source.h"
#include "spanwise/status.h"

namespace spanwise {

Result<std::unique_ptr<const WeightSource>> OpenGgufSource(const std::string& path);

}  // namespace spanwise

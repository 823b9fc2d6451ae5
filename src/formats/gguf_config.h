// The architecture of a model as the metadata of its GGUF file state it.
#pragma once

#include <string_view>

#include "formats/gguf.h"
#include "formats/model_config.h"
#include "spanwise/status.h"

namespace spanwise {

// One row of the table of architectures; docs/formats/gguf.md says how to add one.
struct GgufArchitecture {
  std::string_view name;        // general.architecture
  std::string_view model_type;  // the family of config.json that reads it
  // q and k rows stand as interleaved pairs, (2 i, 2 i + 1) in place of (i, i + head_dim / 2).
  bool interleaved = false;
};

// nullptr for a name that is not in the table.
const GgufArchitecture* FindGgufArchitecture(std::string_view name);

// Restates the metadata under the names of config.json, lets the family's reader judge them (formats/model_config.h),
// and then sets what only a GGUF file says: which biases there are, the divisors of rope_freqs.weight, norms that
// already hold their 1. Unimplemented names an architecture or value this engine does not do; InvalidArgument names the
// key that is missing, of the wrong kind or out of range; Corruption a tensor that contradicts the metadata. The file's
// name is for the caller to add.
Result<ModelConfig> ReadGgufConfig(const GgufFile& file);

}  // namespace spanwise

// Rewrites a model folder with its matrices in another type: what `spanwise quantize` does.
//
// The result is a folder in the Hugging Face layout. Matrices of a block type stand in model.safetensors as U8 tensors
// of the shape [rows, bytes of a row], each row being blocks one after another (tensor/weight_type.h); config.json
// names them:
//     "quantization_config": {"quant_method": "spanwise", "version": 1, "tensors": {"model...weight": "q8_0", ...}}
// Details and error figures: docs/formats/quantised.md.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "base/thread_pool.h"
#include "formats/model_config.h"
#include "spanwise/status.h"
#include "tensor/weight_type.h"

namespace spanwise {

// Bytes read so far and in all.
using ConvertProgress = std::function<void(size_t done, size_t total)>;

// Reads `folder`, writes `out`, which must not exist: a temporary folder beside it is filled, synced and renamed, so
// that `out` is whole or absent. Matrices become bf16, or what QuantisedType says; vectors stay as they are. Other
// files of the folder are copied, other weights not. REQUIRES: type is kBf16, kQ8_0 or kQ4_0.
Status ConvertModel(const std::string& folder, const std::string& out, WeightType type, ThreadPool& pool,
                    const ConvertProgress& progress);

// What a plain matrix of rows of n_in elements becomes when `wanted` (kQ8_0 or kQ4_0) is asked for: `stored` for
// routers of experts and rows that are no whole blocks, kQ8_0 for the embeddings and the head, else `wanted`.
WeightType QuantisedType(const std::string& name, const ModelConfig& config, WeightType stored, size_t n_in,
                         WeightType wanted);

// The tensors that a config.json gives a block type, by name; empty for a folder that was never converted.
// Unimplemented for another quant_method, version or type.
Result<std::map<std::string, WeightType>> ReadBlockTypes(std::string_view config_json, std::string_view where);

}  // namespace spanwise

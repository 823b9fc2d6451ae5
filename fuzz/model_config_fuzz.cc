// Any bytes as config.json, and what follows the first NUL as generation_config.json: accepted dimensions are bounded.
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "formats/model_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace spanwise;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const size_t cut = bytes.find('\0');
  const std::string_view generation = cut == std::string_view::npos ? std::string_view() : bytes.substr(cut + 1);
  auto config = ParseModelConfig(bytes.substr(0, cut), "input");
  const Status status = !config.ok() ? config.status() : AddGenerationConfig(generation, "input", &*config);
  if (!config.ok() || !status.ok()) SW_CHECK(status.message().starts_with("input"));
  if (!config.ok()) return 0;
  for (const auto& number : {config->sampling.temperature, config->sampling.top_p, config->sampling.min_p})
    if (number) SW_CHECK(*number >= 0 && *number <= 100);
  for (const int dim : {config->n_layers, config->hidden_dim, config->ffn_dim, config->n_heads, config->n_kv_heads,
                        config->head_dim, config->vocab_size})
    SW_CHECK(dim >= 1 && dim <= 1 << 24);
  SW_CHECK(config->n_layers <= 1024 && config->head_dim % 2 == 0 && config->n_heads % config->n_kv_heads == 0);
  SW_CHECK(config->windows.size() == static_cast<size_t>(config->n_layers));
  for (const int window : config->windows) SW_CHECK(window >= 0);
  for (const int id : config->eos_ids) SW_CHECK(id >= 0);
  return 0;
}

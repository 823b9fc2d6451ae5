// Any bytes as a safetensors file: what is accepted lies inside the file and adds up.
#include <cstdint>
#include <map>
#include <span>
#include <string>

#include "base/check.h"
#include "formats/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace spanwise;
  const auto file = std::as_bytes(std::span(data, size));
  std::map<std::string, OtherTensor> others;
  const auto tensors = SafetensorsModel::ParseHeader(file, "input", &others);
  if (!tensors.ok()) {
    SW_CHECK(tensors.status().message().starts_with("input"));
    return 0;
  }
  for (const auto& [name, view] : *tensors) {
    SW_CHECK(!others.contains(name));
    SW_CHECK(view.n_elements() >= 0);
    SW_CHECK(view.n_bytes() == 0 || (view.data >= file.data() && view.data + view.n_bytes() <= file.data() + size));
  }
  return 0;
}

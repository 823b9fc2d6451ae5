// Any bytes as spanwise.json: what is accepted is in range, and written and read again it stays the same.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "engine/calibration.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace spanwise;
  const auto calibration = Calibration::Parse({reinterpret_cast<const char*>(data), size}, "input");
  if (!calibration.ok()) {
    SW_CHECK(calibration.status().message().starts_with("input"));
    return 0;
  }
  for (const CalibratedMode& mode : calibration->modes) {
    SW_CHECK(mode.n >= 1 && mode.kl >= 0 && mode.accuracy >= 0 && mode.accuracy <= 1);
    const auto checked = calibration->Check(mode.compose);
    SW_CHECK(checked.ok() == calibration->Passes(mode) && (!checked.ok() || *checked));
  }
  const std::string written = calibration->ToJson();
  const auto again = Calibration::Parse(written, "written");
  SW_CHECK(again.ok() && again->ToJson() == written);
  return 0;
}

// SHA-256 for addresses (what determines bytes) and XXH3 for checksums (whether bytes are whole).
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>

namespace spanwise {

struct Hash256 {
  std::array<uint8_t, 32> bytes{};
  auto operator<=>(const Hash256&) const = default;
  bool empty() const { return *this == Hash256{}; }
  std::string Hex() const;
};

// Incremental SHA-256 over length-prefixed fields, so that ("ab","c") and ("a","bc") differ. Thread-compatible.
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(const Hasher&) = delete;
  Hasher& operator=(const Hasher&) = delete;

  Hasher& Field(std::string_view bytes);
  Hasher& Field(const Hash256& hash);
  Hasher& Field(uint64_t number);  // hashed as 8 little-endian bytes
  Hash256 Finish();                // at most once

 private:
  struct State;
  std::unique_ptr<State> state_;
};

Hash256 Sha256(std::string_view bytes);
uint64_t Xxh3(std::string_view bytes);

}  // namespace spanwise

template <>
struct std::hash<spanwise::Hash256> {
  size_t operator()(const spanwise::Hash256& h) const noexcept {
    size_t value;
    std::memcpy(&value, h.bytes.data(), sizeof value);
    return value;
  }
};

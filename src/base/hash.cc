#include "base/hash.h"

#include <openssl/evp.h>
#include <xxhash.h>

#include "base/check.h"

namespace spanwise {

std::string Hash256::Hex() const {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (const uint8_t b : bytes) out += kDigits[b >> 4], out += kDigits[b & 15];
  return out;
}

struct Hasher::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
};

Hasher::Hasher() : state_(std::make_unique<State>()) {
  SW_CHECK(state_->context && EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr) == 1);
}

Hasher::~Hasher() = default;

Hasher& Hasher::Field(std::string_view bytes) {
  uint8_t length[8];
  for (int i = 0; i < 8; ++i) length[i] = static_cast<uint8_t>(static_cast<uint64_t>(bytes.size()) >> (8 * i));
  SW_CHECK(EVP_DigestUpdate(state_->context, length, sizeof length) == 1);
  SW_CHECK(EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) == 1);
  return *this;
}

Hasher& Hasher::Field(const Hash256& hash) {
  return Field(std::string_view(reinterpret_cast<const char*>(hash.bytes.data()), hash.bytes.size()));
}

Hasher& Hasher::Field(uint64_t number) {
  char bytes[8];
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<char>(number >> (8 * i));
  return Field(std::string_view(bytes, sizeof bytes));
}

Hash256 Hasher::Finish() {
  Hash256 hash;
  SW_CHECK(EVP_DigestFinal_ex(state_->context, hash.bytes.data(), nullptr) == 1);
  return hash;
}

Hash256 Sha256(std::string_view bytes) {
  Hash256 hash;
  SW_CHECK(EVP_Digest(bytes.data(), bytes.size(), hash.bytes.data(), nullptr, EVP_sha256(), nullptr) == 1);
  return hash;
}

uint64_t Xxh3(std::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

}  // namespace spanwise

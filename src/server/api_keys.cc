#include "server/api_keys.h"

#include <strings.h>

#include "base/file.h"
#include "base/str.h"

namespace spanwise::server {

Result<ApiKeys> ApiKeys::FromFile(const std::string& path) {
  SW_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, size_t{1} << 20));
  std::vector<std::string> keys;
  for (const std::string_view line : Split(text, '\n'))
    if (const std::string_view key = Trim(line); !key.empty() && key[0] != '#') keys.emplace_back(key);
  if (keys.empty()) return InvalidArgument(path + ": holds no API key; write one a line");
  return FromList(keys);
}

ApiKeys ApiKeys::FromList(const std::vector<std::string>& keys) {
  ApiKeys out;
  for (const std::string& key : keys) out.hashes_.push_back(Sha256(key));
  return out;
}

bool ApiKeys::Accepts(std::string_view authorization) const {
  constexpr std::string_view kScheme = "Bearer ";
  if (authorization.size() < kScheme.size() || strncasecmp(authorization.data(), kScheme.data(), kScheme.size()) != 0)
    return false;
  // Hashes are compared, all of them and whole: neither a key's length nor its beginning shows in the time.
  const Hash256 given = Sha256(Trim(authorization.substr(kScheme.size())));
  bool accepted = false;
  for (const Hash256& hash : hashes_) {
    volatile uint8_t difference = 0;
    for (size_t i = 0; i < hash.bytes.size(); ++i) difference = difference | (hash.bytes[i] ^ given.bytes[i]);
    accepted |= difference == 0;
  }
  return accepted;
}

}  // namespace spanwise::server

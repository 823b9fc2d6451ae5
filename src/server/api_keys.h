// The keys a caller may present.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "spanwise/status.h"

namespace spanwise::server {

// Immutable, thread-safe. Keeps only hashes of the keys.
class ApiKeys {
 public:
  ApiKeys() = default;  // none: every caller is let in
  // One key a line; empty lines and lines that begin with '#' do not count. InvalidArgument when there is no key in it.
  static Result<ApiKeys> FromFile(const std::string& path);
  static ApiKeys FromList(const std::vector<std::string>& keys);

  bool empty() const { return hashes_.empty(); }

  // Whether an Authorization header's value is "Bearer KEY" with one of the keys. Takes the same time for every wrong
  // key.
  bool Accepts(std::string_view authorization) const;

 private:
  std::vector<Hash256> hashes_;
};

}  // namespace spanwise::server

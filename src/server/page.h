// The page at "/", compiled in from web/index.html.
#pragma once

#include <string>

namespace spanwise::server {

const std::string& Page();

}  // namespace spanwise::server

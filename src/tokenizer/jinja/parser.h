// Tokens to the tree of a template.
#pragma once

#include <string_view>

#include "spanwise/status.h"
#include "tokenizer/jinja/ast.h"

namespace spanwise::jinja {

// How deep expressions and blocks may nest, so that neither parsing nor rendering exhausts the stack.
inline constexpr int kMaxNesting = 100;

// `source` as NormalizeSource leaves it. InvalidArgument begins with the place; Unimplemented names a tag, filter or
// test that is not done.
Result<Block> Parse(std::string_view source);

}  // namespace spanwise::jinja

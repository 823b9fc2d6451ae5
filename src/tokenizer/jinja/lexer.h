// Template source to tokens: text, names, literals, operators.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "spanwise/status.h"

namespace spanwise::jinja {

struct Token {
  enum class Kind : uint8_t {
    kText,
    kPrintBegin,
    kPrintEnd,
    kBlockBegin,
    kBlockEnd,
    kName,
    kInt,
    kFloat,
    kString,
    kOperator,
    kEnd
  };
  Kind kind = Kind::kEnd;
  uint32_t offset = 0;  // in the source
  std::string text;     // the text or name; of a string its value; of an operator its spelling
  int64_t integer = 0;
  double number = 0;

  bool Is(std::string_view op) const { return kind == Kind::kOperator && text == op; }
  bool IsName(std::string_view name) const { return kind == Kind::kName && text == name; }
};

// "line L, column C", both from 1; columns count bytes.
std::string PlaceOf(std::string_view source, size_t offset);

// Line ends as "\n" only and without the last one, as Jinja2 reads its sources.
std::string NormalizeSource(std::string_view source);

// Tokens of a normalised source, with Jinja2's trim_blocks and lstrip_blocks on. The last one is kEnd.
Result<std::vector<Token>> Tokenize(std::string_view source);

}  // namespace spanwise::jinja

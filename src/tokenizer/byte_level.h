// The alphabet of byte-level vocabularies: one printable character for each byte, as GPT-2 chose them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace spanwise {

// The bytes that a token stands for, or nullopt when one of its characters is not of the alphabet.
std::optional<std::string> BytesOfSymbols(std::string_view symbols);

// The inverse, for messages and tests.
std::string SymbolsOfBytes(std::string_view bytes);

}  // namespace spanwise

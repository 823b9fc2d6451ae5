// How vocabularies write bytes: as one printable character each (GPT-2's alphabet), or as "<0xE2>".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace spanwise {

// The bytes that a token stands for, or nullopt when one of its characters is not of the alphabet.
std::optional<std::string> BytesOfSymbols(std::string_view symbols);

// The inverse.
std::string SymbolsOfBytes(std::string_view bytes);

// The byte that a token of a vocabulary with byte fallback stands for: "<0xE2>".
std::optional<char> ByteOfToken(std::string_view token);
std::string TokenOfByte(uint8_t byte);

}  // namespace spanwise

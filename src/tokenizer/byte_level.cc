#include "tokenizer/byte_level.h"

#include <array>
#include <cstdint>

#include "base/str.h"

namespace spanwise {
namespace {

constexpr char32_t kLast = 0x143;  // 68 bytes have no printable Latin-1 character: they take U+0100 to U+0143

struct Alphabet {
  std::array<char32_t, 256> symbol_of{};
  std::array<int16_t, kLast + 1> byte_of{};

  constexpr Alphabet() {
    byte_of.fill(-1);
    char32_t next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      const char32_t symbol = printable ? static_cast<char32_t>(byte) : next++;
      symbol_of[static_cast<size_t>(byte)] = symbol;
      byte_of[symbol] = static_cast<int16_t>(byte);
    }
  }
};

constexpr Alphabet kAlphabet;
static_assert(kAlphabet.byte_of[kLast] == 0xAD);
static_assert(kAlphabet.symbol_of[' '] == 0x120);

}  // namespace

std::optional<std::string> BytesOfSymbols(std::string_view symbols) {
  std::string bytes;
  for (size_t i = 0; i < symbols.size(); ++i) {
    char32_t symbol = static_cast<uint8_t>(symbols[i]);
    if (symbol >= 0x80) {  // the whole alphabet is below U+0800: two bytes at most
      if ((symbol & 0xE0) != 0xC0 || i + 1 == symbols.size()) return std::nullopt;
      symbol = (symbol & 0x1F) << 6 | (static_cast<uint8_t>(symbols[++i]) & 0x3F);
    }
    if (symbol > kLast || kAlphabet.byte_of[symbol] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(kAlphabet.byte_of[symbol]));
  }
  return bytes;
}

std::optional<char> ByteOfToken(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return std::nullopt;
  unsigned value = 0;
  for (const char digit : token.substr(3, 2)) {
    const bool decimal = digit >= '0' && digit <= '9';
    const char lower = static_cast<char>(digit | 0x20);
    if (!decimal && (lower < 'a' || lower > 'f')) return std::nullopt;
    value = value * 16 + static_cast<unsigned>(decimal ? digit - '0' : lower - 'a' + 10);
  }
  return static_cast<char>(value);
}

std::string TokenOfByte(uint8_t byte) { return StrFormat("<0x{:02X}>", byte); }

std::string SymbolsOfBytes(std::string_view bytes) {
  std::string symbols;
  for (const char c : bytes) AppendUtf8(&symbols, kAlphabet.symbol_of[static_cast<uint8_t>(c)]);
  return symbols;
}

}  // namespace spanwise

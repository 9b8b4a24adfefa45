// SHA-256 (FIPS 180-4).
#pragma once

#include <span>
#include <string>

namespace codetr {

// In hexadecimal, lower case.
std::string sha256(std::span<char const> bytes);

} // namespace codetr

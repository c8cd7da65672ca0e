#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace gprann {

/// SHA-256 (FIPS 180-4) in hexadecimal digits.
std::string sha256(const unsigned char* data, std::size_t size);

/// CRC-32 of zip archives.
std::uint32_t crc32(const unsigned char* data, std::size_t size);

}  // namespace gprann

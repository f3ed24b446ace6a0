// IDX content in memory, for tests that write well-formed and malformed files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <zlib.h>

#include "base/check.h"

namespace superstep::testing {

inline std::string big_endian_bytes(std::uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16 & 0xFF),
          static_cast<char>(value >> 8 & 0xFF), static_cast<char>(value & 0xFF)};
}

inline std::string little_endian_bytes(std::uint32_t value) {
  const std::string big = big_endian_bytes(value);
  return {big.rbegin(), big.rend()};
}

inline std::string idx_header(const std::vector<std::uint32_t>& sizes, int type = 0x08) {
  std::string bytes{'\0', '\0', static_cast<char>(type), static_cast<char>(sizes.size())};
  for (const std::uint32_t size : sizes) {
    bytes += big_endian_bytes(size);
  }
  return bytes;
}

// Values 0, 1, 2, ... modulo 251 for images, modulo num_classes for labels.
inline std::string counting_bytes(std::size_t count, int modulus) {
  std::string bytes(count, '\0');
  for (std::size_t i = 0; i < count; ++i) {
    bytes[i] = static_cast<char>(i % static_cast<std::size_t>(modulus));
  }
  return bytes;
}

inline std::string idx_images(std::uint32_t count, std::uint32_t height, std::uint32_t width) {
  return idx_header({count, height, width}) +
         counting_bytes(std::size_t{count} * height * width, 251);
}

inline std::string idx_labels(std::uint32_t count, int num_classes = 10) {
  return idx_header({count}) + counting_bytes(count, num_classes);
}

inline std::string gzip(const std::string& content) {
  z_stream stream{};
  SUPERSTEP_CHECK(deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, 16 + MAX_WBITS, 8,
                               Z_DEFAULT_STRATEGY) == Z_OK);
  std::vector<Bytef> input(content.begin(), content.end());
  std::string packed(deflateBound(&stream, static_cast<uLong>(content.size())), '\0');
  stream.next_in = input.data();
  stream.avail_in = static_cast<uInt>(input.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  SUPERSTEP_CHECK(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

inline std::filesystem::path write_bytes(const std::filesystem::path& path,
                                         const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

}  // namespace superstep::testing

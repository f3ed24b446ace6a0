// The header of a .npy file (NumPy Enhancement Proposal 1): magic, version, length, and a Python
// dictionary literal padded with blanks so that the data start on 64 bytes.
//
//   \x93NUMPY 1 0 118 {'descr': '<f4', 'fortran_order': False, 'shape': (784, 200), }      \n
//
// Only what Superstep can use passes: float32 or float64, little-endian, C order. The dictionary is
// parsed as the literal it is; nothing is ever evaluated.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "kernels/shape.h"

namespace superstep::paramserver {

enum class NpyType : std::uint8_t { kFloat32, kFloat64 };

struct NpyHeader {
  NpyType type = NpyType::kFloat32;
  kernels::Shape shape;
  std::int64_t header_bytes = 0;  // where the data begin
  std::int64_t data_bytes() const;
};

// Bytes of a float32 header, version 1.0.
std::string encode_npy_header(const kernels::Shape& shape);

// The bytes that must be there before the length of the header is known, and the longest header
// that is read (NumPy itself stops at 10,000 characters).
inline constexpr std::int64_t kNpyPrefixBytes = 12;
inline constexpr std::int64_t kMaxNpyHeaderBytes = 64 * 1024;

// Where the data begin, from the first kNpyPrefixBytes bytes.
std::int64_t npy_header_bytes(std::span<const std::byte> prefix, std::string_view path);
// `bytes` is the whole header; `file_bytes` the real size of the file, which header and data must
// fill exactly. Throws DataError with `path` and offset.
NpyHeader decode_npy_header(std::span<const std::byte> bytes, std::int64_t file_bytes,
                            std::string_view path);

}  // namespace superstep::paramserver

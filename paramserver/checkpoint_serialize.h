// The manifest of a checkpoint as bytes: a verified frame around a Boost binary archive.
//
//   offset  bytes
//        0      8   magic "SSCKPT\0\1"
//        8      4   version of the format, 1
//       12      4   zero
//       16      8   length of the payload
//       24     16   XXH3-128 of bytes 0 to 23 and the payload (low half, then high half)
//       40    ...   payload: Boost.Serialization binary archive without its own header
//
// All numbers are little-endian with fixed widths. No archive is constructed before the length and
// the hash have been verified; it holds values only (no pointers, no tracking, no class
// identifiers), counts are checked against the bytes that remain before anything is allocated, and
// it must end where the payload ends. What was loaded is validated (names, enumerators, ranges,
// numbers of blocks, state_hash).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "paramserver/checkpoint.h"

namespace superstep::paramserver {

// Largest MANIFEST that is read: blocks of 6.8e10 elements.
inline constexpr std::int64_t kMaxManifestBytes = std::int64_t{1} << 28;

std::vector<std::byte> encode_manifest(const Manifest& manifest);
// Throws DataError (exit code kBadCheckpoint) with `path` and the offset of what is wrong.
Manifest decode_manifest(std::span<const std::byte> bytes, const std::filesystem::path& path);
// The manifest of a checkpoint directory, whatever its other files are. The same errors.
Manifest read_manifest(const std::filesystem::path& directory);

}  // namespace superstep::paramserver

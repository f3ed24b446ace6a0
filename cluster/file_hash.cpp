#include "cluster/file_hash.h"

#include <cerrno>
#include <cstddef>
#include <fstream>
#include <span>
#include <system_error>
#include <vector>

#include "base/error.h"

namespace superstep::cluster {

Hash128 hash_file(const std::filesystem::path& path) {
  constexpr std::size_t kPieceBytes = std::size_t{1} << 20;
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    throw DataError("hash_file", path.string(), -1, std::generic_category().message(errno));
  }
  Hasher hasher;
  std::int64_t hashed = 0;
  std::vector<char> piece(kPieceBytes);
  while (file.read(piece.data(), static_cast<std::streamsize>(piece.size())) || file.gcount() > 0) {
    hashed += file.gcount();
    hasher.update(std::as_bytes(std::span(piece.data(), static_cast<std::size_t>(file.gcount()))));
  }
  if (file.bad()) {
    throw DataError("hash_file", path.string(), hashed,
                    "cannot be read on: " + std::generic_category().message(errno));
  }
  return hasher.digest();
}

}  // namespace superstep::cluster

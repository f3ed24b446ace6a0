// The fingerprint of a file's content.
#pragma once

#include <filesystem>

#include "base/hash.h"

namespace superstep::cluster {

// Reads the file in pieces; throws DataError when it cannot be read.
Hash128 hash_file(const std::filesystem::path& path);

}  // namespace superstep::cluster

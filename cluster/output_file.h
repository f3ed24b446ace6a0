// The file that a command writes its result to.
#pragma once

#include <filesystem>
#include <string_view>

#include "base/atomic_file.h"

namespace superstep::cluster {

// What --force, given or not, means for a file that exists.
constexpr IfExists if_exists(bool force) {
  return force ? IfExists::kReplace : IfExists::kRefuse;
}

// Throws InvalidArgument that names `option` ("--output") when something is there that may not be
// replaced, or that is no file. Before any work is done.
void require_output(std::string_view command, std::string_view option,
                    const std::filesystem::path& file, IfExists if_exists);

}  // namespace superstep::cluster

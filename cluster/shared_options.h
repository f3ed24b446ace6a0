// Options that several commands take, said once.
#pragma once

#include <optional>
#include <string>

#include <CLI/App.hpp>

namespace superstep::cluster {

inline constexpr int kMostLanes = 1024;

// A path: an empty one, which would silently mean the default, is refused.
CLI::Option* add_path(CLI::App& app, const std::string& name, std::string& path,
                      const std::string& help);

// --lanes N
void add_lanes(CLI::App& app, std::optional<int>& lanes);

}  // namespace superstep::cluster

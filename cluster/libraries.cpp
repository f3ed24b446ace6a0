#include "cluster/libraries.h"

#include <string>
#include <utility>
#include <vector>

#include <CLI/Version.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <toml++/toml.h>

#include "base/version.h"
#include "cluster/library_versions.h"

namespace superstep::cluster {

std::vector<std::pair<std::string, std::string>> library_versions() {
  const auto dotted = [](int major, int minor, int patch) {
    return fmt::format("{}.{}.{}", major, minor, patch);
  };
  return {
      {"Open MPI", kOpenMpiVersion},
      {"oneDNN", kOneDnnVersion},
      {"Eigen", kEigenVersion},
      {"Boost", kBoostVersion},
      {"CLI11", CLI11_VERSION},
      {"fmt", dotted(FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100)},
      {"nlohmann-json", dotted(NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR,
                               NLOHMANN_JSON_VERSION_PATCH)},
      {"toml++", dotted(TOML_LIB_MAJOR, TOML_LIB_MINOR, TOML_LIB_PATCH)},
  };
}

std::string full_version_text() {
  std::vector<std::string> parts;
  for (const auto& [name, version] : library_versions()) {
    parts.push_back(fmt::format("{} {}", name, version));
  }
  return fmt::format("{}libraries: {}", version_text(), fmt::join(parts, ", "));
}

}  // namespace superstep::cluster

// The libraries this binary was built with, for --version and for the provenance of a run.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace superstep::cluster {

// Name and version, in a fixed order.
std::vector<std::pair<std::string, std::string>> library_versions();

// What base/version.h says, then one line of libraries.
std::string full_version_text();

}  // namespace superstep::cluster

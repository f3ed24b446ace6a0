// Names of source files for messages.
#pragma once

#include <string>
#include <string_view>

#include "bsp/call_site.h"

namespace superstep::bsp {

// A source file's path from the project's root on ("bsp/world.cpp"), of other projects its last
// three components: enough to find it, and the same wherever the program was built.
std::string_view path_in_project(std::string_view path);

// "bsp/world.cpp:40"
std::string describe_site(const CallSite& site);

}  // namespace superstep::bsp

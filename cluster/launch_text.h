// How `superstep launch` names itself, in its errors and on the terminal.
#pragma once

#include <cstdio>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "cluster/standard_streams.h"

namespace superstep::cluster {

inline constexpr std::string_view kLaunch = "superstep launch";

// One line to standard error. What cannot be written (a closed terminal, a full disk, a reader that
// has gone) is lost and nothing else: the job goes on.
inline void say(const std::string& text) {
  write_line(stderr, fmt::format("{}: {}", kLaunch, text));
}

}  // namespace superstep::cluster

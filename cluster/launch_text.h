// How `superstep launch` names itself, in its errors and on the terminal.
#pragma once

#include <string>
#include <string_view>

#include <fmt/format.h>

namespace superstep::cluster {

inline constexpr std::string_view kLaunch = "superstep launch";

// One line to standard error.
inline void say(const std::string& text) {
  fmt::print(stderr, "{}: {}\n", kLaunch, text);
}

}  // namespace superstep::cluster

// What `superstep launch` says and how it names itself.
#pragma once

#include <string>
#include <string_view>

#include <fmt/format.h>

namespace superstep::cluster {

inline constexpr std::string_view kLaunch = "superstep launch";

// Exit code of a process that signal n ended: kSignalBase + n.
inline constexpr int kSignalBase = 128;

// One line to standard error.
inline void say(const std::string& text) {
  fmt::print(stderr, "{}: {}\n", kLaunch, text);
}

}  // namespace superstep::cluster

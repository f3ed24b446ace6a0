// TOML of a bounded depth: toml++ bounds nested values, but makes a table for every level of a
// dotted key and calls itself once per table when they are removed: "a.a.a..." of 200 kB overflowed
// the stack.
#pragma once

#include <string_view>

#include <toml++/toml.h>

namespace superstep::cluster {

// As toml::parse, also in what it throws; a key of more than kMostKeyLevels levels is an error,
// too.
inline constexpr int kMostKeyLevels = 32;
toml::table parse_bounded_toml(std::string_view text, std::string_view source_path = {});

}  // namespace superstep::cluster

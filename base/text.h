// Text for people: suggestions for mistyped names, readable sizes and counts.
//
//   fmt::format("unknown key \"{}\"{}", key, did_you_mean(key, known_keys))
//   // unknown key "lerning_rate"; did you mean "learning_rate"?
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace superstep {

// Optimal string alignment distance: insertions, deletions, substitutions and swaps of neighbours
// cost one each (Damerau 1964). Bytes are compared as they are. Cost O(|a| |b|).
int edit_distance(std::string_view a, std::string_view b);

// The candidate nearest to `name`, the first of several equally near ones; nullopt when none is
// near enough to be a typing error (a third of the name's length, at least one edit). Case does not
// count.
std::optional<std::string> nearest_name(std::string_view name,
                                        std::span<const std::string> candidates);

// `; did you mean "x"?`, or nothing when no candidate is near.
std::string did_you_mean(std::string_view name, std::span<const std::string> candidates);

// "a, b, c".
std::string join(std::span<const std::string> parts, std::string_view separator = ", ");

// Binary units, three significant digits: "0 B", "1023 B", "1.50 KiB", "6.35 MiB".
std::string human_bytes(std::int64_t bytes);

// Decimal units, three significant digits: "999", "1.66 M".
std::string human_count(std::int64_t count);

// Groups of three digits: "1,663,370".
std::string grouped(std::int64_t number);

}  // namespace superstep

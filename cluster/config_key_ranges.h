// Ranges that rows of the table of keys use. For the sources of the table.
#pragma once

#include "cluster/config_keys.h"

namespace superstep::cluster::key_ranges {

inline Range at_least(double low) {
  return {.low = low};
}
inline Range between(double low, double high) {
  return {.low = low, .high = high};
}
inline Range from_below(double low, double high) {
  return {.low = low, .high = high, .high_included = false};
}
inline Range positive() {
  return {.low = 0.0, .low_included = false};
}
inline Range any() {
  return {};
}

// Counts that other parts hold in 32 bits, and sizes no machine has: typing errors rather than
// wishes.
inline constexpr double kMaxInt = 2147483647.0;
inline constexpr double kMaxCount = 1e12;
inline constexpr double kMaxClasses = 256;  // labels are bytes in every format
inline constexpr double kMaxLanes = 1024;
inline constexpr double kMaxSeconds = 1e9;  // 31 years; fits std::chrono in nanoseconds

}  // namespace superstep::cluster::key_ranges

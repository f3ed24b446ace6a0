// Time in a simulated federation: integer nanoseconds since the run began, so that sums and order
// have the same bits everywhere. Nothing of it is measured.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/error.h"

namespace superstep::worker {

using VirtualTime = std::chrono::nanoseconds;

inline constexpr VirtualTime kNever = VirtualTime::max();
inline constexpr double kMostVirtualSeconds = 1e9;  // of one duration: 31 years

// The nearest nanosecond; durations of more than 31 years are 31 years.
inline VirtualTime virtual_duration(double seconds) {
  return VirtualTime(std::llround(std::min(seconds, kMostVirtualSeconds) * 1e9));
}

inline double virtual_seconds(VirtualTime time) {
  return std::chrono::duration<double>(time).count();
}

// time + duration; kNever stays kNever. Throws InvalidArgument when the sum leaves 64 bits, 292
// years after the beginning.
inline VirtualTime after(VirtualTime time, VirtualTime duration) {
  if (duration == kNever || time == kNever) {
    return kNever;
  }
  if (time >= kNever - duration) {
    throw InvalidArgument("virtual clock",
                          "292 years of virtual time are over: expected fewer rounds, or faster "
                          "devices");
  }
  return time + duration;
}

}  // namespace superstep::worker

// A count or index that is known not to be negative, as the unsigned type of the standard
// containers.
//
// For values that are checked where they enter; what comes from outside goes through checked_cast.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/check.h"

namespace superstep {

constexpr std::size_t as_size(std::int64_t value) {
  SUPERSTEP_DEBUG_CHECK(value >= 0, "a negative size", value);
  return static_cast<std::size_t>(value);
}

}  // namespace superstep

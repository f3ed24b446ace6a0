// The check of one number of a configuration.
#pragma once

#include <cmath>
#include <string_view>

#include <fmt/format.h>

#include "base/error.h"

namespace superstep::worker {

// Throws InvalidArgument("<where>", "<field>: got <value>, expected <expected>") unless `holds` and
// `value` is finite.
inline void require_field(std::string_view where, bool holds, std::string_view field, double value,
                          std::string_view expected) {
  if (!holds || !std::isfinite(value)) {
    throw InvalidArgument(where, fmt::format("{}: got {}, expected {}", field, value, expected));
  }
}

}  // namespace superstep::worker

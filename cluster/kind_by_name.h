// An enumerator from the text of a key that has choices.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>

#include "base/check.h"

namespace superstep::cluster {

// The one of `kinds` that has this name; the table of keys lets no other name pass.
template <typename Kind, std::size_t N>
Kind kind_by_name(const std::array<Kind, N>& kinds, std::string_view name) {
  const auto found =
      std::find_if(kinds.begin(), kinds.end(), [&](Kind kind) { return name_of(kind) == name; });
  SUPERSTEP_CHECK(found != kinds.end(), "no such kind:", name);
  return *found;
}

}  // namespace superstep::cluster

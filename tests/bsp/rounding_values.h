// Values whose sums over ranks show in which order they were added.
#pragma once

#include <cstdint>
#include <vector>

#include "bsp/slot_tree.h"

namespace superstep::testing {

// What rank `rank` contributes at index i. Every rank's elements round differently, so another
// order of additions gives other bits.
template <typename T>
T rounding_value(int rank, std::int64_t i) {
  return T{1} / static_cast<T>(3 + rank * 7 + i % 89);
}

// The first n elements of rank `rank`.
template <typename T>
std::vector<T> rounding_values(int rank, std::int64_t n) {
  std::vector<T> values(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) {
    values[static_cast<std::size_t>(i)] = rounding_value<T>(rank, i);
  }
  return values;
}

// The sum over `ranks` at index i, added along the tree over ranks.
template <typename T>
T tree_sum_over_ranks(bsp::SlotRange ranks, std::int64_t i) {
  if (ranks.length() == 1) {
    return rounding_value<T>(ranks.begin, i);
  }
  const int middle = bsp::split_point(ranks);
  return tree_sum_over_ranks<T>({ranks.begin, middle}, i) +
         tree_sum_over_ranks<T>({middle, ranks.end}, i);
}

}  // namespace superstep::testing

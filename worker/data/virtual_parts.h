// A table is cut into a fixed number of parts, whatever the number of ranks.
//
// Sums of floating-point numbers go over whole parts, in the order of the parts, and summaries are
// made per part; a rank holds whole parts, contiguous. So nothing that is computed depends on how
// many ranks there are. With more ranks than parts some ranks hold none.
//
//   const PartRange mine = parts_of_rank(world.rank(), world.size());
//   const double sum = sum_over_parts(world, my_sums);        // one per part of this rank
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "bsp/world.h"

namespace superstep::worker {

// Ranks beyond it get no rows; sums of rows per part cost this many numbers.
inline constexpr int kVirtualParts = 256;

struct PartRange {
  int begin = 0;
  int end = 0;

  int size() const { return end - begin; }
};

constexpr PartRange parts_of_rank(int rank, int num_ranks) {
  return {static_cast<int>(std::int64_t{kVirtualParts} * rank / num_ranks),
          static_cast<int>(std::int64_t{kVirtualParts} * (rank + 1) / num_ranks)};
}

// One value per part of this rank; the sum over all parts in their order, the same bits on every
// rank of every world. Collective. Cost g * 8 * kVirtualParts + l.
double sum_over_parts(bsp::World& world, std::span<const double> mine);

// All values, one per part. Collective.
template <bsp::Element T>
std::vector<T> allgather_parts(bsp::World& world, std::span<const T> mine) {
  std::vector<std::int64_t> counts;
  counts.reserve(static_cast<std::size_t>(world.size()));
  for (int rank = 0; rank < world.size(); ++rank) {
    counts.push_back(parts_of_rank(rank, world.size()).size());
  }
  std::vector<T> all(static_cast<std::size_t>(kVirtualParts));
  world.allgather(mine, std::span<T>(all), counts);
  return all;
}

}  // namespace superstep::worker

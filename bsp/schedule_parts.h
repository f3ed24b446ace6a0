// What several schedules are put together from; for the sources of this folder.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>
#include <vector>

#include "bsp/schedule.h"

namespace superstep::bsp::internal {

// offsets[r]: elements before those of rank r; one more entry than counts, the sum.
std::vector<std::int64_t> offsets_of(std::span<const std::int64_t> counts);

Schedule empty_schedule(int num_ranks, std::int64_t extent);

// The combines that reduce pieces[range] of one rank in tree order into `target` (null: over one of
// the pieces); the piece number `own`, if any, is never written, the others are scratch. Returns
// where the sum is.
Location combine_tree(SlotRange range, std::span<const Location> pieces, int own,
                      const Location* target, std::int64_t count, std::vector<Combine>& combines);

inline void add_transfer(Round& round, Location from, Location to, std::int64_t count) {
  if (count > 0) {
    round.transfers.push_back({.from = from, .to = to, .count = count});
  }
}

// Rounds in which the halves of ever larger groups of ranks meet: ceil(log2 p).
inline int num_levels(int num_ranks) {
  return std::bit_width(static_cast<unsigned>(num_ranks - 1));
}

// Two groups of ranks that meet: an inner node of the tree over ranks. The left one is full,
// 2^level ranks; the right one may be smaller.
struct Meeting {
  int begin = 0;   // left: [begin, middle)
  int middle = 0;  // right: [middle, end)
  int end = 0;

  int left_size() const { return middle - begin; }
  int right_size() const { return end - middle; }
  bool is_full() const { return left_size() == right_size(); }
};

// The meetings of one level; a rank is in at most one of them.
template <typename Visit>
void for_each_meeting(int num_ranks, int level, Visit&& visit) {
  const int width = 1 << level;
  for (int begin = 0; begin + width < num_ranks; begin += 2 * width) {
    visit(Meeting{begin, begin + width, std::min(begin + 2 * width, num_ranks)});
  }
}

}  // namespace superstep::bsp::internal

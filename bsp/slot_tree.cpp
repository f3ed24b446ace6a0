#include "bsp/slot_tree.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace superstep::bsp {

namespace {

void collect_subtrees(SlotRange range, std::span<const int> slots, std::vector<SlotRange>& found) {
  const auto first = std::lower_bound(slots.begin(), slots.end(), range.begin);
  const auto last = std::lower_bound(first, slots.end(), range.end);
  const auto held = static_cast<int>(last - first);
  if (held == 0) {
    return;
  }
  if (held == range.length()) {
    found.push_back(range);
    return;
  }
  const int middle = split_point(range);
  collect_subtrees({range.begin, middle}, slots, found);
  collect_subtrees({middle, range.end}, slots, found);
}

void count_folds(SlotRange range, std::vector<int>& folds) {
  if (range.length() < 2) {
    return;
  }
  const int middle = split_point(range);
  count_folds({range.begin, middle}, folds);
  count_folds({middle, range.end}, folds);
  ++folds[static_cast<std::size_t>(range.end - 1)];
}

}  // namespace

int split_point(SlotRange range) {
  SUPERSTEP_CHECK(range.length() >= 2, "a range of one slot is a leaf", range.begin, range.end);
  return range.begin + static_cast<int>(std::bit_floor(static_cast<unsigned>(range.length() - 1)));
}

std::vector<SlotRange> maximal_subtrees(int num_slots, std::span<const int> slots) {
  SUPERSTEP_CHECK(
      std::adjacent_find(slots.begin(), slots.end(), std::greater_equal<>()) == slots.end(),
      "slots must ascend");
  SUPERSTEP_CHECK(slots.empty() || (slots.front() >= 0 && slots.back() < num_slots),
                  "slot out of range", num_slots);
  std::vector<SlotRange> found;
  if (num_slots > 0) {
    collect_subtrees({0, num_slots}, slots, found);
  }
  return found;
}

std::vector<int> tree_folds(int num_slots) {
  std::vector<int> folds(static_cast<std::size_t>(num_slots), 0);
  count_folds({0, num_slots}, folds);
  return folds;
}

SampleRange samples_of_slot(int slot, int num_slots, long num_samples) {
  SUPERSTEP_CHECK(slot >= 0 && slot < num_slots, "slot out of range", slot, num_slots);
  // floor(i * N / M) with N = q * M + r: no product exceeds 63 bits.
  const long quotient = num_samples / num_slots;
  const long remainder = num_samples % num_slots;
  const auto border = [&](long i) { return i * quotient + i * remainder / num_slots; };
  return {border(slot), border(slot + 1)};
}

std::vector<int> contiguous_placement(int num_slots, int num_ranks) {
  SUPERSTEP_CHECK(num_ranks > 0 && num_slots >= 0, "no ranks to place slots on", num_slots,
                  num_ranks);
  std::vector<int> placement(static_cast<std::size_t>(num_slots));
  for (int rank = 0; rank < num_ranks; ++rank) {
    const long begin = static_cast<long>(rank) * num_slots / num_ranks;
    const long end = static_cast<long>(rank + 1) * num_slots / num_ranks;
    std::fill(placement.begin() + begin, placement.begin() + end, rank);
  }
  return placement;
}

}  // namespace superstep::bsp

// The fixed tree over slots (docs/architecture.md, "the numerical contract").
//
// The tree over a range of slots splits it at the largest power of two below its length; sums are
// left + right. It depends on the number of slots M only, never on ranks, so a sum evaluated along
// it has the same bits wherever its parts were computed.
//
//   M = 6:            [0,6)
//                    /      .
//                [0,4)      [4,6)
#pragma once

#include <span>
#include <vector>

namespace superstep::bsp {

// Half-open range of slots.
struct SlotRange {
  int begin = 0;
  int end = 0;

  int length() const { return end - begin; }
  friend bool operator==(const SlotRange&, const SlotRange&) = default;
};

// First slot of the right child; range.length() >= 2.
int split_point(SlotRange range);

// The maximal subtrees of the tree over [0, num_slots) that the given slots (ascending, distinct)
// consist of, in ascending order. Their number bounds the partial sums that a rank hands over.
std::vector<SlotRange> maximal_subtrees(int num_slots, std::span<const int> slots);

// The tree over num_slots as work on a stack: after slot s was put on it, its two newest sums are
// added (left + right) folds[s] times. The last fold leaves one sum. A subtree of as many slots has
// the same folds.
std::vector<int> tree_folds(int num_slots);

// Slot i of a step with `num_samples` samples holds samples [begin, end); a slot may be empty.
struct SampleRange {
  long begin = 0;
  long end = 0;
};
SampleRange samples_of_slot(int slot, int num_slots, long num_samples);

// placement[slot] = rank. Contiguous: rank k of p gets slots [floor(kM/p), floor((k+1)M/p)).
std::vector<int> contiguous_placement(int num_slots, int num_ranks);

}  // namespace superstep::bsp

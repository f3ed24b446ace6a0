// A rank's partial sums: slots come in ascending order and are added along the fixed tree at once.
//
// The stack holds the sums of maximal complete subtrees; a new slot is written on top, and as soon
// as its sibling is complete the two become one (left + right, in place, bucket by bucket while the
// bucket is in cache). After the last slot buffer k holds exactly piece k of
// bsp::maximal_subtrees(M, slots).
//
// Memory: capacity() buffers of n elements, at most ceil(log2(slots)) + 1 when the slots are
// contiguous.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "bsp/slot_tree.h"
#include "paramserver/layout.h"

namespace superstep::paramserver {

class GradientStack {
 public:
  // `memory` holds capacity * num_elements floats and must remain valid while the stack lives.
  GradientStack(std::span<float> memory, std::int64_t num_elements,
                std::span<const ElementRange> buckets, int num_slots, std::vector<int> slots);

  // Buffers that the given slots (ascending) need at the most.
  static int capacity(int num_slots, std::span<const int> slots);

  // Opens the next slot of this rank; its n elements, padding excluded, are to be overwritten.
  std::span<float> reserve(int slot);
  // The bucket of the open slot is complete. `gradient` may be the reserved memory itself (no
  // copy).
  void push(int slot, int bucket, std::span<const float> gradient);
  // All slots of this rank were pushed; the next reserve() begins a new step.
  void finish_step();

 private:
  std::span<float> buffer(std::size_t index) const;
  void combine_bucket(ElementRange bucket);

  std::span<float> memory_;
  std::int64_t num_elements_;
  std::vector<ElementRange> buckets_;
  int num_slots_;
  std::vector<int> slots_;
  std::vector<bsp::SlotRange> stack_;
  std::size_t next_slot_ = 0;     // index into slots_
  std::size_t num_combines_ = 0;  // how often the open slot folds down the stack
  std::size_t buckets_pushed_ = 0;
  bool open_ = false;
};

}  // namespace superstep::paramserver

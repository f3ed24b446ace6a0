// A rank's partial sums: slots are added along the fixed tree as soon as they are there.
//
// The stack holds the sums of maximal complete subtrees; a new slot gets a buffer of its own, and
// as soon as its sibling is complete the two become one (left + right, in place, bucket by bucket
// while the bucket is in cache). After the last slot the pieces are exactly
// bsp::maximal_subtrees(M, slots); with slots in ascending order buffer k holds piece k.
//
// Memory: capacity() buffers of n elements, at most ceil(log2(slots)) + 1 when the slots are
// contiguous and ascend.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "bsp/slot_tree.h"
#include "paramserver/layout.h"

namespace superstep::paramserver {

enum class SlotOrder : std::uint8_t {
  kAscending,  // exactly the given slots, one after another
  kAny,        // whichever slots the rank gets, as long as there is room
};

class GradientStack {
 public:
  // `memory` holds whole buffers of num_elements floats, at least capacity() of them, and must
  // remain valid while the stack lives. With kAny `slots` is not looked at.
  GradientStack(std::span<float> memory, std::int64_t num_elements,
                std::span<const ElementRange> buckets, int num_slots, std::vector<int> slots,
                SlotOrder order = SlotOrder::kAscending);

  // Buffers that the given slots (ascending) need at the most.
  static int capacity(int num_slots, std::span<const int> slots);

  // Opens the next slot of this rank; its n elements, padding excluded, are to be overwritten.
  std::span<float> reserve(int slot);
  // Opens the next slots of this rank at once: a whole subtree, whose sum (along the tree) is to be
  // written. Pushed in the name of its first slot.
  std::span<float> reserve(bsp::SlotRange subtree);
  // The bucket of the open slot is complete. `gradient` may be the reserved memory itself (no
  // copy).
  void push(int slot, int bucket, std::span<const float> gradient);
  // All slots of this rank were pushed; the next reserve() begins a new step.
  void finish_step();

  // The next slot in order, -1 when all were reserved. kAscending only.
  int next_slot() const;
  // Whether a buffer is left for one more slot.
  bool has_room() const;

  // What the pushed slots were added up to, ascending; until the next reserve().
  struct Piece {
    bsp::SlotRange range;
    int buffer = 0;
  };
  std::span<const Piece> pieces() const { return pieces_; }

 private:
  // buffer `left` becomes left + right, and `right` is free.
  struct Fold {
    int left = 0;
    int right = 0;
  };

  static std::vector<Fold> insert(int num_slots, Piece piece, std::vector<Piece>& pieces);
  std::span<float> buffer(int index) const;
  int free_buffer() const;
  void combine_bucket(ElementRange bucket);

  std::span<float> memory_;
  std::int64_t num_elements_;
  std::vector<ElementRange> buckets_;
  int num_slots_;
  std::vector<int> slots_;
  SlotOrder order_;
  int num_buffers_;
  std::vector<Piece> pieces_;  // ascending
  std::size_t num_pushed_ = 0;
  int open_slot_ = -1;  // the first one of a subtree
  int open_length_ = 0;
  int open_buffer_ = 0;
  std::vector<Fold> folds_;  // that complete the open slot
  std::size_t buckets_pushed_ = 0;
};

}  // namespace superstep::paramserver

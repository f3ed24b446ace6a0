// Deals the slots of a node to its ranks while they compute: work stealing.
//
// Every rank starts with the slots that the placement gives it and takes them in ascending order;
// a rank that has none left takes the last one of whoever has most left. Who computes a slot is
// decided by one compare-and-swap on a word in memory that the node shares; it never changes a
// result (bsp/slot_tree.h), only where partial sums lie. Slots do not leave their node.
//
// A rank that is much slower than another leaves the last slots to the faster one, if that would
// have finished them earlier.
//
//   SlotQueue queue(world, num_slots);
//   queue.deal(placement);                           // and a sync before the first claim
//   while (const std::optional<int> slot = queue.claim(room)) { ... compute it ... }
//   ... the sync that ends the compute phase ...
//   queue.refill();                                  // and a sync before the next claim
//
// Cost: some tens of nanoseconds per slot.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/clock.h"
#include "bsp/shared_array.h"
#include "bsp/world.h"

namespace superstep::paramserver {

enum class StealingRoom : std::uint8_t { kThere, kNone };

class SlotQueue {
 public:
  // Collective. `world` must outlive the queue.
  explicit SlotQueue(bsp::World& world);

  // placement[slot] = rank that starts with it.
  void deal(std::span<const int> placement);
  // All slots are there again.
  void refill();
  // A slot for this rank to compute now; none when nothing is left for it. The time between two
  // claims is taken as the time of a slot. kNone: take no other rank's slots.
  std::optional<int> claim(StealingRoom room);
  // A failed check when slots of this rank were left over: some rank stopped asking.
  void require_own_taken() const;

 private:
  // One per rank of the node. Trivial, so that zero-filled shared memory is a valid one.
  struct alignas(64) Desk {
    std::uint64_t left;     // first and end of what is left of the rank's slots, packed; atomic
    double slot_seconds;    // 0: not known yet; atomic
    std::uint32_t is_done;  // takes no more slots in this superstep; atomic
  };

  Desk& desk(std::size_t index) const { return desks_.span()[index]; }
  std::int64_t num_left() const;
  bool better_left_to_others(std::int64_t num_left) const;
  bool take(std::size_t owner, int* slot);
  std::optional<int> take_own_or_steal(StealingRoom room);
  void note_time();

  bsp::World& world_;
  std::vector<int> ranks_;               // of this node
  std::size_t self_ = 0;                 // index of this rank in ranks_
  std::vector<std::vector<int>> slots_;  // of every rank of the node, as placed
  bsp::SharedArray<Desk> desks_;         // by index in ranks_
  std::optional<Stopwatch> slot_in_work_;
};

}  // namespace superstep::paramserver

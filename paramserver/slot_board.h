// What every rank must know of all slots: their summaries, where they were computed, and the flags
// that ranks raise.
//
// Ranks of a node write to one board in shared memory before the sync that ends the compute phase
// and read it after; between nodes the rows travel once. Totals follow the fixed tree over slots.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "bsp/shared_array.h"
#include "bsp/world.h"
#include "paramserver/server.h"

namespace superstep::paramserver {

// Where a slot was computed, and the gradient buffer of the partial sum that begins with it.
struct SlotHome {
  std::int32_t rank = 0;
  std::int32_t buffer = 0;  // known within the node
  friend bool operator==(const SlotHome&, const SlotHome&) = default;
};

class SlotBoard {
 public:
  // Collective. `world` must outlive the board.
  SlotBoard(bsp::World& world, int num_slots);

  // Compute phase.
  void post(int slot, const SlotSummary& summary);
  void post_home(int slot,
                 SlotHome home);  // by whoever computes it, when that is not the placement
  void post_flags(std::uint32_t flags);
  // Exchange phase, collective: afterwards total() and flags() are the same on every rank.
  // Cost on one node O(slots + ranks); between nodes one allgather of 32 bytes per slot.
  void share(std::span<const int> placement);

  const SlotSummary& total() const { return total_; }
  std::uint32_t flags() const { return flags_; }
  std::span<const SlotHome> homes() const { return all_homes_; }

 private:
  void gather_from_other_nodes(std::span<const int> placement);

  bsp::World& world_;
  bsp::SharedArray<SlotSummary> summaries_;  // by slot; the node's own are valid
  bsp::SharedArray<std::uint32_t> raised_;   // by rank; the node's own are valid
  bsp::SharedArray<SlotHome> homes_;         // by slot; the node's own are valid
  std::vector<SlotSummary> all_;
  std::vector<SlotHome> all_homes_;
  SlotSummary total_;
  std::uint32_t flags_ = 0;
};

}  // namespace superstep::paramserver

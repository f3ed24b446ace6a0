// What every rank must know of all slots: their summaries, and the flags that ranks raise.
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

class SlotBoard {
 public:
  // Collective. `world` must outlive the board.
  SlotBoard(bsp::World& world, int num_slots);

  // Compute phase.
  void post(int slot, const SlotSummary& summary);
  void post_flags(std::uint32_t flags);
  // Exchange phase, collective: afterwards total() and flags() are the same on every rank.
  // Cost on one node O(slots + ranks); between nodes one allgather of 24 bytes per slot.
  void share(std::span<const int> placement);

  const SlotSummary& total() const { return total_; }
  std::uint32_t flags() const { return flags_; }

 private:
  void gather_from_other_nodes(std::span<const int> placement);

  bsp::World& world_;
  bsp::SharedArray<SlotSummary> summaries_;  // by slot; the node's own are valid
  bsp::SharedArray<std::uint32_t> raised_;   // by rank; the node's own are valid
  std::vector<SlotSummary> all_;
  SlotSummary total_;
  std::uint32_t flags_ = 0;
};

}  // namespace superstep::paramserver

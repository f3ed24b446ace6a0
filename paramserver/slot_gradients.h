// Where the gradients of slots are summed: this rank's stack in memory that the node shares, and
// the plan by which the owners of shards read what all ranks summed.
//
// With SlotDealing::kAsPlaced both follow from the placement. With kStealing ranks decide while
// they compute who takes which slot (slot_queue.h); the exchange is planned after the compute
// phase, from what was really computed where, and again only when that differs from the step
// before.
//
// Memory per node: num_buffers() of n elements on the largest node.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "bsp/shared_array.h"
#include "bsp/tree_reduce.h"
#include "bsp/world.h"
#include "paramserver/collocated_server.h"
#include "paramserver/gradient_stack.h"
#include "paramserver/slot_board.h"
#include "paramserver/slot_queue.h"
#include "paramserver/tree_exchange.h"

namespace superstep::paramserver {

// Buffers of n elements that ranks with these slots need.
std::vector<std::int64_t> gradient_buffers(int num_slots,
                                           const std::vector<std::vector<int>>& slots_of_ranks,
                                           SlotDealing dealing);

// The sum of by_rank over the ranks of a node, for the node where it is largest.
std::int64_t most_per_node(std::span<const std::int64_t> by_rank,
                           std::span<const int> node_of_rank);

// Elements that each rank needs beside its gradients to carry out `plan`; 0 on a single node.
std::vector<std::int64_t> exchange_scratch(const bsp::TreeReducePlan& plan);

// Elements beside the gradients on the node that needs most: scratch[r] of each rank, and with a
// global norm the mean of its shard [cuts[r], cuts[r + 1]).
std::int64_t exchange_elements(std::vector<std::int64_t> scratch,
                               std::span<const std::int64_t> cuts,
                               std::span<const int> node_of_rank, const ClipOptions& clip);

class SlotGradients {
 public:
  // Collective. world and layout must outlive this object. Rank r owns the shard [cuts[r], cuts[r +
  // 1]). place() must follow.
  SlotGradients(bsp::World& world, const ParameterLayout& layout, std::vector<std::int64_t> cuts,
                std::vector<ElementRange> buckets, int num_slots, SlotDealing dealing);

  // Collective, between supersteps. placement[slot] = rank.
  void place(std::vector<int> placement);
  std::span<const int> placement() const { return placement_; }

  // Compute phase.
  std::optional<int> claim_slot();
  GradientStack& stack() { return *stack_; }
  void finish_compute(SlotBoard& board);

  // Exchange phase, after board.share(): what the owner of a shard reads.
  TreeExchange& exchange(const SlotBoard& board);

  std::int64_t num_buffers() const { return num_buffers_; }
  // Elements for the exchange beside the gradients, on the node that needs most.
  std::int64_t exchange_elements(const ClipOptions& clip) const;

 private:
  void ensure_memory(std::span<const std::int64_t> buffers);
  void plan(std::span<const int> computed_by, std::span<const int> buffer_of_slot);

  bsp::World& world_;
  const ParameterLayout& layout_;
  std::vector<std::int64_t> cuts_;  // of the shards
  std::vector<ElementRange> buckets_;
  int num_slots_;
  SlotDealing dealing_;
  std::vector<int> nodes_;  // of every rank
  std::vector<int> placement_;
  std::optional<bsp::SharedArray<float>> memory_;  // of the node's ranks, one after another
  std::int64_t num_buffers_ = 0;
  std::vector<std::int64_t> scratch_;  // elements of each rank
  std::vector<const float*> bases_;    // by rank of the node: its first buffer
  std::unique_ptr<GradientStack> stack_;
  std::unique_ptr<TreeExchange> exchange_;
  std::optional<SlotQueue> queue_;     // stealing only
  std::vector<SlotHome> planned_for_;  // stealing only
};

}  // namespace superstep::paramserver

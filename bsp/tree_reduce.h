// The gradient exchange as a Schedule: sums of slots along the fixed tree, each shard at its owner.
//
// Before it, rank r holds in its address space the partial sums of the maximal subtrees of its
// slots (bsp/slot_tree.h), piece k at offset k*n, n elements each. After it the sum over all slots
// of elements [cuts[r], cuts[r+1]) stands at results[r]. Within a node owners combine by plain
// loads; for the shards of other nodes a node first forms the sums of the maximal subtrees of all
// its slots (the work for owner o falls to the node's rank number o modulo the node's size), sends
// them to the owner, and the owner finishes, always left + right: the same bits for every
// placement, node layout and p.
//
// Cost for N nodes with one maximal subtree each: h = n*(N-1)/N elements per node, one round.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "bsp/schedule.h"

namespace superstep::bsp {

inline constexpr int kEveryRank = -1;

struct TreeReduceInput {
  std::int64_t num_elements = 0;       // n
  int num_slots = 0;                   // M
  std::span<const int> placement;      // slot -> rank, size M
  std::span<const int> node_of_rank;   // size p; ranks of a node are contiguous
  std::span<const std::int64_t> cuts;  // size p + 1, cuts[0] = 0, cuts[p] = n
  // A piece lies at buffer_of_slot[its first slot] * n of its rank; looked at for ranks of the
  // planning rank's node only. Empty: piece k of a rank lies at k * n.
  std::span<const int> buffer_of_slot = {};
  // Who executes the plan: what others combine, send and receive among themselves is left out, and
  // results[r] stands for this rank alone. A plan for every rank has M * p combines.
  int planning_rank = kEveryRank;
};

struct TreeReducePlan {
  // One round when all ranks share a node. Otherwise round 0 forms the nodes' sums (combines only),
  // round 1 moves them to the owners and finishes there.
  Schedule schedule;
  // Where rank r's shard is summed up. results[r].rank may be another rank of the node when no sum
  // was needed.
  std::vector<Location> results;
  // Per rank, elements from the start of its address space: its pieces, and these with what is
  // formed for other nodes or arrives from them. Behind are the targets of the last round: no
  // memory for who sums tile by tile.
  std::vector<std::int64_t> pieces_extent;
  std::vector<std::int64_t> moved_extent;
};

TreeReducePlan plan_tree_reduce(const TreeReduceInput& input);

// Slots of each rank in ascending order, and the ranges that its pieces stand for.
std::vector<std::vector<int>> slots_of_ranks(std::span<const int> placement, int num_ranks);

}  // namespace superstep::bsp

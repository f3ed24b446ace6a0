// Runs a Schedule over World::exchange.
//
//   const AllreducePlan plan = allreduce_schedule(world.size(), n);
//   std::vector<float> space(plan.schedule.extents[world.rank()]);       // own elements first
//   execute(world, plan.schedule, std::span(space), ReduceOp::kSum);     // collective
//   // result: space[plan.result_offset ...)
//
// Combines that read operands of other ranks need those ranks' address spaces: give all of a node's
// with execute_in_node (nullptr for ranks of other nodes).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "bsp/schedule.h"
#include "bsp/world.h"

namespace superstep::bsp {

namespace internal {

// One rank's part of a round.
struct RankTransfer {
  int peer = 0;
  std::int64_t offset = 0;  // of this rank
  std::int64_t count = 0;
};
struct RankRound {
  std::vector<RankTransfer> sends;
  std::vector<RankTransfer> receives;
  std::vector<Transfer> copies;  // within this rank
  std::vector<Combine> combines;
  bool exchanges = false;  // some rank of the world sends
  bool remote_combines =
      false;  // some rank of the world reads other ranks' operands: meet before and after
};
struct RankPlan {
  std::int64_t extent = 0;
  std::vector<RankRound> rounds;
};
RankPlan plan_of_rank(const Schedule& schedule, int rank);
std::vector<RankPlan> plans_of_ranks(const Schedule& schedule);  // of all, in one pass

// The memory behind a rank's elements, in pieces so that a caller's arrays need not be copied
// together: elements [begin, begin + count) lie at `data`. No access crosses pieces.
struct MemoryPiece {
  std::int64_t begin = 0;
  std::int64_t count = 0;
  std::byte* data = nullptr;
};

void execute_bytes(World& world, const Schedule& schedule,
                   std::span<std::byte* const> address_spaces, DataType type, ReduceOp op,
                   CallSite site);

}  // namespace internal

// `space` has at least schedule.extents[rank] elements.
template <Element T>
void execute(World& world, const Schedule& schedule, std::span<T> space,
             ReduceOp op = ReduceOp::kSum, CallSite site = CallSite::here()) {
  std::vector<std::byte*> spaces(static_cast<std::size_t>(world.size()), nullptr);
  spaces[static_cast<std::size_t>(world.rank())] = std::as_writable_bytes(space).data();
  internal::execute_bytes(world, schedule, spaces, data_type_of<T>(), op, site);
}

// spaces[rank]: the address space of every rank of this node, nullptr for the others.
template <Element T>
void execute_in_node(World& world, const Schedule& schedule, std::span<T* const> spaces,
                     ReduceOp op = ReduceOp::kSum, CallSite site = CallSite::here()) {
  std::vector<std::byte*> bytes;
  for (T* space : spaces) {
    bytes.push_back(reinterpret_cast<std::byte*>(space));
  }
  internal::execute_bytes(world, schedule, bytes, data_type_of<T>(), op, site);
}

}  // namespace superstep::bsp

// Worlds of some of the ranks: everything works there as in the whole.
#include <cstdint>
#include <vector>

#include "bsp/queue.h"
#include "bsp/shared_array.h"
#include "bsp/var.h"
#include "tests/support/spmd_fixture.h"

namespace superstep::bsp {
namespace {

void expect_working(World& world) {
  const int p = world.size();
  EXPECT_EQ(world.allreduce(world.rank() + 1, ReduceOp::kSum), p * (p + 1) / 2);
  std::vector<int> data(1'000, world.rank() == p - 1 ? 7 : 0);
  world.broadcast(std::span(data), p - 1);
  EXPECT_EQ(data.back(), 7);
  Var<int> x(world, -1);
  x(world.next_rank()) = world.rank();
  world.sync();
  EXPECT_EQ(*x, (world.rank() + p - 1) % p);
  SharedArray<int> shared(world, p);
  shared.span()[static_cast<std::size_t>(world.rank())] = world.rank() + 1;
  world.sync();
  for (const int rank : world.ranks_at(Level::kNode)) {
    EXPECT_EQ(shared.span()[static_cast<std::size_t>(rank)], rank + 1);
  }
  world.sync();
}

SUPERSTEP_WORLD_TEST_ON_NODES(Split, GivesWorkingWorldsOfEveryColor) {
  World half = world.split(world.rank() % 2, world.rank());
  EXPECT_EQ(half.size(), (world.size() + 1 - world.rank() % 2) / 2);
  EXPECT_EQ(half.rank(), world.rank() / 2);
  expect_working(half);
  expect_working(world);
}

SUPERSTEP_WORLD_TEST_ON_NODES(Split, OrdersByKeyThenRank) {
  World reversed = world.split(0, -world.rank());
  EXPECT_EQ(reversed.size(), world.size());
  EXPECT_EQ(reversed.rank(), world.size() - 1 - world.rank());
  const std::vector<int> ranks = reversed.allgather(world.rank());
  for (int i = 0; i < world.size(); ++i) {
    EXPECT_EQ(ranks[static_cast<std::size_t>(i)], world.size() - 1 - i);
  }
  expect_working(reversed);
}

SUPERSTEP_WORLD_TEST_ON_NODES(Split, NestsAndRepeats) {
  for (int round = 0; round < 5; ++round) {
    World first = world.split(world.rank() / 2, 0);
    World alone = first.split(first.rank(), 0);
    EXPECT_EQ(alone.size(), 1);
    expect_working(alone);
    expect_working(first);
  }
  world.sync();
}

// Different worlds of one process communicate at the same time, from different threads.
SUPERSTEP_WORLD_TEST(Split, WorldsWorkIndependently) {
  World part = world.split(world.rank() % 2, 0);
  const int rounds = world.rank() % 2 == 0 ? 50 : 20;
  for (int i = 0; i < rounds; ++i) {
    ASSERT_EQ(part.allreduce(1, ReduceOp::kSum), part.size());
    part.sync();
  }
  EXPECT_EQ(part.superstep(), static_cast<std::uint64_t>(rounds));
  EXPECT_EQ(world.superstep(), 0U);
  world.sync();
}

SUPERSTEP_WORLD_TEST_ON_NODES(Split, CountsNodesAndProcessesOfItsOwn) {
  World node = world.split(world.node(), 0);
  EXPECT_EQ(node.num_nodes(), 1);
  EXPECT_EQ(node.size(), static_cast<int>(world.ranks_at(Level::kNode).size()));
  World process = world.split(world.process(), 0);
  EXPECT_EQ(process.num_processes(), 1);
  EXPECT_EQ(process.size(), static_cast<int>(world.ranks_at(Level::kProcess).size()));
}

}  // namespace
}  // namespace superstep::bsp

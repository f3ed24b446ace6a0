// What a rank sees of the world, and sync().
#include "bsp/world.h"

#include <set>
#include <string>
#include <vector>

#include "tests/support/spmd_fixture.h"

namespace superstep::bsp {
namespace {

SUPERSTEP_WORLD_TEST_ON_NODES(World, NumbersRanksWithinProcessesAndNodes) {
  EXPECT_GE(world.rank(), 0);
  EXPECT_LT(world.rank(), world.size());
  EXPECT_EQ(world.next_rank(), (world.rank() + 1) % world.size());
  const std::vector<int> ranks = world.allgather(world.rank());
  for (int rank = 0; rank < world.size(); ++rank) {
    EXPECT_EQ(ranks[static_cast<std::size_t>(rank)], rank);
  }
}

SUPERSTEP_WORLD_TEST(World, CountsSupersteps) {
  for (std::uint64_t i = 0; i < 100; ++i) {
    EXPECT_EQ(world.superstep(), i);
    world.sync();
  }
}

}  // namespace
}  // namespace superstep::bsp

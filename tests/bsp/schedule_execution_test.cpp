// Every schedule, executed by the ranks: the bits of the tree over ranks, the bytes of the plan.
#include <bit>
#include <cstdint>
#include <numeric>
#include <vector>

#include "bsp/execute.h"
#include "bsp/schedule.h"
#include "bsp/world.h"
#include "tests/bsp/rounding_values.h"
#include "tests/support/spmd_fixture.h"

namespace superstep::bsp {
namespace {

using testing::rounding_values;
using testing::tree_sum_over_ranks;

std::vector<std::int64_t> counts_that_hurt(int num_ranks) {
  return {0, 1, num_ranks - 1, num_ranks, num_ranks + 1, 1'000};
}

void expect_sums(World& world, const AllreducePlan& plan, std::int64_t n) {
  std::vector<float> space = rounding_values<float>(world.rank(), n);
  space.resize(
      static_cast<std::size_t>(plan.schedule.extents[static_cast<std::size_t>(world.rank())]));
  const TrafficCounters before = world.traffic();
  execute(world, plan.schedule, std::span(space));
  const auto me = static_cast<std::size_t>(world.rank());
  const RankTraffic planned = traffic_of(plan.schedule)[me];
  EXPECT_EQ(world.traffic().bytes_sent - before.bytes_sent,
            sizeof(float) * static_cast<std::uint64_t>(planned.elements_sent));
  EXPECT_EQ(world.traffic().bytes_received - before.bytes_received,
            sizeof(float) * static_cast<std::uint64_t>(planned.elements_received));
  for (std::int64_t i = 0; i < n; ++i) {
    ASSERT_EQ(space[static_cast<std::size_t>(plan.result_offset + i)],
              tree_sum_over_ranks<float>({0, world.size()}, i))
        << "n " << n << " i " << i;
  }
}

SUPERSTEP_WORLD_TEST_ON_NODES(Execute, GivesTheBitsOfTheTreeWithEveryAllreduce) {
  for (const AllreduceAlgorithm algorithm :
       {AllreduceAlgorithm::kDirect, AllreduceAlgorithm::kShards,
        AllreduceAlgorithm::kRecursiveDoubling, AllreduceAlgorithm::kHalvingDoubling}) {
    for (const std::int64_t n : counts_that_hurt(world.size())) {
      expect_sums(world, allreduce_schedule(algorithm, world.size(), n), n);
    }
  }
}

SUPERSTEP_WORLD_TEST_ON_NODES(Execute, GivesTheBitsOfTheTreeOverSharingLevels) {
  for (const int ranks_per_node : {1, 2, 3}) {
    std::vector<int> nodes;
    nodes.reserve(static_cast<std::size_t>(world.size()));
    for (int rank = 0; rank < world.size(); ++rank) {
      nodes.push_back(rank / ranks_per_node);
    }
    for (const std::int64_t n : counts_that_hurt(world.size())) {
      expect_sums(world, hierarchical_allreduce_schedule(nodes, n), n);
    }
  }
}

// Large enough that World::allreduce goes over the levels.
void expect_tree_sums(World& world) {
  for (const std::int64_t n : {3, 9'001, 20'011}) {
    std::vector<float> data = rounding_values<float>(world.rank(), n);
    world.allreduce(std::span<const float>(data), std::span(data), ReduceOp::kSum);
    for (std::int64_t i = 0; i < n; ++i) {
      ASSERT_EQ(data[static_cast<std::size_t>(i)], tree_sum_over_ranks<float>({0, world.size()}, i))
          << "n " << n << " i " << i;
    }
  }
}

TEST(Allreduce, GivesTheBitsOfTheTreeOnNodesOfSeveralRanks) {
  for (const int ranks_per_node : {2, 3}) {
    EnvironmentOptions options = ::superstep::testing::test_options();
    options.ranks_per_node = ranks_per_node;
    ::superstep::testing::run_on_every_rank(&expect_tree_sums, options);
  }
}

}  // namespace
}  // namespace superstep::bsp

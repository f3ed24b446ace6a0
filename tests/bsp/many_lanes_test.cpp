// 64 and 128 ranks on one host: what the schedules count, the bits of the tree, and the formulas of
// memory hold. No times: the lanes outnumber the cores.
#include <bit>
#include <cstdint>
#include <vector>

#include "bsp/aggregator.h"
#include "bsp/execute.h"
#include "bsp/node_allreduce.h"
#include "bsp/schedule.h"
#include "bsp/world.h"
#include "tests/bsp/rounding_values.h"
#include "tests/support/spmd_fixture.h"

namespace superstep::bsp {
namespace {

using testing::rounding_value;
using testing::rounding_values;
using testing::tree_sum_over_ranks;

void expect_tree_sums(std::span<const double> sums, int num_ranks) {
  for (std::size_t i = 0; i < sums.size(); ++i) {
    ASSERT_EQ(sums[i], tree_sum_over_ranks<double>({0, num_ranks}, static_cast<std::int64_t>(i)))
        << "i " << i;
  }
}

SUPERSTEP_WORLD_TEST(ManyLanes, MoveTheBoundOfHalvingAndDoublingInTheMemoryStated) {
  const int p = world.size();
  ASSERT_TRUE(std::has_single_bit(static_cast<unsigned>(p)));
  const std::int64_t n = 4 * p;
  const AllreducePlan plan = allreduce_schedule(AllreduceAlgorithm::kHalvingDoubling, p, n);
  const std::int64_t extent = plan.schedule.extents[static_cast<std::size_t>(world.rank())];
  EXPECT_EQ(extent, 2 * n + n / 2);
  std::vector<double> space = rounding_values<double>(world.rank(), n);
  space.resize(static_cast<std::size_t>(extent));
  const std::uint64_t before = world.traffic().bytes_sent;
  execute(world, plan.schedule, std::span(space));
  EXPECT_EQ(world.traffic().bytes_sent - before,
            sizeof(double) * static_cast<std::uint64_t>(2 * (p - 1) * n / p));
  expect_tree_sums(
      std::span(space).subspan(static_cast<std::size_t>(n), static_cast<std::size_t>(n)), p);
}

SUPERSTEP_WORLD_TEST(ManyLanes, DoubleForShortMessages) {
  const int p = world.size();
  const AllreducePlan plan = allreduce_schedule(AllreduceAlgorithm::kRecursiveDoubling, p, 2);
  std::vector<double> space = rounding_values<double>(world.rank(), 2);
  space.resize(6);
  const std::uint64_t before = world.traffic().bytes_sent;
  execute(world, plan.schedule, std::span(space));
  EXPECT_EQ(world.traffic().bytes_sent - before,
            sizeof(double) * 2U * std::bit_width(static_cast<unsigned>(p - 1)));
  expect_tree_sums(std::span(space).subspan(2, 2), p);
}

SUPERSTEP_WORLD_TEST(ManyLanes, AddAlongTheTreeInSharedMemoryOfTheSizeStated) {
  const int p = world.size();
  // Two chunks per rank and two of the result; a chunk is at least 16 KiB.
  EXPECT_EQ(internal::NodeAllreduce::staging_bytes(p), std::int64_t{2 * p + 2} * 32'768 * 64 / p);
  for (const std::int64_t n : {1, 3 * p + 1, 9'001}) {
    std::vector<double> data = rounding_values<double>(world.rank(), n);
    world.allreduce(std::span<const double>(data), std::span(data), ReduceOp::kSum);
    expect_tree_sums(data, p);
  }
}

SUPERSTEP_WORLD_TEST(ManyLanes, ReduceScatterAndGatherInLogarithmicallyManyRounds) {
  const int p = world.size();
  std::vector<std::int64_t> counts;
  std::int64_t first = 0;
  std::int64_t n = 0;
  for (int rank = 0; rank < p; ++rank) {
    counts.push_back(rank % 3);
    first += rank < world.rank() ? counts.back() : 0;
    n += counts.back();
  }
  const std::vector<double> in = rounding_values<double>(world.rank(), n);
  std::vector<double> mine(static_cast<std::size_t>(world.rank() % 3));
  world.reduce_scatter(std::span<const double>(in), std::span(mine), counts, ReduceOp::kSum);
  for (std::size_t i = 0; i < mine.size(); ++i) {
    ASSERT_EQ(mine[i], tree_sum_over_ranks<double>({0, p}, first + static_cast<std::int64_t>(i)));
  }
  std::vector<double> all(in.size());
  world.allgather(std::span<const double>(mine), std::span(all), counts);
  expect_tree_sums(all, p);
}

SUPERSTEP_WORLD_TEST(ManyLanes, AggregateAndHaltTogether) {
  Aggregator<double> sum(world);
  sum.add(rounding_value<double>(world.rank(), 0));
  world.vote_to_halt();
  world.sync();
  EXPECT_EQ(sum.value(), tree_sum_over_ranks<double>({0, world.size()}, 0));
  EXPECT_TRUE(world.all_halted());
}

}  // namespace
}  // namespace superstep::bsp

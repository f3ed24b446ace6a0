// Aggregators: what all ranks added is there after the next sync(), with the same bits everywhere;
// and votes to halt.
#include "bsp/aggregator.h"

#include <cstdint>
#include <vector>

#include "bsp/queue.h"
#include "bsp/slot_tree.h"
#include "bsp/var.h"
#include "tests/support/spmd_fixture.h"

namespace superstep::bsp {
namespace {

float addend(int rank) {
  return 1.0F / static_cast<float>(3 + rank * 7);
}

float tree_sum(SlotRange ranks) {
  if (ranks.length() == 1) {
    return addend(ranks.begin);
  }
  const int middle = split_point(ranks);
  return tree_sum({ranks.begin, middle}) + tree_sum({middle, ranks.end});
}

SUPERSTEP_WORLD_TEST_ON_NODES(Aggregator, AddsAlongTheTreeOverRanks) {
  Aggregator<float> sum(world);
  EXPECT_FALSE(sum.has_value());
  for (int superstep = 0; superstep < 3; ++superstep) {
    sum.add(addend(world.rank()));
    world.sync();
    ASSERT_TRUE(sum.has_value());
    EXPECT_EQ(sum.value(), tree_sum({0, world.size()}));
  }
  world.sync();
  EXPECT_FALSE(sum.has_value());
}

SUPERSTEP_WORLD_TEST_ON_NODES(Aggregator, LeavesOutRanksThatAddNothing) {
  Aggregator<int, Maximum> largest(world);
  Aggregator<int, Minimum> smallest(world);
  const int last = world.size() - 1;
  if (world.rank() == last) {
    largest.add(-5);
    largest.add(-9);
    smallest.add(4);
    smallest.add(8);
  }
  world.sync();
  EXPECT_EQ(largest.value(), -5);
  EXPECT_EQ(smallest.value(), 4);
}

struct Moments {
  double sum = 0.0;
  std::int64_t count = 0;
};
struct AddMoments {
  Moments operator()(const Moments& left, const Moments& right) const {
    return {left.sum + right.sum, left.count + right.count};
  }
};

SUPERSTEP_WORLD_TEST_ON_NODES(Aggregator, CombinesValuesOfSeveralFields) {
  Aggregator<Moments, AddMoments> mean(world);
  for (int i = 0; i <= world.rank(); ++i) {
    mean.add({2.0, 1});
  }
  world.sync();
  EXPECT_EQ(mean.value().count, world.size() * (world.size() + 1) / 2);
  EXPECT_EQ(mean.value().sum, 2.0 * static_cast<double>(mean.value().count));
}

SUPERSTEP_WORLD_TEST_ON_NODES(Halting, TakesTheVotesOfAllRanks) {
  EXPECT_FALSE(world.all_halted());
  if (world.rank() != 0) {
    world.vote_to_halt();
  }
  world.sync();
  EXPECT_EQ(world.all_halted(), false);  // rank 0 did not vote
  world.vote_to_halt();
  world.sync();
  EXPECT_TRUE(world.all_halted());
  world.sync();
  EXPECT_FALSE(world.all_halted());  // a vote holds for one superstep
}

SUPERSTEP_WORLD_TEST_ON_NODES(Halting, IsPutOffByMessagesButNotByAggregators) {
  Queue<int> queue(world);
  Var<int> var(world);
  Aggregator<int> sum(world);
  world.vote_to_halt();
  if (world.rank() == world.size() - 1) {
    queue.send(0, 1);
  }
  world.sync();
  EXPECT_FALSE(world.all_halted());
  world.vote_to_halt();
  if (world.rank() == 0) {
    var(world.size() - 1) = 3;
  }
  world.sync();
  EXPECT_FALSE(world.all_halted());
  world.vote_to_halt();
  sum.add(1);
  world.sync();
  EXPECT_TRUE(world.all_halted());
  EXPECT_EQ(sum.value(), world.size());
}

// A token goes around; everybody votes all the time, and the job ends when it stays where it is.
SUPERSTEP_WORLD_TEST_ON_NODES(Halting, EndsALoopOfMessagesOnAllRanksAtTheSameSuperstep) {
  Queue<int> token(world);
  if (world.rank() == 0) {
    token.send(world.next_rank(), 2 * world.size());
  }
  world.sync();
  int supersteps = 0;
  while (!world.all_halted()) {
    ASSERT_LT(supersteps, 100);
    for (const Queue<int>::Message message : token) {
      if (message.values[0] > 0) {
        token.send(world.next_rank(), message.values[0] - 1);
      }
    }
    world.vote_to_halt();
    world.sync();
    ++supersteps;
  }
  EXPECT_EQ(supersteps, 2 * world.size() + 1);
}

}  // namespace
}  // namespace superstep::bsp

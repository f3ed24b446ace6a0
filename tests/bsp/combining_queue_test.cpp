#include "bsp/combining_queue.h"

#include <cstdint>
#include <vector>

#include "base/error.h"
#include "bsp/aggregator.h"
#include "tests/support/spmd_fixture.h"

namespace superstep::bsp {
namespace {

SUPERSTEP_WORLD_TEST_ON_NODES(CombiningQueue, DeliversOneEntryPerKey) {
  CombiningQueue<std::int64_t> queue(world);
  EXPECT_TRUE(queue.empty());
  // Every rank sends 1, 2, 3 to key k of rank k % p, ten keys, in falling order.
  for (int value = 1; value <= 3; ++value) {
    for (std::int64_t key = 9; key >= 0; --key) {
      queue.send(static_cast<int>(key % world.size()), key, value);
    }
  }
  world.sync();
  std::int64_t expected_key = world.rank();
  for (const auto& [key, value] : queue) {
    EXPECT_EQ(key, expected_key);
    EXPECT_EQ(value, 6 * world.size());
    expected_key += world.size();
  }
  EXPECT_GE(expected_key, 10);
  world.sync();
  EXPECT_TRUE(queue.empty());
}

SUPERSTEP_WORLD_TEST_ON_NODES(CombiningQueue, SendsOneEntryPerKeyHoweverManyValues) {
  CombiningQueue<double, Maximum> queue(world);
  const auto bytes_for = [&](int values) {
    const std::uint64_t before = world.traffic().bytes_sent;
    for (int i = 0; i < values; ++i) {
      queue.send(world.next_rank(), 5, static_cast<double>(i));
    }
    world.sync();
    EXPECT_EQ(queue.size(), 1);
    EXPECT_EQ(queue.begin()->value, values - 1.0);
    return world.traffic().bytes_sent - before;
  };
  EXPECT_EQ(bytes_for(1), bytes_for(1'000));
}

// The last value in rank order wins: the order of combination is defined.
struct Last {
  int operator()(int /*left*/, int right) const { return right; }
};

SUPERSTEP_WORLD_TEST_ON_NODES(CombiningQueue, CombinesInTheOrderSentAndInRankOrder) {
  CombiningQueue<int, Last> queue(world);
  queue.send(0, -3, 1'000);
  queue.send(0, -3, world.rank());
  world.sync();
  if (world.rank() == 0) {
    ASSERT_EQ(queue.size(), 1);
    EXPECT_EQ(queue.begin()->key, -3);
    EXPECT_EQ(queue.begin()->value, world.size() - 1);
  }
}

SUPERSTEP_WORLD_TEST(CombiningQueue, RefusesRanksThatDoNotExist) {
  CombiningQueue<int> queue(world);
  EXPECT_THROW(queue.send(world.size(), 0, 1), InvalidArgument);
  EXPECT_THROW(queue.send(-1, 0, 1), InvalidArgument);
  world.sync();
}

}  // namespace
}  // namespace superstep::bsp

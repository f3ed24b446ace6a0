// Var, Coarray and Queue: what is visible when.
#include <cstdint>
#include <optional>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "bsp/coarray.h"
#include "bsp/queue.h"
#include "bsp/var.h"
#include "tests/support/spmd_fixture.h"

namespace superstep::bsp {
namespace {

SUPERSTEP_WORLD_TEST_ON_NODES(Var, ShowsRemoteWritesAfterSync) {
  Var<int> x(world, -1);
  x(world.next_rank()) = world.rank();
  EXPECT_EQ(*x, -1);
  world.sync();
  EXPECT_EQ(*x, (world.rank() + world.size() - 1) % world.size());
}

SUPERSTEP_WORLD_TEST_ON_NODES(Var, ReadsBeforeItWrites) {
  Var<double> x(world, 10.0 * world.rank());
  const Future<double> before = x(world.next_rank()).get();
  x(world.next_rank()) = 1.0;
  EXPECT_FALSE(before.is_ready());
  EXPECT_THROW(before.value(), CheckFailure);
  world.sync();
  EXPECT_EQ(before.value(), 10.0 * world.next_rank());
  EXPECT_EQ(*x, 1.0);
}

SUPERSTEP_WORLD_TEST_ON_NODES(Var, KeepsTheWriteOfTheHighestRank) {
  Var<int> x(world);
  for (int rank = 0; rank < world.size(); ++rank) {
    x(rank) = -1;
    x(rank) = world.rank();
  }
  world.sync();
  EXPECT_EQ(*x, world.size() - 1);
}

SUPERSTEP_WORLD_TEST(Var, CopiesTheValueAtTheCall) {
  Var<int> x(world);
  int mine = 5;
  x(world.next_rank()) = mine;
  mine = 6;
  world.sync();
  EXPECT_EQ(*x, 5);
}

SUPERSTEP_WORLD_TEST(Var, RefusesRanksThatDoNotExist) {
  Var<int> x(world);
  EXPECT_THROW(x(world.size()), InvalidArgument);
  EXPECT_THROW(x(-1), InvalidArgument);
}

SUPERSTEP_WORLD_TEST_ON_NODES(Coarray, PutsElementsAndRanges) {
  const int p = world.size();
  Coarray<float> array(world, 4 * p);
  const std::vector<float> values{1.0F, 2.0F, 3.0F};
  for (int rank = 0; rank < p; ++rank) {
    array(rank)[4 * world.rank()] = static_cast<float>(world.rank());
    array(rank)[{4 * world.rank() + 1, 4 * world.rank() + 4}] = std::span<const float>(values);
  }
  world.sync();
  for (int rank = 0; rank < p; ++rank) {
    const auto part = array.local().subspan(static_cast<std::size_t>(4 * rank), 4);
    EXPECT_EQ(part[0], static_cast<float>(rank));
    EXPECT_EQ(part[1], 1.0F);
    EXPECT_EQ(part[3], 3.0F);
  }
}

SUPERSTEP_WORLD_TEST_ON_NODES(Coarray, GetsRangesOfArraysOfDifferentSizes) {
  Coarray<std::int16_t> array(world, world.rank() + 2);
  for (std::size_t i = 0; i < array.local().size(); ++i) {
    array.local()[i] = static_cast<std::int16_t>(100 * world.rank() + static_cast<int>(i));
  }
  const int neighbour = world.next_rank();
  EXPECT_EQ(array.size(neighbour), neighbour + 2);
  const auto all = array(neighbour)[{0, neighbour + 2}].get();
  const auto none = array(neighbour)[{1, 1}].get();
  const auto last = array(neighbour)[neighbour + 1].get();
  world.sync();
  ASSERT_EQ(all.values().size(), static_cast<std::size_t>(neighbour + 2));
  EXPECT_EQ(all.values()[1], 100 * neighbour + 1);
  EXPECT_TRUE(none.values().empty());
  EXPECT_EQ(last.value(), 100 * neighbour + neighbour + 1);
}

SUPERSTEP_WORLD_TEST(Coarray, RefusesElementsOutOfRange) {
  Coarray<int> array(world, 3);
  EXPECT_THROW(array(0)[3], InvalidArgument);
  EXPECT_THROW(array(0)[-1], InvalidArgument);
  EXPECT_THROW((array(0)[{2, 4}]), InvalidArgument);
  const std::vector<int> two(2);
  EXPECT_THROW((array(0)[{0, 3}] = std::span<const int>(two)), InvalidArgument);
  world.sync();
}

// A ring: every rank's block goes to the next one, straight between the two memories.
SUPERSTEP_WORLD_TEST_ON_NODES(Coarray, MovesUnbufferedPutsAndGets) {
  for (const std::int64_t n : {std::int64_t{1}, std::int64_t{world.size()}, std::int64_t{10'000}}) {
    Coarray<double> array(world, 2 * n);
    std::vector<double> block(static_cast<std::size_t>(n), world.rank() + 0.5);
    std::vector<double> fetched(block.size(), -1.0);
    const int previous = (world.rank() + world.size() - 1) % world.size();
    array.local()[0] = 100.0 + world.rank();
    array(world.next_rank())[{n, 2 * n}].put_unbuffered(block);
    array(previous)[{0, n}].get_into(fetched);
    const auto buffered = array(previous)[0].get();
    world.sync();
    for (std::int64_t i = n; i < 2 * n; ++i) {
      ASSERT_EQ(array.local()[static_cast<std::size_t>(i)], previous + 0.5);
    }
    EXPECT_EQ(fetched.front(), 100.0 + previous);
    EXPECT_EQ(buffered.value(), 100.0 + previous);
    EXPECT_EQ(fetched.back(), n == 1 ? 100.0 + previous : 0.0);
  }
}

// hpget reads before anything is written; buffered puts are written over unbuffered ones.
SUPERSTEP_WORLD_TEST_ON_NODES(Coarray, OrdersUnbufferedPutsBeforeBufferedOnesAndGetsBeforeBoth) {
  Coarray<int> array(world, 2);
  array.local()[0] = 7;
  const std::vector<int> zeros = {-1, -2};
  std::vector<int> before(2, -9);
  array(world.next_rank())[0] = 30;
  array(world.next_rank())[{0, 2}].put_unbuffered(zeros);
  array(world.next_rank())[{0, 2}].get_into(before);
  world.sync();
  EXPECT_EQ(array.local()[0], 30);
  EXPECT_EQ(array.local()[1], -2);
  EXPECT_EQ(before[0], 7);
  EXPECT_EQ(before[1], 0);
}

SUPERSTEP_WORLD_TEST(Coarray, MovesUnbufferedPutsOfOneRankOnly) {
  Coarray<int> array(world, world.size());
  const std::vector<int> mine = {41};
  if (world.rank() == world.size() - 1) {
    for (int to = 0; to < world.size(); ++to) {
      array(to)[{to, to + 1}].put_unbuffered(mine);
    }
  }
  world.sync();
  EXPECT_EQ(array.local()[static_cast<std::size_t>(world.rank())], 41);
  std::vector<int> two(2);
  EXPECT_THROW((array(0)[{0, 1}].put_unbuffered(two)), InvalidArgument);
  EXPECT_THROW((array(0)[{0, 1}].get_into(two)), InvalidArgument);
  world.sync();
}

SUPERSTEP_WORLD_TEST_ON_NODES(Queue, DeliversByRankAndInTheOrderSent) {
  Queue<std::int32_t> queue(world);
  for (int to = 0; to < world.size(); ++to) {
    for (int i = 0; i < 3; ++i) {
      const std::vector<std::int32_t> values(static_cast<std::size_t>(i), 100 * world.rank() + i);
      queue.send(to, values);
    }
  }
  EXPECT_TRUE(queue.empty());
  world.sync();
  ASSERT_EQ(queue.size(), 3 * world.size());
  int i = 0;
  for (const Queue<std::int32_t>::Message message : queue) {
    EXPECT_EQ(message.source, i / 3);
    ASSERT_EQ(message.values.size(), static_cast<std::size_t>(i % 3));
    for (const std::int32_t value : message.values) {
      EXPECT_EQ(value, 100 * message.source + i % 3);
    }
    ++i;
  }
  world.sync();
  EXPECT_TRUE(queue.empty());
}

SUPERSTEP_WORLD_TEST(Queue, WorksWhenOnlyOneRankSends) {
  Queue<double> queue(world);
  if (world.rank() == world.size() - 1) {
    queue.send(0, 2.5);
  }
  world.sync();
  EXPECT_EQ(queue.size(), world.rank() == 0 ? 1 : 0);
  if (world.rank() == 0) {
    EXPECT_EQ(queue[0].values[0], 2.5);
    EXPECT_EQ(queue[0].source, world.size() - 1);
  }
}

SUPERSTEP_WORLD_TEST(Messages, OfSeveralObjectsTravelTogether) {
  Var<int> x(world);
  Coarray<double> array(world, 2);
  Queue<char> queue(world);
  std::optional<Var<int>> gone;
  gone.emplace(world, 3);
  gone.reset();
  Var<int> y(world);
  x(world.next_rank()) = 1;
  array(world.next_rank())[1] = 2.0;
  queue.send(world.next_rank(), 'q');
  y(world.next_rank()) = 4;
  world.sync();
  EXPECT_EQ(*x, 1);
  EXPECT_EQ(array.local()[1], 2.0);
  EXPECT_EQ(queue[0].values[0], 'q');
  EXPECT_EQ(*y, 4);
}

}  // namespace
}  // namespace superstep::bsp

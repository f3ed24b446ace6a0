// Tests that fail on purpose, one way each; spmd_fixture_test.py runs them and reads what they say.
#include <chrono>
#include <stdexcept>

#include "tests/support/spmd_fixture.h"

namespace superstep::testing {
namespace {

SUPERSTEP_WORLD_TEST(Failing, ExpectOnTheLastRank) {
  EXPECT_NE(world.rank(), world.size() - 1) << "the last rank says so";
}

SUPERSTEP_WORLD_TEST(Failing, AssertOnTheLastRankBeforeACollective) {
  ASSERT_NE(world.rank(), world.size() - 1) << "the last rank stops here";
  world.sync();
}

SUPERSTEP_WORLD_TEST(Failing, ExceptionOnTheLastRank) {
  if (world.rank() == world.size() - 1) {
    throw std::runtime_error("thrown by the last rank");
  }
  world.sync();
}

SUPERSTEP_WORLD_TEST(Failing, CollectiveExpectation) {
  EXPECT_ON_ALL_RANKS(world, world.rank() != 1);
}

SUPERSTEP_WORLD_TEST(Passing, OnEveryRank) {
  EXPECT_ON_ALL_RANKS(world, world.size() >= 2);
}

}  // namespace
}  // namespace superstep::testing

// SharedArray: one memory per sharing level.
#include "bsp/shared_array.h"

#include <cstdint>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <sys/statvfs.h>

#include "base/error.h"
#include "tests/support/spmd_fixture.h"

namespace superstep::bsp {
namespace {

void expect_shared(World& world, Level level) {
  SharedArray<std::int32_t> array(world, world.size() * 100, level);
  ASSERT_EQ(array.size(), world.size() * 100);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(array.span().data()) % 64, 0U);
  for (const std::int32_t value : array.span()) {
    ASSERT_EQ(value, 0);
  }
  world.sync();
  array.span()[static_cast<std::size_t>(world.rank() * 100 + 7)] = world.rank() + 1;
  world.sync();
  const auto sharing = world.ranks_at(level);
  for (int rank = 0; rank < world.size(); ++rank) {
    const bool shares = std::find(sharing.begin(), sharing.end(), rank) != sharing.end();
    EXPECT_EQ(array.span()[static_cast<std::size_t>(rank * 100 + 7)], shares ? rank + 1 : 0)
        << "rank " << rank;
  }
  world.sync();
}

SUPERSTEP_WORLD_TEST_ON_NODES(SharedArray, IsOneMemoryForTheRanksOfANode) {
  expect_shared(world, Level::kNode);
}

SUPERSTEP_WORLD_TEST_ON_NODES(SharedArray, IsOneMemoryForTheRanksOfAProcess) {
  expect_shared(world, Level::kProcess);
}

SUPERSTEP_WORLD_TEST(SharedArray, SpansTheWorldOnOneNode) {
  expect_shared(world, Level::kWorld);
}

SUPERSTEP_WORLD_TEST_ON_NODES(SharedArray, OfTheWorldNeedsOneNode) {
  if (world.num_nodes() > 1) {
    EXPECT_THROW(SharedArray<float>(world, 1, Level::kWorld), InvalidArgument);
  } else {
    EXPECT_EQ(SharedArray<float>(world, 1, Level::kWorld).size(), 1);
  }
  world.sync();
}

SUPERSTEP_WORLD_TEST(SharedArray, HasTheSameAddressInEveryLaneOfAProcess) {
  const SharedArray<double> array(world, 10, Level::kProcess);
  const auto addresses = world.allgather(reinterpret_cast<std::uint64_t>(array.span().data()));
  for (const int rank : world.ranks_at(Level::kProcess)) {
    EXPECT_EQ(addresses[static_cast<std::size_t>(rank)],
              addresses[static_cast<std::size_t>(world.rank())]);
  }
}

SUPERSTEP_WORLD_TEST(SharedArray, MayBeEmptyAndMoved) {
  SharedArray<double> empty(world, 0);
  EXPECT_TRUE(empty.span().empty());
  SharedArray<double> array(world, world.size());
  array.span()[static_cast<std::size_t>(world.rank())] = 2.0;
  empty = std::move(array);
  EXPECT_EQ(empty.span()[static_cast<std::size_t>(world.rank())], 2.0);
  world.sync();
}

SUPERSTEP_WORLD_TEST(SharedArray, RefusesNegativeAndDifferentSizesOnEveryRank) {
  EXPECT_THROW(SharedArray<float>(world, -1), InvalidArgument);
  if (world.size() > 1) {
    try {
      const SharedArray<float> array(world, world.rank() == 0 ? 1 : 2);
      ADD_FAILURE() << "ranks with different sizes shared an array";
    } catch (const InvalidArgument& error) {
      const std::string text = error.what();
      EXPECT_EQ(text.find("[SharedBytes]"), text.rfind("[SharedBytes]")) << text;
    }
  }
  world.sync();
}

// Processes need /dev/shm; lanes of one process need only address space.
SUPERSTEP_WORLD_TEST(SharedArray, SaysHowMuchSharedMemoryIsMissing) {
  struct statvfs status {};
  ASSERT_EQ(statvfs("/dev/shm", &status), 0);
  const auto free = static_cast<std::int64_t>(status.f_bavail * status.f_frsize);
  const std::int64_t too_much =
      world.num_processes() > 1 ? free + (std::int64_t{1} << 30) : std::int64_t{1} << 60;
  try {
    const SharedArray<std::uint8_t> array(world, too_much, Level::kNode);
    ADD_FAILURE() << "a mapping of " << too_much << " bytes was made";
  } catch (const InvalidArgument& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kUsage);
    EXPECT_THAT(
        error.what(),
        ::testing::HasSubstr("needed " + std::to_string((too_much + 63) / 64 * 64) + " bytes"));
    if (world.num_processes() > 1) {
      EXPECT_THAT(error.what(), ::testing::HasSubstr("/dev/shm"));
    }
  }
  const SharedArray<std::uint8_t> small(world, 10, Level::kNode);  // the world is still usable
  EXPECT_EQ(small.size(), 10);
}

}  // namespace
}  // namespace superstep::bsp

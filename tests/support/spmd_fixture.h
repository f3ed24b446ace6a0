// GoogleTest for SPMD code: a test body that runs on every rank of a world.
//
//   SUPERSTEP_WORLD_TEST(Allreduce, SumsOverRanks) {
//     EXPECT_EQ(world.allreduce(1, bsp::ReduceOp::kSum), world.size());
//     EXPECT_ON_ALL_RANKS(world, world.size() > 0);
//   }
//
// The program links superstep_spmd_test_main and is registered by superstep_add_world_test, which
// runs it over lanes, processes and both; it fails when the world it finds has another size than
// the registration says (SUPERSTEP_TEST_LANES, SUPERSTEP_TEST_RANKS). Every test gets a new world.
//
// Rules of the failure protocol:
// - EXPECT_* and ASSERT_* may be used on any rank; a failure names its rank and fails the test on
//   every rank. A failed ASSERT_* or an exception ends the body on that rank; the other ranks are
//   released: lanes at once (the next test runs), processes by ending the program.
// - EXPECT_ON_ALL_RANKS and ASSERT_ON_ALL_RANKS are collective: every rank must reach them.
// - A rank that does not arrive ends the test after kTestDeadline with a report that names it.
#pragma once

#include <chrono>
#include <string>

#include <gtest/gtest.h>

#include "bsp/environment.h"
#include "bsp/world.h"

namespace superstep::testing {

// Below the time-out of a ctest entry, so that the report wins.
inline constexpr std::chrono::milliseconds kTestDeadline{20'000};

using WorldBody = void (*)(bsp::World&);

// The lanes of this program's worlds, the test deadline and the build's default checks.
bsp::EnvironmentOptions test_options();

// Runs `body` on every rank of a new world and turns what goes wrong on any rank into failures of
// the current test. Collective over processes; call it from a test body, outside of any world.
void run_on_every_rank(WorldBody body, const bsp::EnvironmentOptions& options = test_options());
// Once with nodes as they are and once with every rank a node of its own and every call checked.
void run_on_every_node_layout(WorldBody body);

// Collective: success when `mine` holds on every rank, else a text that names the failing ranks.
::testing::AssertionResult holds_on_all_ranks(bsp::World& world, bool mine);

}  // namespace superstep::testing

#define SUPERSTEP_WORLD_TEST_BODY_(suite, name) suite##_##name##_on_every_rank

#define SUPERSTEP_WORLD_TEST_RUN_(suite, name, runner)                                  \
  static void SUPERSTEP_WORLD_TEST_BODY_(suite, name)(::superstep::bsp::World & world); \
  TEST(suite, name) {                                                                   \
    ::superstep::testing::runner(&SUPERSTEP_WORLD_TEST_BODY_(suite, name));             \
  }                                                                                     \
  static void SUPERSTEP_WORLD_TEST_BODY_(suite,                                         \
                                         name)([[maybe_unused]] ::superstep::bsp::World & world)

// The body sees `world`.
#define SUPERSTEP_WORLD_TEST(suite, name) SUPERSTEP_WORLD_TEST_RUN_(suite, name, run_on_every_rank)
// As above, but run twice: the second time every rank is a node of its own and every call checked.
#define SUPERSTEP_WORLD_TEST_ON_NODES(suite, name) \
  SUPERSTEP_WORLD_TEST_RUN_(suite, name, run_on_every_node_layout)

#define EXPECT_ON_ALL_RANKS(world, condition)                                                  \
  EXPECT_TRUE(::superstep::testing::holds_on_all_ranks((world), static_cast<bool>(condition))) \
      << "  condition: " #condition
#define ASSERT_ON_ALL_RANKS(world, condition)                                                  \
  ASSERT_TRUE(::superstep::testing::holds_on_all_ranks((world), static_cast<bool>(condition))) \
      << "  condition: " #condition

// The fit is exact for exact lines; the sweep's samples are what was counted.
#include "bsp/probe.h"

#include <cstdint>
#include <vector>

#include "base/error.h"
#include "tests/support/spmd_fixture.h"

namespace superstep::bsp {
namespace {

TEST(FitRelative, FindsAnExactLine) {
  const std::vector<double> x = {8.0, 64.0, 4'096.0, 1e6};
  std::vector<double> y;
  for (const double value : x) {
    y.push_back(2e-9 * value + 5e-6);
  }
  const LinearFit line = fit_relative(x, y);
  EXPECT_NEAR(line.slope, 2e-9, 1e-17);
  EXPECT_NEAR(line.intercept, 5e-6, 1e-14);
}

// Doubling one time of microseconds moves the fit as much as doubling one of milliseconds.
TEST(FitRelative, WeighsErrorsByTheirRatio) {
  const std::vector<double> x = {1.0, 2.0, 1e6, 2e6};
  const LinearFit line = fit_relative(x, std::vector<double>{1.0, 1.0, 1e3, 2e3});
  EXPECT_NEAR(line.slope, 1e-3, 2e-6);
  EXPECT_NEAR(line.intercept, 1.0, 2e-2);
}

TEST(FitRelative, NeverGivesNegativeParameters) {
  const std::vector<double> x = {1.0, 10.0, 100.0};
  const LinearFit falling = fit_relative(x, std::vector<double>{3.0, 2.0, 1.0});
  EXPECT_EQ(falling.slope, 0.0);
  EXPECT_GT(falling.intercept, 0.0);
  const LinearFit through = fit_relative(x, std::vector<double>{0.5, 10.0, 110.0});
  EXPECT_GE(through.intercept, 0.0);
  EXPECT_GT(through.slope, 0.0);
}

SUPERSTEP_WORLD_TEST_ON_NODES(Probe, SweepsFullRelationsOfTheSizesAskedFor) {
  for (const ProbePattern pattern :
       {ProbePattern::kPuts, ProbePattern::kUnbufferedPuts, ProbePattern::kSends}) {
    const MachineProfile profile = probe(world, {.pattern = pattern,
                                                 .smallest_bytes = 1'000,
                                                 .largest_bytes = 4'000,
                                                 .rounds = 3,
                                                 .seconds_per_sample = 1e-4});
    // Between processes that share a busy processor the line may go through the origin.
    EXPECT_GE(profile.l, 0.0);
    EXPECT_GE(profile.g, 0.0);
    EXPECT_GT(profile.l + profile.g, 0.0);
    if (world.size() == 1) {
      EXPECT_TRUE(profile.samples.empty());
      continue;
    }
    ASSERT_EQ(profile.samples.size(), 3U);
    for (std::size_t i = 0; i < profile.samples.size(); ++i) {
      // Payload, a record and a stream's length to each other rank.
      const std::int64_t others = world.size() - 1;
      const std::int64_t payload = (std::int64_t{1'000} << i) / others * others;
      EXPECT_EQ(profile.samples[i].h_bytes, static_cast<double>(payload + (24 + 8) * others));
      EXPECT_GT(profile.samples[i].seconds, 0.0);
    }
    // The same on all ranks: predictions are.
    EXPECT_EQ(world.allreduce(profile.g, ReduceOp::kMax), profile.g);
    EXPECT_EQ(world.allreduce(profile.l, ReduceOp::kMin), profile.l);
  }
}

SUPERSTEP_WORLD_TEST(Probe, RefusesASweepOfNothing) {
  EXPECT_THROW(probe(world, {.smallest_bytes = 100, .largest_bytes = 10}), InvalidArgument);
}

}  // namespace
}  // namespace superstep::bsp

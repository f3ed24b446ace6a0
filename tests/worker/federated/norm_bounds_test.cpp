#include "worker/federated/norm_bounds.h"

#include <cmath>
#include <string>

#include <gmock/gmock.h>

#include "base/error.h"
#include "tests/support/error_text.h"

namespace superstep::worker {
namespace {

using testing::error_text;
using ::testing::HasSubstr;

NormBounds bounds_of(const NormOptions& options) {
  return {options, 16.0, 10'000, 5};
}

TEST(NormBounds, FlatOnesClipAndLeaveOut) {
  NormBounds bounds = bounds_of({.zeroing = {.kind = NormBound::kFlat, .norm = 3.0},
                                 .clipping = {.kind = NormBound::kFlat, .norm = 2.0}});
  EXPECT_EQ(bounds.judge(1.0, 2.0).factor, 1.0);
  EXPECT_EQ(bounds.judge(1.0, 8.0).factor, 0.25);
  EXPECT_EQ(bounds.judge(3.0, 4.0).factor, 0.5);
  EXPECT_EQ(bounds.judge(3.5, 4.0).factor, 0.0);
  bounds.move(-1000 * kHalfCount, -1000 * kHalfCount, 1000);
  EXPECT_EQ(bounds.bounds().zeroing, 3.0);
  EXPECT_EQ(bounds.bounds().clipping, 2.0);
}

TEST(NormBounds, OneAloneLeavesTheOtherOut) {
  const NormBounds zeroing = bounds_of({.zeroing = {.kind = NormBound::kFlat, .norm = 3.0}});
  EXPECT_EQ(zeroing.judge(2.0, 1e6).factor, 1.0);
  EXPECT_EQ(zeroing.bounds().clipping, std::nullopt);
  const NormBounds clipping = bounds_of({.clipping = {.kind = NormBound::kFlat, .norm = 3.0}});
  EXPECT_EQ(clipping.judge(1e6, 6.0).factor, 0.5);
  EXPECT_EQ(clipping.bounds().zeroing, std::nullopt);
}

// Norms are uniform in [0, 2], and their largest elements a tenth of them.
TEST(NormBounds, AdaptiveOnesFindTheirQuantiles) {
  NormBounds bounds =
      bounds_of({.zeroing = {.kind = NormBound::kAdaptive, .norm = 10.0, .quantile = 0.98},
                 .clipping = {.kind = NormBound::kAdaptive, .norm = 8.0, .quantile = 0.8}});
  constexpr int kClients = 1000;
  for (int round = 0; round < 300; ++round) {
    std::int64_t zeroing = 0;
    std::int64_t clipping = 0;
    for (int client = 0; client < kClients; ++client) {
      const double norm = 2.0 * (client + 0.5) / kClients;
      const NormVerdict verdict = bounds.judge(0.1 * norm, norm);
      zeroing += verdict.is_within_zeroing ? kHalfCount : -kHalfCount;
      clipping += verdict.is_within_clipping ? kHalfCount : -kHalfCount;
    }
    bounds.move(zeroing, clipping, kClients);
  }
  EXPECT_NEAR(*bounds.bounds().clipping, 1.6, 0.01);
  EXPECT_NEAR(*bounds.bounds().zeroing, 2.0 * 0.196 + 1.0, 0.01);
}

// As far as the largest update that the ring holds, and never to 0.
TEST(NormBounds, AdaptiveOnesStayBetweenTheirEnds) {
  NormBounds bounds = bounds_of(
      {.zeroing = {.kind = NormBound::kAdaptive}, .clipping = {.kind = NormBound::kAdaptive}});
  for (int round = 0; round < 1000; ++round) {
    bounds.move(-kHalfCount, -kHalfCount, 1);
  }
  EXPECT_EQ(*bounds.bounds().zeroing, 2.0 * 16.0 + 1.0);
  EXPECT_EQ(*bounds.bounds().clipping, 16.0 * 100.0);
  for (int round = 0; round < 1000; ++round) {
    bounds.move(kHalfCount, kHalfCount, 1);
  }
  EXPECT_GT(*bounds.bounds().clipping, 0.0);
}

TEST(NormBounds, NoiseHasItsDeviationAndIsAFunctionOfTheRoundInTests) {
  NormOptions options{.clipping = {.kind = NormBound::kAdaptive},
                      .count_noise = 3.0,
                      .noise_source = NoiseSource::kTest};
  const NormBounds bounds = bounds_of(options);
  constexpr int kDraws = 4000;
  double squares = 0.0;
  for (int round = 0; round < kDraws; ++round) {
    const std::int64_t noise = bounds.clipping_noise(round);
    EXPECT_EQ(noise, bounds.clipping_noise(round));
    EXPECT_EQ(bounds.zeroing_noise(round), 0);  // nothing there follows a quantile
    const double clients = static_cast<double>(noise) / (2.0 * static_cast<double>(kHalfCount));
    squares += clients * clients;
  }
  EXPECT_NEAR(std::sqrt(squares / kDraws), 3.0, 5.0 * 3.0 / std::sqrt(2.0 * kDraws));
  options.noise_source = NoiseSource::kSystem;
  const NormBounds secret = bounds_of(options);
  EXPECT_NE(secret.clipping_noise(1), secret.clipping_noise(1));
}

TEST(NormBounds, RefuseWhatIsNoBound) {
  const auto refusal = [](const NormOptions& options) {
    return error_text<InvalidArgument>([&] { validate(options); });
  };
  EXPECT_THAT(refusal({.zeroing = {.kind = NormBound::kFlat, .norm = 0.0}}),
              HasSubstr("zeroing norm: got 0, expected a number above 0"));
  EXPECT_THAT(refusal({.clipping = {.kind = NormBound::kAdaptive, .quantile = 1.0}}),
              HasSubstr("clipping quantile: got 1, expected a number in (0, 1)"));
  EXPECT_THAT(refusal({.count_noise = -1.0}), HasSubstr("count_noise: got -1"));
}

}  // namespace
}  // namespace superstep::worker

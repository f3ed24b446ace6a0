#include "paramserver/robust_rules.h"

#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/philox.h"
#include "paramserver/layout.h"

namespace superstep::paramserver {
namespace {

using Values = std::vector<std::vector<std::int64_t>>;

std::vector<std::span<const std::int64_t>> rows_of(const Values& values) {
  return {values.begin(), values.end()};
}

TEST(RobustRules, MedianIsTheMiddleOrTheMeanOfTheMiddleTwo) {
  std::vector<double> out(2);
  coordinate_median(rows_of({{5, -1}, {1, 0}, {1000000, 7}}), out);
  EXPECT_EQ(out, (std::vector<double>{5, 0}));
  coordinate_median(rows_of({{5, -1}, {1, 0}, {1000000, 7}, {6, 2}}), out);
  EXPECT_EQ(out, (std::vector<double>{5.5, 1}));
}

TEST(RobustRules, TrimmedMeanLeavesTheEndsOutAndWithoutTrimmingIsTheMean) {
  const Values values = {{10, 0}, {1, 0}, {2, 4}, {-100, 8}, {6, 100}};
  std::vector<double> out(2);
  trimmed_mean(rows_of(values), 1, out);
  EXPECT_EQ(out, (std::vector<double>{3, 4}));
  trimmed_mean(rows_of(values), 0, out);
  EXPECT_DOUBLE_EQ(out[0], -81.0 / 5);
  EXPECT_THROW(trimmed_mean(rows_of({{1}, {2}}), 1, out), InvalidArgument);
  EXPECT_THROW(trimmed_mean(rows_of(values), -1, out), InvalidArgument);
}

TEST(RobustRules, KrumTakesTheUpdateAmongTheCrowd) {
  const Values values = {{0, 0}, {1, 0}, {0, 1}, {1, 1}, {1000, 1000}};
  const std::vector<double> squared = block_distances(rows_of(values));
  ASSERT_EQ(squared.size(), 10U);
  EXPECT_EQ(squared[0], 1.0);          // rows 0 and 1
  EXPECT_EQ(squared[3], 2'000'000.0);  // rows 0 and 4
  EXPECT_EQ(krum(squared, 5, 1, 1), std::vector<int>{0});
  EXPECT_EQ(krum(squared, 5, 1, 4), (std::vector<int>{0, 1, 2, 3}));
  EXPECT_THROW(krum(squared, 5, 2, 1), InvalidArgument);
  EXPECT_THROW(krum(squared, 5, 1, 6), InvalidArgument);
}

TEST(RobustRules, KrumOfIdenticalUpdatesIsThatUpdate) {
  const Values values(4, {3, -7});
  EXPECT_EQ(krum(block_distances(rows_of(values)), 4, 0, 1), std::vector<int>{0});
}

// Weiszfeld iterations as a user of the rules makes them.
TEST(RobustRules, GeometricMedianIgnoresOneFarUpdate) {
  const Values values = {{0, 0}, {10, 0}, {0, 10}, {10, 10}, {1000000, 0}};
  const auto rows = rows_of(values);
  std::vector<double> weights(5, 1.0);
  std::vector<double> center(2);
  for (int iteration = 0; iteration < 200; ++iteration) {
    weighted_mean(rows, weights, center);
    weights = weiszfeld_weights(block_distances(rows, center), 1e-6);
  }
  EXPECT_LT(std::abs(center[0]), 20.0);
  EXPECT_LT(std::abs(center[1]), 20.0);
}

TEST(RobustRules, DistancesOfBlocksDoNotDependOnTheCut) {
  constexpr std::size_t kBlock = kBlockElements;
  Values values(3, std::vector<std::int64_t>(3 * kBlock));
  PhiloxStream stream(1, 2);
  for (std::vector<std::int64_t>& row : values) {
    for (std::int64_t& value : row) {
      value = static_cast<std::int64_t>(stream.below(1U << 30)) - (1 << 29);
    }
  }
  const std::vector<double> whole = block_distances(rows_of(values));
  std::vector<double> parts;
  for (const auto& [first, count] : {std::pair{std::size_t{0}, kBlock}, {kBlock, 2 * kBlock}}) {
    std::vector<std::span<const std::int64_t>> rows;
    for (const std::vector<std::int64_t>& row : values) {
      rows.push_back(std::span<const std::int64_t>(row).subspan(first, count));
    }
    const std::vector<double> part = block_distances(rows);
    parts.insert(parts.end(), part.begin(), part.end());
  }
  EXPECT_EQ(whole, parts);
}

}  // namespace
}  // namespace superstep::paramserver

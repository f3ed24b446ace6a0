#include "worker/slot_placement.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

namespace superstep::worker {
namespace {

std::vector<std::int64_t> counts_of(const std::vector<int>& placement, int num_ranks) {
  std::vector<std::int64_t> counts;
  for (int rank = 0; rank < num_ranks; ++rank) {
    counts.push_back(std::count(placement.begin(), placement.end(), rank));
  }
  return counts;
}

TEST(WeightedPlacement, GivesEqualRanksEqualShares) {
  const std::vector<double> equal(4, 2.5);
  const std::vector<int> placement = weighted_placement(16, equal);
  EXPECT_EQ(counts_of(placement, 4), (std::vector<std::int64_t>{4, 4, 4, 4}));
  EXPECT_TRUE(std::is_sorted(placement.begin(), placement.end()));
}

TEST(WeightedPlacement, GivesAHalfAsFastRankHalfAsMuch) {
  EXPECT_EQ(counts_of(weighted_placement(12, std::vector<double>{1.0, 2.0}), 2),
            (std::vector<std::int64_t>{4, 8}));
  EXPECT_EQ(counts_of(weighted_placement(16, std::vector<double>{1.0, 2.0}), 2),
            (std::vector<std::int64_t>{5, 11}));
}

TEST(WeightedPlacement, MayLeaveAVerySlowRankWithoutSlots) {
  EXPECT_EQ(counts_of(weighted_placement(4, std::vector<double>{1.0, 100.0}), 2),
            (std::vector<std::int64_t>{0, 4}));
}

TEST(RandomPlacement, DependsOnTheSeedAndTheSuperstepOnly) {
  EXPECT_EQ(random_placement(1, 5, 64, 4), random_placement(1, 5, 64, 4));
  EXPECT_NE(random_placement(1, 5, 64, 4), random_placement(1, 6, 64, 4));
  EXPECT_NE(random_placement(1, 5, 64, 4), random_placement(2, 5, 64, 4));
}

}  // namespace
}  // namespace superstep::worker

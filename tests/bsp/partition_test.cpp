#include "bsp/partition.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace superstep::bsp {
namespace {

// Every index has one owner and one place there, and global() is the way back.
void expect_consistent(const Partition& partition, const std::string& what) {
  std::int64_t total = 0;
  for (int part = 0; part < partition.num_parts(); ++part) {
    total += partition.count(part);
    for (std::int64_t i = 0; i < partition.count(part); ++i) {
      const std::int64_t index = partition.global(part, i);
      ASSERT_EQ(partition.owner(index), part) << what << " index " << index;
      ASSERT_EQ(partition.local(index), i) << what << " index " << index;
    }
  }
  EXPECT_EQ(total, partition.size()) << what;
}

TEST(Partition, IsConsistentForSizesAroundTheNumberOfParts) {
  for (const int p : {1, 2, 3, 7, 16}) {
    for (const std::int64_t n : {0, 1, p - 1, p, p + 1, 1'000}) {
      const std::string what = std::to_string(n) + " in " + std::to_string(p);
      expect_consistent(Partition::block(n, p), "block " + what);
      expect_consistent(Partition::cyclic(n, p), "cyclic " + what);
      expect_consistent(Partition::balanced(n, p), "balanced " + what);
      std::vector<double> weights(static_cast<std::size_t>(n));
      std::iota(weights.begin(), weights.end(), 0.0);
      expect_consistent(Partition::balanced(weights, p), "weighted " + what);
    }
  }
}

TEST(Partition, BlocksAreOfTheCeilingAndBalancedOnesDifferByOne) {
  const Partition block = Partition::block(10, 4);
  const Partition balanced = Partition::balanced(10, 4);
  const Partition cyclic = Partition::cyclic(10, 4);
  std::vector<std::vector<std::int64_t>> counts(3);
  for (int part = 0; part < 4; ++part) {
    counts[0].push_back(block.count(part));
    counts[1].push_back(balanced.count(part));
    counts[2].push_back(cyclic.count(part));
  }
  EXPECT_THAT(counts[0], ::testing::ElementsAre(3, 3, 3, 1));
  EXPECT_THAT(counts[1], ::testing::ElementsAre(2, 3, 2, 3));
  EXPECT_THAT(counts[2], ::testing::ElementsAre(3, 3, 2, 2));
  EXPECT_EQ(cyclic.owner(6), 2);
  EXPECT_EQ(block.owner(6), 2);
}

TEST(Partition, NoWeightedPartExceedsItsShareByMoreThanOneElement) {
  std::vector<double> weights;
  for (int i = 0; i < 500; ++i) {
    weights.push_back(static_cast<double>(i * 37 % 101) + (i == 250 ? 5'000.0 : 0.0));
  }
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  const double largest = *std::max_element(weights.begin(), weights.end());
  for (const int p : {1, 2, 3, 8, 64}) {
    const Partition partition = Partition::balanced(weights, p);
    for (int part = 0; part < p; ++part) {
      double weight = 0.0;
      for (std::int64_t i = 0; i < partition.count(part); ++i) {
        weight += weights[static_cast<std::size_t>(partition.global(part, i))];
      }
      EXPECT_LE(weight, total / p + largest) << "part " << part << " of " << p;
    }
  }
}

TEST(Partition, RefusesWhatCannotBeDivided) {
  EXPECT_THROW(Partition::block(5, 0), InvalidArgument);
  EXPECT_THROW(Partition::cyclic(-1, 2), InvalidArgument);
  const std::vector<double> weights = {1.0, -2.0};
  EXPECT_THROW(Partition::balanced(weights, 2), InvalidArgument);
}

}  // namespace
}  // namespace superstep::bsp

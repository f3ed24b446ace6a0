#include "bsp/slot_tree.h"

#include <vector>

#include <gtest/gtest.h>

#include "base/check.h"

namespace superstep::bsp {
namespace {

using SlotRanges = std::vector<SlotRange>;

TEST(SlotTree, SplitsAtTheLargestPowerOfTwoBelowTheLength) {
  EXPECT_EQ(split_point({0, 2}), 1);
  EXPECT_EQ(split_point({0, 3}), 2);
  EXPECT_EQ(split_point({0, 4}), 2);
  EXPECT_EQ(split_point({0, 6}), 4);
  EXPECT_EQ(split_point({4, 6}), 5);
  EXPECT_EQ(split_point({0, 9}), 8);
  EXPECT_THROW(split_point({3, 4}), CheckFailure);
}

TEST(SlotTree, FindsMaximalSubtrees) {
  const std::vector<int> all{0, 1, 2, 3, 4, 5};
  EXPECT_EQ(maximal_subtrees(6, all), (SlotRanges{{0, 6}}));
  const std::vector<int> middle{1, 2, 3};
  EXPECT_EQ(maximal_subtrees(6, middle), (SlotRanges{{1, 2}, {2, 4}}));
  const std::vector<int> scattered{0, 2, 4, 5};
  EXPECT_EQ(maximal_subtrees(6, scattered), (SlotRanges{{0, 1}, {2, 3}, {4, 6}}));
  EXPECT_TRUE(maximal_subtrees(6, {}).empty());
}

TEST(SlotTree, RefusesSlotsThatDoNotAscendOrExist) {
  const std::vector<int> twice{1, 1};
  EXPECT_THROW(maximal_subtrees(4, twice), CheckFailure);
  const std::vector<int> beyond{4};
  EXPECT_THROW(maximal_subtrees(4, beyond), CheckFailure);
}

TEST(SlotTree, KeepsContiguousSlotsToLogarithmicallyManySubtrees) {
  for (int num_slots = 1; num_slots <= 70; ++num_slots) {
    for (int begin = 0; begin < num_slots; ++begin) {
      std::vector<int> slots;
      for (int end = begin + 1; end <= num_slots; ++end) {
        slots.push_back(end - 1);
        const SlotRanges ranges = maximal_subtrees(num_slots, slots);
        int covered = begin;
        for (const SlotRange range : ranges) {
          ASSERT_EQ(range.begin, covered);
          covered = range.end;
        }
        ASSERT_EQ(covered, end);
      }
    }
  }
}

TEST(SlotTree, CutsSamplesIntoConsecutiveSlots) {
  const long samples[] = {0, 1, 7, 128, 1'000'000'000'000'000'000};
  for (const long num_samples : samples) {
    for (const int num_slots : {1, 3, 8, 1'000}) {
      long next = 0;
      for (int slot = 0; slot < num_slots; ++slot) {
        const SampleRange range = samples_of_slot(slot, num_slots, num_samples);
        ASSERT_EQ(range.begin, next);
        ASSERT_LE(range.end - range.begin, num_samples / num_slots + 1);
        ASSERT_GE(range.end - range.begin, num_samples / num_slots);
        next = range.end;
      }
      ASSERT_EQ(next, num_samples);
    }
  }
  EXPECT_EQ(samples_of_slot(1, 3, 8).begin, 2);
  EXPECT_EQ(samples_of_slot(2, 3, 8).begin, 5);
}

TEST(SlotTree, PlacesSlotsContiguously) {
  EXPECT_EQ(contiguous_placement(8, 3), (std::vector<int>{0, 0, 1, 1, 1, 2, 2, 2}));
  EXPECT_EQ(contiguous_placement(2, 4), (std::vector<int>{1, 3}));
  EXPECT_TRUE(contiguous_placement(0, 4).empty());
}

}  // namespace
}  // namespace superstep::bsp

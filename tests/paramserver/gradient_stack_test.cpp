#include "paramserver/gradient_stack.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "base/check.h"
#include "base/philox.h"
#include "bsp/slot_tree.h"

namespace superstep::paramserver {
namespace {

constexpr std::int64_t kElements = 2 * kBlockElements;

std::vector<float> gradient_of(int slot) {
  std::vector<float> values(kElements);
  PhiloxStream stream(7, static_cast<std::uint64_t>(slot));
  for (float& value : values) {
    value = stream.uniform() - 0.5F;
  }
  return values;
}

std::vector<float> tree_sum(bsp::SlotRange range) {
  if (range.length() == 1) {
    return gradient_of(range.begin);
  }
  const int middle = bsp::split_point(range);
  std::vector<float> left = tree_sum({range.begin, middle});
  const std::vector<float> right = tree_sum({middle, range.end});
  for (std::size_t i = 0; i < left.size(); ++i) {
    left[i] += right[i];
  }
  return left;
}

void push_all(GradientStack& stack, const std::vector<int>& slots,
              std::span<const ElementRange> buckets) {
  for (const int slot : slots) {
    const std::vector<float> values = gradient_of(slot);
    const std::span<float> memory = stack.reserve(slot);
    std::copy(values.begin(), values.end(), memory.begin());
    int bucket = 0;
    for (const ElementRange range : buckets) {
      stack.push(slot, bucket++,
                 memory.subspan(static_cast<std::size_t>(range.begin),
                                static_cast<std::size_t>(range.length())));
    }
  }
  stack.finish_step();
}

void expect_pieces(int num_slots, const std::vector<int>& slots,
                   std::span<const ElementRange> buckets) {
  std::vector<float> memory(static_cast<std::size_t>(GradientStack::capacity(num_slots, slots)) *
                            kElements);
  GradientStack stack(memory, kElements, buckets, num_slots, slots);
  for (int step = 0; step < 2; ++step) {  // the second step starts from used memory
    push_all(stack, slots, buckets);
    std::size_t piece = 0;
    for (const bsp::SlotRange range : bsp::maximal_subtrees(num_slots, slots)) {
      const std::vector<float> expected = tree_sum(range);
      const std::vector<float> got(
          memory.begin() + static_cast<std::ptrdiff_t>(piece) * kElements,
          memory.begin() + static_cast<std::ptrdiff_t>(piece + 1) * kElements);
      EXPECT_EQ(got, expected) << "piece " << piece << " of " << num_slots << " slots";
      ++piece;
    }
  }
}

// Whole subtrees at once: the pieces are those of slots pushed one by one.
TEST(GradientStack, TakesTheSumOfASubtreeInPlaceOfItsSlots) {
  const std::vector<ElementRange> buckets{{0, kBlockElements}, {kBlockElements, kElements}};
  for (int num_slots = 1; num_slots <= 9; ++num_slots) {
    for (int first = 0; first < num_slots; ++first) {
      std::vector<int> slots(static_cast<std::size_t>(num_slots - first));
      std::iota(slots.begin(), slots.end(), first);
      std::vector<float> memory(
          static_cast<std::size_t>(GradientStack::capacity(num_slots, slots)) * kElements);
      GradientStack stack(memory, kElements, buckets, num_slots, slots);
      std::size_t piece = 0;
      for (const bsp::SlotRange range : bsp::maximal_subtrees(num_slots, slots)) {
        const std::vector<float> sum = tree_sum(range);
        const std::span<float> own = stack.reserve(range);
        std::copy(sum.begin(), sum.end(), own.begin());
        int bucket = 0;
        for (const ElementRange part : buckets) {
          stack.push(range.begin, bucket++,
                     own.subspan(static_cast<std::size_t>(part.begin),
                                 static_cast<std::size_t>(part.length())));
        }
        EXPECT_EQ(own.data(), memory.data() + static_cast<std::ptrdiff_t>(piece++) * kElements);
        EXPECT_EQ(stack.pieces().back().range, range);
      }
      stack.finish_step();
    }
  }
}

TEST(GradientStack, RefusesSlotsThatAreNoSubtree) {
  const std::vector<ElementRange> whole{{0, kElements}};
  const std::vector<int> slots{0, 1, 2, 3};
  std::vector<float> memory(static_cast<std::size_t>(4) * kElements);
  GradientStack stack(memory, kElements, whole, 4, slots);
  EXPECT_THROW(stack.reserve(bsp::SlotRange{0, 3}), CheckFailure);
  EXPECT_THROW(stack.reserve(bsp::SlotRange{1, 3}), CheckFailure);
}

TEST(GradientStack, HoldsMaximalSubtreesOfContiguousSlots) {
  const std::vector<ElementRange> whole{{0, kElements}};
  for (int num_slots = 1; num_slots <= 9; ++num_slots) {
    for (int first = 0; first < num_slots; ++first) {
      std::vector<int> slots(static_cast<std::size_t>(num_slots - first));
      std::iota(slots.begin(), slots.end(), first);
      expect_pieces(num_slots, slots, whole);
    }
  }
}

TEST(GradientStack, HoldsMaximalSubtreesOfScatteredSlots) {
  const std::vector<ElementRange> halves{{0, kBlockElements}, {kBlockElements, kElements}};
  expect_pieces(16, {0, 2, 3, 4, 5, 6, 7, 9, 15}, halves);
  expect_pieces(13, {1, 2, 5, 8, 9, 10, 11, 12}, halves);
}

TEST(GradientStack, NeedsOneMoreBufferThanTheDepthOfContiguousSlots) {
  std::vector<int> slots(16);
  std::iota(slots.begin(), slots.end(), 0);
  EXPECT_EQ(GradientStack::capacity(16, slots), 5);
  EXPECT_EQ(GradientStack::capacity(1, std::vector<int>{0}), 1);
  EXPECT_EQ(GradientStack::capacity(4, std::vector<int>{}), 0);
  EXPECT_EQ(GradientStack::capacity(8, std::vector<int>{0, 2, 4, 6}), 4);
}

// Whatever the order in which slots come, the pieces are the maximal subtrees with the tree's bits.
TEST(GradientStack, HoldsMaximalSubtreesOfSlotsInAnyOrder) {
  const std::vector<ElementRange> halves{{0, kBlockElements}, {kBlockElements, kElements}};
  const std::vector<std::vector<int>> orders{
      {0, 1, 2, 3, 15, 14, 13, 12, 11}, {5, 3, 4, 2, 7, 0, 6, 1}, {8}, {}, {14, 12, 15, 13, 3}};
  std::vector<float> memory(8 * kElements);
  GradientStack stack(memory, kElements, halves, 16, {}, SlotOrder::kAny);
  for (const std::vector<int>& order : orders) {
    push_all(stack, order, halves);
    std::vector<int> slots = order;
    std::sort(slots.begin(), slots.end());
    const std::vector<bsp::SlotRange> ranges = bsp::maximal_subtrees(16, slots);
    ASSERT_EQ(stack.pieces().size(), ranges.size());
    for (std::size_t i = 0; i < ranges.size(); ++i) {
      const GradientStack::Piece piece = stack.pieces()[i];
      EXPECT_EQ(piece.range, ranges[i]);
      const auto begin = memory.begin() + static_cast<std::ptrdiff_t>(piece.buffer) * kElements;
      EXPECT_EQ(std::vector<float>(begin, begin + kElements), tree_sum(ranges[i]));
    }
  }
}

TEST(GradientStack, SaysWhetherThereIsRoom) {
  const std::vector<ElementRange> whole{{0, kElements}};
  std::vector<float> memory(2 * kElements);
  GradientStack stack(memory, kElements, whole, 8, {}, SlotOrder::kAny);
  for (const int slot : {7, 2}) {
    EXPECT_TRUE(stack.has_room());
    stack.push(slot, 0, stack.reserve(slot));
  }
  EXPECT_FALSE(stack.has_room());
  EXPECT_THROW(stack.reserve(5), CheckFailure);
  stack.finish_step();
  EXPECT_TRUE(stack.has_room());
}

TEST(GradientStack, RefusesASlotThatIsComputedTwice) {
  const std::vector<ElementRange> whole{{0, kElements}};
  std::vector<float> memory(4 * kElements);
  GradientStack stack(memory, kElements, whole, 8, {}, SlotOrder::kAny);
  for (const int slot : {3, 2}) {
    stack.push(slot, 0, stack.reserve(slot));
    EXPECT_THROW(stack.reserve(slot), CheckFailure);
  }
  EXPECT_THROW(stack.reserve(3), CheckFailure);                     // within a sum by now
  EXPECT_THROW(stack.reserve(bsp::SlotRange{0, 4}), CheckFailure);  // around it
  stack.finish_step();
  EXPECT_NO_THROW(stack.reserve(3));
}

TEST(GradientStack, RefusesSlotsOutOfOrderAndUnfinishedSteps) {
  const std::vector<ElementRange> whole{{0, kElements}};
  std::vector<float> memory(2 * kElements);
  GradientStack stack(memory, kElements, whole, 4, {0, 1});
  EXPECT_THROW(stack.reserve(1), CheckFailure);
  EXPECT_THROW(stack.finish_step(), CheckFailure);
  const std::span<float> gradient = stack.reserve(0);
  EXPECT_THROW(stack.reserve(1), CheckFailure);
  EXPECT_THROW(stack.push(0, 1, gradient), CheckFailure);
  stack.push(0, 0, gradient);
  EXPECT_THROW(stack.finish_step(), CheckFailure);
}

}  // namespace
}  // namespace superstep::paramserver

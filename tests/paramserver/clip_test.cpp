#include "paramserver/clip.h"

#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "base/aligned.h"
#include "base/check.h"
#include "base/philox.h"
#include "bsp/slot_tree.h"
#include "paramserver/layout.h"

namespace superstep::paramserver {
namespace {

constexpr float kFloatInfinity = std::numeric_limits<float>::infinity();
constexpr float kFloatNan = std::numeric_limits<float>::quiet_NaN();

AlignedBuffer<float> random_gradient(std::int64_t size) {
  AlignedBuffer<float> values(size);
  fill_normal(values.span(), PhiloxStream(3), 0.0F, 2.0F);
  return values;
}

TEST(ClipByValue, CutsBothSidesAndLeavesTheRest) {
  std::vector<float> values{-3.0F, -1.0F, -0.0F, 0.5F, 1.0F, 1.0001F};
  clip_by_value<float>(values, 1.0);
  EXPECT_EQ(values, (std::vector<float>{-1.0F, -1.0F, -0.0F, 0.5F, 1.0F, 1.0F}));
  EXPECT_TRUE(std::signbit(values[2]));
}

TEST(ClipByValue, KeepsNanAndCutsInfinity) {
  std::vector<float> values(37, kFloatNan);  // more than one vector and a tail
  values[3] = kFloatInfinity;
  values[36] = -kFloatInfinity;
  clip_by_value<float>(values, 0.25);
  for (std::size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(std::isnan(values[i]), i != 3 && i != 36) << i;
  }
  EXPECT_EQ(values[3], 0.25F);
  EXPECT_EQ(values[36], -0.25F);
}

TEST(ClipByValue, RefusesALimitOfZero) {
  std::vector<double> values{1.0};
  EXPECT_THROW(clip_by_value<double>(values, 0.0), CheckFailure);
}

TEST(BlockSquaredNorms, AreNearTheExactSums) {
  const AlignedBuffer<float> gradient = random_gradient(5 * kBlockElements);
  std::vector<double> norms(5);
  block_squared_norms<float>(gradient.span(), norms);
  for (std::size_t b = 0; b < norms.size(); ++b) {
    long double exact = 0.0L;
    for (std::size_t i = 0; i < kBlockElements; ++i) {
      const long double element = gradient.span()[b * kBlockElements + i];
      exact += element * element;
    }
    // 4,096 positive terms: each of the 260 additions on a path errs by at most one half ulp.
    EXPECT_NEAR(norms[b], static_cast<double>(exact),
                static_cast<double>(exact) * 260 * std::numeric_limits<double>::epsilon());
  }
}

TEST(BlockSquaredNorms, HaveTheSameBitsWhereverTheShardIsCut) {
  const AlignedBuffer<float> gradient = random_gradient(7 * kBlockElements);
  std::vector<double> whole(7);
  block_squared_norms<float>(gradient.span(), whole);
  for (std::size_t cut = 0; cut <= 7; ++cut) {
    std::vector<double> parts(7);
    const std::span<double> out(parts);
    block_squared_norms<float>(gradient.span().first(cut * kBlockElements), out.first(cut));
    block_squared_norms<float>(gradient.span().subspan(cut * kBlockElements), out.subspan(cut));
    EXPECT_EQ(parts, whole) << cut;
  }
}

TEST(BlockSquaredNorms, HaveTheSameBitsAtEveryAddress) {
  const AlignedBuffer<float> gradient = random_gradient(kBlockElements);
  std::vector<double> aligned(1);
  block_squared_norms<float>(gradient.span(), aligned);
  for (std::int64_t shift = 1; shift < 16; ++shift) {
    AlignedBuffer<float> shifted(kBlockElements + 16);
    const std::span<float> copy =
        shifted.span().subspan(static_cast<std::size_t>(shift), kBlockElements);
    std::copy(gradient.span().begin(), gradient.span().end(), copy.begin());
    std::vector<double> norm(1);
    block_squared_norms<float>(copy, norm);
    EXPECT_EQ(norm, aligned) << shift;
  }
}

TEST(BlockSquaredNorms, DoNotOverflowInFloat) {
  std::vector<float> gradient(kBlockElements, 1e30F);
  std::vector<double> norms(1);
  block_squared_norms<float>(gradient, norms);
  EXPECT_NEAR(norms[0], 4096e60, 1e57);
}

TEST(BlockSquaredNorms, PassNanOn) {
  std::vector<double> gradient(kBlockElements, 1.0);
  gradient[4095] = kFloatNan;
  std::vector<double> norms(1);
  block_squared_norms<double>(gradient, norms);
  EXPECT_TRUE(std::isnan(norms[0]));
}

TEST(BlockSquaredNorms, RefusePartsOfBlocks) {
  std::vector<double> norms(1);
  EXPECT_THROW(block_squared_norms<float>(std::vector<float>(4095), norms), CheckFailure);
}

// The split rule of the tree over slots, applied to numbers.
double slot_tree_sum(std::span<const double> values, bsp::SlotRange range) {
  if (range.length() == 1) {
    return values[static_cast<std::size_t>(range.begin)];
  }
  const int middle = bsp::split_point(range);
  return slot_tree_sum(values, {range.begin, middle}) + slot_tree_sum(values, {middle, range.end});
}

TEST(TreeSum, FollowsTheTreeOverSlotsForEveryLength) {
  PhiloxStream stream(5);
  std::vector<double> values;
  EXPECT_EQ(tree_sum(values), 0.0);
  for (int size = 1; size <= 300; ++size) {
    values.push_back(stream.normal());
    EXPECT_EQ(tree_sum(values), slot_tree_sum(values, {0, size})) << size;
  }
}

TEST(GlobalNormFactor, ScalesDownOnly) {
  EXPECT_EQ(global_norm_factor(4.0, 1.0), 0.25);
  EXPECT_EQ(global_norm_factor(1.0, 1.0), 1.0);
  EXPECT_EQ(global_norm_factor(0.0, 1.0), 1.0);
}

TEST(GlobalNormFactor, LeavesNumbersThatAreNotFiniteToTheTrainer) {
  EXPECT_EQ(global_norm_factor(kFloatNan, 1.0), 1.0);
  EXPECT_EQ(global_norm_factor(kFloatInfinity, 1.0), 1.0);
}

TEST(Scale, MultipliesWithTheRoundedFactor) {
  std::vector<float> values{3.0F, -0.0F, kFloatInfinity};
  scale<float>(values, 0.1);
  EXPECT_EQ(values[0], 3.0F * 0.1F);
  EXPECT_TRUE(std::signbit(values[1]));
  EXPECT_EQ(values[2], kFloatInfinity);
}

TEST(Scale, ByOneTouchesNothing) {
  std::vector<float> values{
      std::bit_cast<float>(0x7fa00001U)};  // a signalling NaN would be quieted
  scale<float>(values, 1.0);
  EXPECT_EQ(std::bit_cast<std::uint32_t>(values[0]), 0x7fa00001U);
}

}  // namespace
}  // namespace superstep::paramserver

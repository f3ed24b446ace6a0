#include "base/philox.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"

namespace superstep {
namespace {

constexpr std::uint64_t kSeed = 20'240'501;

struct KnownAnswer {
  PhiloxCounter counter;
  PhiloxKey key;
  PhiloxBlock expected;
};

// The three vectors that Random123 publishes for philox4x32 with 10 rounds: all zeros, all ones,
// and the digits of pi.
TEST(Philox, ReproducesThePublishedKnownAnswers) {
  constexpr KnownAnswer kAnswers[] = {
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
       {0xffffffff, 0xffffffff},
       {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       {0xa4093822, 0x299f31d0},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (const KnownAnswer& answer : kAnswers) {
    EXPECT_EQ(philox4x32_10(answer.counter, answer.key), answer.expected);
  }
}

TEST(PhiloxStream, WithoutIdentifiersIsPlainPhilox) {
  const PhiloxStream stream(0);
  EXPECT_EQ(stream.block(0), (PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
}

TEST(PhiloxStream, SequentialWordsAreTheBlocksInOrder) {
  PhiloxStream stream(kSeed, 1, 2);
  const PhiloxStream blocks(kSeed, 1, 2);
  for (std::uint64_t i = 0; i < 12; ++i) {
    EXPECT_EQ(stream.bits32(), blocks.block(i / 4)[i % 4]) << i;
  }
}

TEST(PhiloxStream, EveryChangeOfSeedOrIdentifiersGivesAnotherStream) {
  std::set<PhiloxBlock> seen;
  const auto is_new = [&seen](const PhiloxStream& stream) {
    return seen.insert(stream.block(0)).second;
  };
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    EXPECT_TRUE(is_new(PhiloxStream(seed)));
    for (std::uint64_t a = 0; a < 10; ++a) {
      EXPECT_TRUE(is_new(PhiloxStream(seed, a)));
      for (std::uint64_t b = 0; b < 10; ++b) {
        EXPECT_TRUE(is_new(PhiloxStream(seed, a, b))) << seed << ' ' << a << ' ' << b;
      }
    }
  }
}

TEST(PhiloxStream, IdentifiersUseAllTheirBits) {
  const PhiloxStream base(kSeed, 0U);
  for (int bit = 0; bit < 64; ++bit) {
    EXPECT_NE(PhiloxStream(kSeed, std::uint64_t{1} << bit).block(0), base.block(0)) << bit;
    EXPECT_NE(PhiloxStream(kSeed ^ std::uint64_t{1} << bit, 0U).block(0), base.block(0)) << bit;
  }
}

TEST(PhiloxStream, PurposesHaveDifferentIdentifiers) {
  static_assert(stream_id("dropout") != stream_id("permutation"));
  static_assert(stream_id("") == 0xcbf29ce484222325);
}

TEST(PhiloxStream, UniformStaysBelowOneAndHasMeanOneHalf) {
  static_assert(unit_float(0xffffffff) < 1.0F && unit_float(0) == 0.0F);
  static_assert(unit_double(0xffffffff, 0xffffffff) < 1.0 && unit_double(0, 0) == 0.0);
  PhiloxStream stream(kSeed);
  constexpr int kCount = 100'000;
  double sum = 0.0;
  double sum_of_squares = 0.0;
  for (int i = 0; i < kCount; ++i) {
    const double u = i % 2 == 0 ? static_cast<double>(stream.uniform()) : stream.uniform_double();
    sum += u;
    sum_of_squares += u * u;
  }
  // Five standard errors: sd(u) = 0.289, sd(u^2) = 0.298.
  EXPECT_NEAR(sum / kCount, 0.5, 5 * 0.289 / std::sqrt(kCount));
  EXPECT_NEAR(sum_of_squares / kCount, 1.0 / 3.0, 5 * 0.298 / std::sqrt(kCount));
}

TEST(PhiloxStream, BelowIsUniform) {
  PhiloxStream stream(kSeed, stream_id("below"));
  constexpr int kBins = 10;
  constexpr int kCount = 100'000;
  constexpr double kExpected = 1.0 * kCount / kBins;
  std::array<int, kBins> counts{};
  for (int i = 0; i < kCount; ++i) {
    ++counts.at(stream.below(kBins));
  }
  double chi_squared = 0.0;
  for (const int count : counts) {
    const double difference = count - kExpected;
    chi_squared += difference * difference / kExpected;
  }
  EXPECT_LT(chi_squared, 33.7);  // 9 degrees of freedom, p = 0.0001
}

TEST(PhiloxStream, BelowRejectsWhatWouldBeBiased) {
  // With n = 2^63 + 1 nearly half of all draws are rejected, so fewer would mean a missing
  // rejection.
  PhiloxStream stream(kSeed);
  PhiloxStream words(kSeed);
  constexpr std::uint64_t kN = (std::uint64_t{1} << 63) + 1;
  constexpr int kCount = 1'000;
  std::uint64_t most = 0;
  for (int i = 0; i < kCount; ++i) {
    most = std::max(most, stream.below(kN));
  }
  EXPECT_LT(most, kN);
  int draws = 0;
  const std::uint32_t next = stream.bits32();
  while (words.bits32() != next) {
    ++draws;
  }
  EXPECT_NEAR(draws / 2.0, 2 * kCount, 5 * std::sqrt(2.0 * kCount));
}

TEST(PhiloxStream, BelowOneIsZeroAndBelowZeroIsRefused) {
  PhiloxStream stream(kSeed);
  EXPECT_EQ(stream.below(1), 0U);
  EXPECT_THROW(stream.below(0), InvalidArgument);
}

TEST(PhiloxStream, NormalHasTheMomentsOfANormal) {
  PhiloxStream stream(kSeed, stream_id("normal"));
  constexpr int kCount = 200'000;
  std::array<double, 4> moments{};
  for (int i = 0; i < kCount; ++i) {
    const double x = stream.normal();
    double power = x;
    for (double& moment : moments) {
      moment += power / kCount;
      power *= x;
    }
  }
  // Five standard errors; the variances of x, x^2, x^3, x^4 are 1, 2, 15, 96.
  const std::array<double, 4> expected = {0.0, 1.0, 0.0, 3.0};
  const std::array<double, 4> variance = {1.0, 2.0, 15.0, 96.0};
  for (std::size_t k = 0; k < moments.size(); ++k) {
    EXPECT_NEAR(moments.at(k), expected.at(k), 5 * std::sqrt(variance.at(k) / kCount))
        << "moment " << k + 1;
  }
}

TEST(Permutation, HoldsEveryIndexOnce) {
  for (const std::int64_t n : {0, 1, 2, 3, 10, 1'000}) {
    std::vector<std::int64_t> order = permutation(n, kSeed, 0);
    std::ranges::sort(order);
    std::vector<std::int64_t> expected(static_cast<std::size_t>(n));
    std::iota(expected.begin(), expected.end(), 0);
    EXPECT_EQ(order, expected) << n;
  }
  EXPECT_THROW(permutation(-1, kSeed, 0), InvalidArgument);
}

TEST(Permutation, DependsOnSeedAndEpochOnly) {
  EXPECT_EQ(permutation(100, kSeed, 3), permutation(100, kSeed, 3));
  EXPECT_NE(permutation(100, kSeed, 3), permutation(100, kSeed, 4));
  EXPECT_NE(permutation(100, kSeed, 3), permutation(100, kSeed + 1, 3));
}

TEST(Permutation, EveryOrderIsEquallyLikely) {
  std::array<int, 24> counts{};
  constexpr int kCount = 24'000;
  for (int epoch = 0; epoch < kCount; ++epoch) {
    const std::vector<std::int64_t> order =
        permutation(4, kSeed, static_cast<std::uint64_t>(epoch));
    std::size_t index = 0;  // in the factorial number system
    for (std::size_t i = 0; i < 4; ++i) {
      const auto smaller = std::count_if(order.begin() + static_cast<std::ptrdiff_t>(i),
                                         order.end(), [&](std::int64_t x) { return x < order[i]; });
      index = index * (4 - i) + static_cast<std::size_t>(smaller);
    }
    ++counts.at(index);
  }
  double chi_squared = 0.0;
  for (const int count : counts) {
    chi_squared += (count - 1'000.0) * (count - 1'000.0) / 1'000.0;
  }
  EXPECT_LT(chi_squared, 57.8);  // 23 degrees of freedom, p = 0.0001
}

// The bits of the order of samples are part of the checkpoint's meaning: a change here breaks
// resuming.
TEST(Permutation, IsFrozen) {
  EXPECT_EQ(permutation(8, 1, 0), (std::vector<std::int64_t>{4, 0, 7, 2, 1, 6, 5, 3}));
}

template <typename Fill>
void expect_parts_equal_whole(const Fill& fill) {
  std::vector<float> whole(103);
  fill(std::span<float>(whole), 0);
  for (const std::size_t cut : {0U, 1U, 2U, 3U, 4U, 5U, 50U, 102U, 103U}) {
    std::vector<float> parts(whole.size());
    fill(std::span(parts).first(cut), 0);
    fill(std::span(parts).subspan(cut), cut);
    EXPECT_EQ(parts, whole) << "cut at " << cut;
  }
}

TEST(Fill, PartsHaveTheBitsOfTheWhole) {
  const PhiloxStream stream(kSeed, stream_id("weights"));
  expect_parts_equal_whole([&](std::span<float> out, std::size_t first) {
    fill_uniform(out, stream, -1.0F, 1.0F, first);
  });
  expect_parts_equal_whole([&](std::span<float> out, std::size_t first) {
    fill_normal(out, stream, 0.0F, 1.0F, first);
  });
  expect_parts_equal_whole([&](std::span<float> out, std::size_t first) {
    fill_truncated_normal(out, stream, 0.0F, 1.0F, first);
  });
}

TEST(Fill, UniformStaysWithinItsBounds) {
  std::vector<float> values(10'000);
  fill_uniform(values, PhiloxStream(kSeed), -0.25F, 0.75F);
  const auto [least, most] = std::ranges::minmax_element(values);
  EXPECT_GE(*least, -0.25F);
  EXPECT_LT(*most, 0.75F);
  EXPECT_NEAR(std::accumulate(values.begin(), values.end(), 0.0) / 10'000, 0.25, 5 * 0.289 / 100);
}

TEST(Fill, NormalHasMeanAndDeviation) {
  std::vector<float> values(40'000);
  fill_normal(values, PhiloxStream(kSeed), 3.0F, 0.5F);
  double sum = 0.0;
  double sum_of_squares = 0.0;
  for (const float value : values) {
    sum += value;
    sum_of_squares += (value - 3.0) * (value - 3.0);
  }
  EXPECT_NEAR(sum / 40'000, 3.0, 5 * 0.5 / 200);
  EXPECT_NEAR(sum_of_squares / 40'000, 0.25, 5 * 0.25 * std::sqrt(2.0) / 200);
}

TEST(Fill, TruncatedNormalStaysWithinTwoDeviations) {
  std::vector<float> values(40'000);
  fill_truncated_normal(values, PhiloxStream(kSeed), 1.0F, 0.1F);
  double sum_of_squares = 0.0;
  for (const float value : values) {
    EXPECT_GE(value, 0.8F - 1e-6F);
    EXPECT_LE(value, 1.2F + 1e-6F);
    sum_of_squares += (value - 1.0) * (value - 1.0);
  }
  // The variance of a standard normal within two deviations is 0.7737; of its square, below 1.
  EXPECT_NEAR(sum_of_squares / 40'000 / 0.01, 0.7737, 5.0 / 200);
}

}  // namespace
}  // namespace superstep

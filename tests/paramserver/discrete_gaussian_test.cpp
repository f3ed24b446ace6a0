#include "paramserver/discrete_gaussian.h"

#include <cmath>
#include <map>
#include <set>

#include <gtest/gtest.h>

#include "base/error.h"

namespace superstep::paramserver {
namespace {

// Frequencies against exp(-k^2 / (2 sigma^2)) / Z, by chi-squared over the cells that expect 20.
TEST(DiscreteGaussian, HasTheProbabilitiesOfItsDefinition) {
  constexpr int kDraws = 200'000;
  for (const double sigma : {0.4, 1.0, 3.7}) {
    SeededBits bits(PhiloxStream(11, static_cast<std::uint64_t>(sigma * 10)));
    std::map<std::int64_t, int> counts;
    for (int i = 0; i < kDraws; ++i) {
      ++counts[discrete_gaussian(sigma, bits)];
    }
    double total = 0.0;
    const auto weight = [&](std::int64_t k) {
      return std::exp(-0.5 * static_cast<double>(k * k) / (sigma * sigma));
    };
    for (std::int64_t k = -100; k <= 100; ++k) {
      total += weight(k);
    }
    double chi_squared = 0.0;
    int cells = 0;
    for (std::int64_t k = -100; k <= 100; ++k) {
      const double expected = kDraws * weight(k) / total;
      if (expected >= 20.0) {
        chi_squared += (counts[k] - expected) * (counts[k] - expected) / expected;
        ++cells;
      }
    }
    EXPECT_LT(chi_squared, cells + 5.0 * std::sqrt(2.0 * cells)) << "sigma " << sigma;
  }
}

TEST(DiscreteGaussian, HasItsDeviationWhenItIsHuge) {
  constexpr int kDraws = 100'000;
  constexpr double kSigma = 0x1p50;
  SeededBits bits(PhiloxStream(12, 1));
  double squares = 0.0;
  for (int i = 0; i < kDraws; ++i) {
    const double value = static_cast<double>(discrete_gaussian(kSigma, bits)) / kSigma;
    squares += value * value;
  }
  EXPECT_NEAR(squares / kDraws, 1.0, 5.0 * std::sqrt(2.0 / kDraws));
}

TEST(DiscreteGaussian, SystemBitsDoNotRepeat) {
  SystemBits bits;
  std::set<std::uint64_t> seen;
  for (int i = 0; i < 2000; ++i) {
    seen.insert(bits.bits64());
  }
  EXPECT_EQ(seen.size(), 2000U);
}

TEST(DiscreteGaussian, RefusesADeviationOutsideItsRange) {
  SystemBits bits;
  EXPECT_EQ(discrete_gaussian(0.0, bits), 0);
  EXPECT_THROW(discrete_gaussian(-1.0, bits), InvalidArgument);
  EXPECT_THROW(discrete_gaussian(0x1p58, bits), InvalidArgument);
}

}  // namespace
}  // namespace superstep::paramserver

#include "kernels/math.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

namespace superstep::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

using Approximation = float (*)(float);
using Exact = double (*)(double);

// The distance of two neighbouring floats at |x|, also among denormals.
double ulp_at(double x) {
  const float magnitude = static_cast<float>(std::fabs(x));
  const float next = std::nextafter(magnitude, kInfinity);
  return std::isinf(next) ? 0x1p104 : static_cast<double>(next) - static_cast<double>(magnitude);
}

// Over floats of every exponent and sign: 1021 is prime, so the mantissas vary.
double largest_error_in_ulp(Approximation approximation, Exact exact, float limit) {
  double largest = 0.0;
  for (std::uint32_t bits = 0; bits < std::bit_cast<std::uint32_t>(limit); bits += 1021) {
    for (const float x : {std::bit_cast<float>(bits), -std::bit_cast<float>(bits)}) {
      const double want = exact(static_cast<double>(x));
      const double error = std::fabs(static_cast<double>(approximation(x)) - want);
      largest = std::max(largest, error / ulp_at(want));
    }
  }
  return largest;
}

double exact_exp(double x) {
  return std::exp(x);
}
double exact_tanh(double x) {
  return std::tanh(x);
}
double exact_logistic(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}

TEST(Math, ExpIsWithinOneUnitInTheLastPlace) {
  EXPECT_LT(largest_error_in_ulp(math::exp, exact_exp, 88.7F), 1.0);
}

TEST(Math, TanhIsWithinOneAndAHalfUnitsInTheLastPlace) {
  EXPECT_LT(largest_error_in_ulp(math::tanh, exact_tanh, kInfinity), 1.5);
}

TEST(Math, LogisticIsWithinTwoAndAHalfUnitsInTheLastPlace) {
  EXPECT_LT(largest_error_in_ulp(math::logistic, exact_logistic, 100.0F), 2.5);
}

TEST(Math, ExpOverflowsToInfinityAndUnderflowsThroughDenormalsToZero) {
  EXPECT_EQ(math::exp(0.0F), 1.0F);
  EXPECT_EQ(math::exp(89.0F), kInfinity);
  EXPECT_EQ(math::exp(kInfinity), kInfinity);
  EXPECT_NEAR(math::exp(-100.0F), std::exp(-100.0), 0x1p-149);
  EXPECT_GT(math::exp(-103.0F), 0.0F);
  EXPECT_EQ(math::exp(-105.0F), 0.0F);
  EXPECT_EQ(math::exp(-kInfinity), 0.0F);
}

TEST(Math, TanhAndLogisticSaturate) {
  EXPECT_EQ(math::tanh(kInfinity), 1.0F);
  EXPECT_EQ(math::tanh(-kInfinity), -1.0F);
  EXPECT_EQ(std::signbit(math::tanh(-0.0F)), true);
  EXPECT_EQ(math::logistic(kInfinity), 1.0F);
  EXPECT_EQ(math::logistic(-kInfinity), 0.0F);
  EXPECT_EQ(math::logistic(0.0F), 0.5F);
}

TEST(Math, KeepsNan) {
  for (const float nan : {kNan, -kNan}) {
    EXPECT_TRUE(std::isnan(math::exp(nan)));
    EXPECT_TRUE(std::isnan(math::tanh(nan)));
    EXPECT_TRUE(std::isnan(math::logistic(nan)));
    EXPECT_TRUE(std::isnan(math::log(nan)));
  }
}

// The vectorised loop and single calls agree at every address and length.
TEST(Math, GivesTheSameBitsAtEveryAddressAndLength) {
  std::vector<float> x(80);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = -4.0F + 0.1F * static_cast<float>(i);
  }
  for (const Approximation function :
       {Approximation(math::exp), Approximation(math::tanh), Approximation(math::logistic)}) {
    std::vector<float> single(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      const volatile float value = x[i];
      single[i] = function(value);
    }
    for (std::size_t begin = 0; begin < 17; ++begin) {
      for (std::size_t length = 1; length < 40; ++length) {
        std::vector<float> y(length);
        std::transform(x.begin() + static_cast<std::ptrdiff_t>(begin),
                       x.begin() + static_cast<std::ptrdiff_t>(begin + length), y.begin(),
                       function);
        for (std::size_t i = 0; i < length; ++i) {
          ASSERT_EQ(std::bit_cast<std::uint32_t>(y[i]),
                    std::bit_cast<std::uint32_t>(single[begin + i]));
        }
      }
    }
  }
}

}  // namespace
}  // namespace superstep::kernels

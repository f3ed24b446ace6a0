// exp, tanh and the logistic function for float as straight-line code that the compiler vectorises.
//
// The same bits for an element wherever it stands: no library call, no packet path that differs
// from its scalar tail, no fused multiply-add, no branch. Errors, measured over all orders of
// magnitude against double: exp below 1 unit in the last place, tanh below 1.5, logistic below
// 2.5 (tests/kernels/math_test.cpp). Overflow gives infinity, underflow denormals and then 0; NaN
// stays NaN. For double the functions of the C library are used; so is log in both types (float by
// way of double, which rounds correctly but for rare ties).
//
// exp: Cody and Waite's reduction x = n ln 2 + r in two parts, then 1 + r + r^2 Q(r). tanh: x + x^3
// P(x^2) near 0, else 1 - 2 / (exp(2|x|) + 1). Q and P interpolate at Chebyshev points.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace superstep::kernels::math {

inline float exp(float x) {
  constexpr float kLog2E = 1.44269504F;
  constexpr float kLn2High = 0.693359375F;  // 10 significant bits: n * kLn2High is exact
  constexpr float kLn2Low = -2.12194440e-4F;
  constexpr float kRoundToInteger = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer
  x = x > 90.0F ? 90.0F : x;                      // exp(90) overflows,
  x = x < -105.0F ? -105.0F : x;                  // exp(-105) rounds to 0
  const float shifted = x * kLog2E + kRoundToInteger;
  const float n = shifted - kRoundToInteger;
  const float high = x - n * kLn2High;
  const float low = n * kLn2Low;
  const float r = high - low;
  const float correction = (high - r) - low;  // what rounding r lost
  float q = 1.3926927e-3F;
  q = q * r + 8.3637739e-3F;
  q = q * r + 4.1666550e-2F;
  q = q * r + 1.66665734e-1F;
  q = q * r + 0.5F;
  const float y = ((q * (r * r) + correction) + r) + 1.0F;
  // 2^n in two factors: n reaches from -151 to 130, an exponent only from -126 to 127.
  const std::uint32_t exponent = std::bit_cast<std::uint32_t>(shifted) - 0x4B400000U;
  const std::uint32_t half = static_cast<std::uint32_t>(static_cast<std::int32_t>(exponent) >> 1);
  const float scale1 = std::bit_cast<float>((half + 127U) << 23);
  const float scale2 = std::bit_cast<float>((exponent - half + 127U) << 23);
  return y * scale1 * scale2;
}

inline float tanh(float x) {
  const float magnitude = std::fabs(x);
  const float z = x * x;
  float p = 2.2927449e-3F;
  p = p * z - 8.3439456e-3F;
  p = p * z + 2.17689188e-2F;
  p = p * z - 5.39592596e-2F;
  p = p * z + 1.33333036e-1F;
  p = p * z - 3.33333332e-1F;
  const float near_zero = (p * z) * magnitude + magnitude;
  const float far = 1.0F - 2.0F / (exp(2.0F * magnitude) + 1.0F);
  // Chosen by mask: at a conditional the compiler would branch around exp and not vectorise.
  const std::uint32_t mask = magnitude < 0.625F ? ~0U : 0U;  // NaN takes the far side, as NaN
  const std::uint32_t bits = (std::bit_cast<std::uint32_t>(near_zero) & mask) |
                             (std::bit_cast<std::uint32_t>(far) & ~mask);
  return std::copysign(std::bit_cast<float>(bits), x);
}

inline float logistic(float x) {
  const float e = exp(-std::fabs(x));
  const float numerator = x < 0.0F ? e : 1.0F;
  return numerator / (1.0F + e);
}

inline float log(float x) {
  return static_cast<float>(std::log(static_cast<double>(x)));
}

inline double exp(double x) {
  return std::exp(x);
}
inline double tanh(double x) {
  return std::tanh(x);
}
inline double log(double x) {
  return std::log(x);
}
inline double logistic(double x) {
  const double e = std::exp(-std::fabs(x));
  return (x < 0.0 ? e : 1.0) / (1.0 + e);
}

}  // namespace superstep::kernels::math

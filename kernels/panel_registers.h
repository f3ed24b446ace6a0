// Registers of single-precision numbers by instruction set, for the tiles of kernels/panel_gemm.h.
//
// Internal to PanelGemm. Every function is one instruction; in a build without fused multiply-adds
// in registers (kHasPanels) they exist so that the code compiles.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) || (defined(__AVX2__) && defined(__FMA__))
#include <immintrin.h>
#endif

#include "kernels/precision.h"

namespace superstep::kernels::internal {

#if defined(__AVX512F__)
inline constexpr bool kHasPanels = true;
inline constexpr std::int64_t kWidth = 16;    // floats of a register
inline constexpr std::int64_t kTileRows = 8;  // 16 accumulators of 32 registers
using Register = __m512;
inline Register load(const float* from) {
  return _mm512_loadu_ps(from);
}
inline void store(float* to, Register value) {
  _mm512_storeu_ps(to, value);
}
inline Register repeat(float value) {
  return _mm512_set1_ps(value);
}
inline Register multiply_add(Register a, Register b, Register sum) {
  return _mm512_fmadd_ps(a, b, sum);
}
inline Register add(Register a, Register b) {
  return _mm512_add_ps(a, b);
}
#elif defined(__AVX2__) && defined(__FMA__)
inline constexpr bool kHasPanels = true;
inline constexpr std::int64_t kWidth = 8;
inline constexpr std::int64_t kTileRows = 6;  // 12 accumulators of 16 registers
using Register = __m256;
inline Register load(const float* from) {
  return _mm256_loadu_ps(from);
}
inline void store(float* to, Register value) {
  _mm256_storeu_ps(to, value);
}
inline Register repeat(float value) {
  return _mm256_set1_ps(value);
}
inline Register multiply_add(Register a, Register b, Register sum) {
  return _mm256_fmadd_ps(a, b, sum);
}
inline Register add(Register a, Register b) {
  return _mm256_add_ps(a, b);
}
#else
inline constexpr bool kHasPanels = false;
inline constexpr std::int64_t kWidth = 4;
inline constexpr std::int64_t kTileRows = 4;
struct Register {
  std::array<float, 4> values;
};
inline Register load(const float* from) {
  Register value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}
inline void store(float* to, Register value) {
  std::memcpy(to, &value, sizeof(value));
}
inline Register repeat(float value) {
  return {{value, value, value, value}};
}
inline Register multiply_add(Register a, Register b, Register sum) {
  for (std::size_t i = 0; i < 4; ++i) {
    sum.values[i] = __builtin_fmaf(a.values[i], b.values[i], sum.values[i]);
  }
  return sum;
}
inline Register add(Register a, Register b) {
  for (std::size_t i = 0; i < 4; ++i) {
    a.values[i] += b.values[i];
  }
  return a;
}
#endif

// Pairs of bf16 numbers in the places of floats. Without instructions nothing is packed as pairs.
#if defined(__AVX512F__) && defined(__AVX512BF16__)
inline Register multiply_add_pairs(Register a, Register b, Register sum) {
  return _mm512_dpbf16_ps(sum, __builtin_bit_cast(__m512bh, a), __builtin_bit_cast(__m512bh, b));
}
#else
inline Register multiply_add_pairs(Register /*a*/, Register /*b*/, Register sum) {
  return sum;
}
#endif

template <Precision kPrecision>
inline Register multiply_step(Register a, Register b, Register sum) {
  return kPrecision == Precision::kBfloat16 ? multiply_add_pairs(a, b, sum)
                                            : multiply_add(a, b, sum);
}

}  // namespace superstep::kernels::internal

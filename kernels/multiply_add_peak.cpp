#include "kernels/multiply_add_peak.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

#if defined(__AVX512F__) || (defined(__AVX2__) && defined(__FMA__))
#include <immintrin.h>
#endif

#include "base/clock.h"

namespace superstep::kernels {
namespace {

#if defined(__AVX512F__)
struct Lanes {
  static constexpr int kWidth = 16;
  static constexpr std::size_t kAccumulators = 24;  // of 32 registers
  __m512 value;
  static Lanes of(float x) { return {_mm512_set1_ps(x)}; }
  void multiply_add(const Lanes& factor, const Lanes& term) {
    value = _mm512_fmadd_ps(value, factor.value, term.value);
  }
  float first() const { return _mm512_cvtss_f32(value); }
};
#elif defined(__AVX2__) && defined(__FMA__)
struct Lanes {
  static constexpr int kWidth = 8;
  static constexpr std::size_t kAccumulators = 12;  // of 16 registers
  __m256 value;
  static Lanes of(float x) { return {_mm256_set1_ps(x)}; }
  void multiply_add(const Lanes& factor, const Lanes& term) {
    value = _mm256_fmadd_ps(value, factor.value, term.value);
  }
  float first() const { return _mm256_cvtss_f32(value); }
};
#else
// What the compiler makes of std::fma on the target at hand.
struct Lanes {
  static constexpr int kWidth = 4;
  static constexpr std::size_t kAccumulators = 12;
  std::array<float, kWidth> value;
  static Lanes of(float x) { return {{x, x, x, x}}; }
  void multiply_add(const Lanes& factor, const Lanes& term) {
    for (std::size_t i = 0; i < kWidth; ++i) {
      value[i] = std::fma(value[i], factor.value[i], term.value[i]);
    }
  }
  float first() const { return value[0]; }
};
#endif

constexpr std::int64_t kRoundsPerBurst = 50'000;  // some tens of microseconds

// The result keeps the compiler from dropping the work. Values stay near 1: 0.5 x + 0.5.
float burst(float start) {
  const Lanes half = Lanes::of(0.5F);
  std::array<Lanes, Lanes::kAccumulators> sums;
  for (std::size_t i = 0; i < sums.size(); ++i) {
    sums[i] = Lanes::of(start + static_cast<float>(i));
  }
  for (std::int64_t round = 0; round < kRoundsPerBurst; ++round) {
#pragma GCC unroll 24
    for (std::size_t i = 0; i < Lanes::kAccumulators; ++i) {
      sums[i].multiply_add(half, half);
    }
  }
  float total = 0.0F;
  for (const Lanes& sum : sums) {
    total += sum.first();
  }
  return total;
}

}  // namespace

double multiply_add_peak(std::chrono::milliseconds duration) {
  constexpr double kFlops =
      2.0 * Lanes::kWidth * static_cast<double>(Lanes::kAccumulators) * kRoundsPerBurst;
  const Stopwatch watch;
  volatile float sink = 1.0F;
  double best = 0.0;
  do {
    const Stopwatch one;
    sink = burst(sink);
    best = std::max(best, kFlops / one.seconds());
  } while (watch.elapsed() < duration);
  return best;
}

}  // namespace superstep::kernels

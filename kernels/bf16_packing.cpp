#include "kernels/bf16_packing.h"

#include <algorithm>

#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define SUPERSTEP_PACKS_BF16 1
#include <immintrin.h>
#else
#define SUPERSTEP_PACKS_BF16 0
#endif

#include "base/check.h"
#include "kernels/transpose_8x8.h"

namespace superstep::kernels {

#if SUPERSTEP_PACKS_BF16

namespace {

constexpr std::int64_t kPairLanes = 16;  // of a register
constexpr std::int64_t kPairSquare = 8;  // vectors, and pairs of each

__mmask16 first_of_16(std::int64_t count) {
  const auto bits = std::clamp<std::int64_t>(count, 0, kPairLanes);
  return static_cast<__mmask16>((1U << static_cast<unsigned int>(bits)) - 1U);
}

__mmask8 first_of_8(std::int64_t count) {
  const auto bits = std::clamp<std::int64_t>(count, 0, kPairSquare);
  return static_cast<__mmask8>((1U << static_cast<unsigned int>(bits)) - 1U);
}

// Lane j: (bf16 of lower[j], bf16 of upper[j]).
__m512 paired(__m512 lower, __m512 upper) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24,
                                         8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  const __m512i halves = __builtin_bit_cast(__m512i, _mm512_cvtne2ps_pbh(upper, lower));
  return _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, halves));
}

// One step of one copy; upper is null behind an odd k.
void pack_step(const float* lower, const float* upper, std::int64_t columns, std::int64_t width,
               float* to) {
  for (std::int64_t j = 0; j < width; j += kPairLanes) {
    if (upper != nullptr && columns - j >= kPairLanes && width - j >= kPairLanes) {
      _mm512_storeu_ps(to + j, paired(_mm512_loadu_ps(lower + j), _mm512_loadu_ps(upper + j)));
      continue;
    }
    const __mmask16 exists = first_of_16(std::min(columns, width) - j);
    const __m512 zero = _mm512_setzero_ps();
    _mm512_mask_storeu_ps(
        to + j, first_of_16(width - j),
        paired(_mm512_maskz_loadu_ps(exists, lower + j),
               upper == nullptr ? zero : _mm512_maskz_loadu_ps(exists, upper + j)));
  }
}

}  // namespace

void pack_row_pairs(const PairStrip& strip, std::int64_t width, std::int64_t panel_stride,
                    float* to) {
  for (std::int64_t k = 0; k < strip.num_k; k += 2, to += width) {
    const float* lower = strip.from + k * strip.stride;
    const float* upper = k + 1 < strip.num_k ? lower + strip.stride : nullptr;
    float* panel = to;
    for (std::int64_t j = 0; j < strip.columns; j += width, panel += panel_stride) {
      pack_step(lower + j, upper == nullptr ? nullptr : upper + j, strip.columns - j, width, panel);
    }
  }
}

void pack_column_pairs(const PairStrip& strip, std::int64_t width, float* to) {
  const std::int64_t num_pairs = (strip.num_k + 1) / 2;
  for (std::int64_t j = 0; j < width; j += kPairSquare) {
    const __mmask8 columns = first_of_8(width - j);
    for (std::int64_t pair = 0; pair < num_pairs; pair += kPairSquare) {
      const __mmask16 elements = first_of_16(strip.num_k - 2 * pair);
      __m256 rows[kPairSquare];
      for (std::int64_t i = 0; i < kPairSquare; ++i) {
        const bool exists = j + i < strip.columns;
        const float* const from = strip.from + (exists ? (j + i) * strip.stride + 2 * pair : 0);
        rows[i] = __builtin_bit_cast(__m256, _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(
                                                 exists ? elements : __mmask16{0}, from)));
      }
      __m256 pairs[kPairSquare];
      internal::transpose_8x8(rows, pairs);
      const std::int64_t count = std::min(kPairSquare, num_pairs - pair);
      for (std::int64_t i = 0; i < count; ++i) {
        _mm256_mask_storeu_ps(to + (pair + i) * width + j, columns, pairs[i]);
      }
    }
  }
}

#else

void pack_row_pairs(const PairStrip& /*strip*/, std::int64_t /*width*/,
                    std::int64_t /*panel_stride*/, float* /*to*/) {
  SUPERSTEP_CHECK(false, "pairs of bf16 numbers in a build without instructions for them");
}

void pack_column_pairs(const PairStrip& /*strip*/, std::int64_t /*width*/, float* /*to*/) {
  SUPERSTEP_CHECK(false, "pairs of bf16 numbers in a build without instructions for them");
}

#endif

}  // namespace superstep::kernels

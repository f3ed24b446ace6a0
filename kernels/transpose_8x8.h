// Transposes 8 x 8 numbers of 32 bits in registers; for builds with AVX2.
#pragma once

#if defined(__AVX2__)
#include <cstddef>

#include <immintrin.h>

namespace superstep::kernels::internal {

// to[k] lane j = from[j] lane k.
[[gnu::always_inline]] inline void transpose_8x8(const __m256* from, __m256* to) {
  __m256 r[8];
  __m256 t[8];
  for (std::size_t i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(from[i], from[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(from[i], from[i + 1]);
  }
  for (std::size_t i = 0; i < 8; i += 4) {
    r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xEE);
    r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xEE);
  }
  for (std::size_t i = 0; i < 4; ++i) {
    to[i] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
    to[i + 4] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
  }
}

}  // namespace superstep::kernels::internal
#endif

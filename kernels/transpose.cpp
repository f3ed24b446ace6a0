#include "kernels/transpose.h"

#include <cstddef>

#include "kernels/transpose_8x8.h"

namespace superstep::kernels::internal {

namespace {

#if defined(__AVX2__)
// to[k][j] = from[j][k] for 8 x 8.
void transpose_square(const float* from, std::int64_t from_stride, float* to,
                      std::int64_t to_stride) {
  __m256 rows[8];
  __m256 columns[8];
  for (std::size_t i = 0; i < 8; ++i) {
    rows[i] = _mm256_loadu_ps(from + static_cast<std::int64_t>(i) * from_stride);
  }
  transpose_8x8(rows, columns);
  for (std::size_t i = 0; i < 8; ++i) {
    _mm256_storeu_ps(to + static_cast<std::int64_t>(i) * to_stride, columns[i]);
  }
}
constexpr std::int64_t kTransposed = 8;
#else
void transpose_square(const float*, std::int64_t, float*, std::int64_t) {}
constexpr std::int64_t kTransposed = std::int64_t{1} << 40;
#endif

}  // namespace

void transpose(std::int64_t columns, std::int64_t num_k, const float* from,
               std::int64_t from_stride, float* to, std::int64_t to_stride) {
  std::int64_t j = 0;
  for (; j + kTransposed <= columns; j += kTransposed) {
    std::int64_t k = 0;
    for (; k + kTransposed <= num_k; k += kTransposed) {
      transpose_square(from + j * from_stride + k, from_stride, to + k * to_stride + j, to_stride);
    }
    for (; k < num_k; ++k) {
      for (std::int64_t i = j; i < j + kTransposed; ++i) {
        to[k * to_stride + i] = from[i * from_stride + k];
      }
    }
  }
  for (; j < columns; ++j) {
    for (std::int64_t k = 0; k < num_k; ++k) {
      to[k * to_stride + j] = from[j * from_stride + k];
    }
  }
}

}  // namespace superstep::kernels::internal

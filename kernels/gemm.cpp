#include "kernels/gemm.h"

#include <algorithm>

#include <Eigen/Core>

#include "kernels/threads.h"
#ifdef SUPERSTEP_HAVE_ONEDNN
#include "kernels/onednn/gemm.h"
#endif

namespace superstep::kernels {
namespace {

// Below this sum of sizes Eigen evaluates coefficient by coefficient, with packets where the
// address of C allows: bits would depend on addresses. Plain loops do as well there.
constexpr std::int64_t kSmallestEigenSizes = 20;

template <typename T>
void small_gemm(const GemmShape& shape, const T* a, const T* b, T* c) {
  const std::int64_t a_row = shape.transpose_a ? 1 : shape.k;
  const std::int64_t a_column = shape.transpose_a ? shape.m : 1;
  const std::int64_t b_row = shape.transpose_b ? 1 : shape.n;
  const std::int64_t b_column = shape.transpose_b ? shape.k : 1;
  for (std::int64_t i = 0; i < shape.m; ++i) {
    for (std::int64_t j = 0; j < shape.n; ++j) {
      T sum = 0;
      for (std::int64_t p = 0; p < shape.k; ++p) {
        sum += a[i * a_row + p * a_column] * b[p * b_row + j * b_column];
      }
      c[i * shape.n + j] = sum;
    }
  }
}

template <typename T>
void large_gemm(const GemmShape& shape, const T* a, const T* b, T* c) {
  using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using Input = Eigen::Map<const Matrix>;
  const Input left(a, shape.transpose_a ? shape.k : shape.m, shape.transpose_a ? shape.m : shape.k);
  const Input right(b, shape.transpose_b ? shape.n : shape.k,
                    shape.transpose_b ? shape.k : shape.n);
  Eigen::Map<Matrix> product(c, shape.m, shape.n);
  if (shape.transpose_a && shape.transpose_b) {
    product.noalias() = left.transpose() * right.transpose();
  } else if (shape.transpose_a) {
    product.noalias() = left.transpose() * right;
  } else if (shape.transpose_b) {
    product.noalias() = left * right.transpose();
  } else {
    product.noalias() = left * right;
  }
}

// True when there is nothing to multiply; C is then complete.
template <typename T>
bool finish_empty(const GemmShape& shape, T* c) {
  if (shape.m > 0 && shape.n > 0 && shape.k > 0) {
    return false;
  }
  std::fill(c, c + shape.m * shape.n, T{0});
  return true;
}

template <typename T>
void eigen_product(const GemmShape& shape, const T* a, const T* b, T* c) {
  if (finish_empty(shape, c)) {
    return;
  }
  if (shape.m + shape.n + shape.k < kSmallestEigenSizes) {
    small_gemm(shape, a, b, c);
    return;
  }
  pin_eigen_blocking();
  large_gemm(shape, a, b, c);
}

}  // namespace

void gemm_eigen(const GemmShape& shape, const float* a, const float* b, float* c) {
  eigen_product(shape, a, b, c);
}

void gemm_eigen(const GemmShape& shape, const double* a, const double* b, double* c) {
  eigen_product(shape, a, b, c);
}

void gemm(const GemmShape& shape, const float* a, const float* b, float* c) {
#ifdef SUPERSTEP_HAVE_ONEDNN
  if (!finish_empty(shape, c)) {
    onednn::sgemm(shape, a, b, c);
  }
#else
  eigen_product(shape, a, b, c);
#endif
}

void gemm(const GemmShape& shape, const double* a, const double* b, double* c) {
  eigen_product(shape, a, b, c);
}

}  // namespace superstep::kernels

// Matrix product: C (m, n) = op(A) (m, k) * op(B) (k, n), all row-major and dense.
//
//   gemm(GemmShape{.m = 64, .n = 10, .k = 512}, x, w, y);                          // y = x w
//   gemm(GemmShape{.m = 512, .n = 10, .k = 64, .transpose_a = true}, x, dy, dw);   // dw = x^T dy
//
// C is overwritten, never added to (beta = 0): accumulating inside a product would change bits with
// the way a batch is cut. float32 goes to oneDNN where it is compiled in, everything else to Eigen.
// The result is a function of the values, the shape and the team size (kernels/threads.h) alone,
// not of addresses; C must not overlap A or B. Costs 2 m n k flops. An empty sum (k = 0) gives
// zeros.
#pragma once

#include <cstdint>

#include "kernels/op.h"

namespace superstep::kernels {

struct GemmShape {
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;
  bool transpose_a = false;  // A is stored (k, m)
  bool transpose_b = false;  // B is stored (n, k)
};

void gemm(const GemmShape& shape, const float* a, const float* b, float* c);
void gemm(const GemmShape& shape, const double* a, const double* b, double* c);

// The Eigen product whatever is compiled in (an oracle for the other, and the kernels of
// Backend::kEigen).
void gemm_eigen(const GemmShape& shape, const float* a, const float* b, float* c);
void gemm_eigen(const GemmShape& shape, const double* a, const double* b, double* c);

}  // namespace superstep::kernels

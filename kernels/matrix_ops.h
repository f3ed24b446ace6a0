// Ops on matrices, and the bias that goes with them.
//
//   matmul(a, b)            (m, n) = op(a) (m, k) * op(b) (k, n); attributes transpose_a,
//   transpose_b
//                           (default false): the stored operand is then (k, m) or (n, k)
//                           precision "bf16": operands rounded (kernels/precision.h); float32 only
//   bias_add(x, bias)       x (N, C) or (N, C, H, W), bias (C): adds bias[c] to channel c
//   bias_add_backward(g)    (C): the sum of g (N, C) or (N, C, H, W) over all axes but the second
//
// float32 and float64. Products are those of kernels/gemm.h; the sums have the fixed order of
// kernels/channel_sums.h.
#pragma once

#include <vector>

#include "kernels/op.h"

namespace superstep::kernels {

std::vector<OpInfo> matrix_ops();

}  // namespace superstep::kernels

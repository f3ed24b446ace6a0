// Batch normalisation (Ioffe and Szegedy 2015) of x (N, C, ...), per channel over all other axes.
//
//   batch_norm(x, gamma, beta) -> y, mean, variance      training: statistics of the given samples
//       y = (x - mean) / sqrt(variance + epsilon) * gamma + beta; mean and biased variance are (C)
//   batch_norm_backward(grad, x, gamma, mean, variance) -> dx, dgamma, dbeta
//   batch_norm_inference(x, gamma, beta, mean, variance) -> y
//
// Attribute of all three: epsilon (positive). float32 and float64; gamma, beta and statistics have
// the dtype of x. The samples given are one slot: ghost batch normalisation (Hoffer et al. 2017).
// Two passes for the statistics (mean, then squared deviations), all sums in the fixed order of
// kernels/channel_sums.h: lanes of the element type per plane, planes added in double. An empty
// batch gives zero statistics and zero gradients. Gradients that flow into mean and variance are
// honoured; batch_norm_backward and batch_norm_inference are differentiated as compositions of
// simple ops, so that any order works.
#pragma once

#include <vector>

#include "kernels/op.h"

namespace superstep::kernels {

std::vector<OpInfo> norm_ops();

}  // namespace superstep::kernels

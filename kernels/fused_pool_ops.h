// Bias, ReLU and max pooling in one pass over the image, and the way back in one.
//
//   bias_relu_max_pool(x, bias) -> y, argmax      as max_pool(relu(bias_add(x, bias)))
//   relu_max_pool_backward(grad, argmax, y) -> dx as relu_backward(max_pool_backward(grad, argmax),
//   r)
//                                                 with r = relu(bias_add(x, bias))
//
// x (N, C, H, W), bias (C); y, argmax and grad (N, C, OH, OW); attributes of max_pool and of
// max_pool_backward (kernels/max_pool_ops.h). Same bits. The image is read or written once instead
// of three times or twice, and r is never made: where a gradient arrives, r is the maximum y.
//
// Used inside programs alone (kernels/fuse_calls.h); in no table.
#pragma once

#include "kernels/op.h"

namespace superstep::kernels {

// Whether the two serve a max pool of these attributes: not of windows too large for a table.
bool can_fuse_max_pool(const Attributes& attributes, const Shape& image);

const OpInfo& bias_relu_max_pool_op();
const OpInfo& relu_max_pool_backward_op();

}  // namespace superstep::kernels

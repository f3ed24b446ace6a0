// Convolution and its two adjoints (kernels/convolution.h has the formula).
//
//   conv2d(x, filter)                    x (N, C, H, W), filter (O, C, KH, KW) -> (N, O, OH, OW)
//   conv2d_backward_input(grad, filter)  -> (N, C, H, W) = attribute input_shape
//   conv2d_backward_filter(x, grad)      -> (O, C, KH, KW) = attribute filter_shape
//
// Attributes of all three: stride [2] = 1, 1; padding [4] = 0 (top, bottom, left, right); dilation
// [2] = 1, 1; precision "bf16": operands rounded (kernels/precision.h), float32 only. The three are
// bilinear and each one's gradients are the other two: any order of differentiation works. float32
// runs in oneDNN where it is compiled in, everything else as Eigen matrix products. An empty batch
// gives empty outputs and zero filter gradients.
#pragma once

#include <vector>

#include "kernels/op.h"

namespace superstep::kernels {

std::vector<OpInfo> conv_ops();

}  // namespace superstep::kernels

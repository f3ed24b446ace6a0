// Pooling over windows of images (N, C, H, W).
//
//   max_pool(x) -> y, argmax         argmax: int32, the flat position h * W + w of the maximum in
//   its
//                                    input plane; the first one on ties; a NaN counts as the
//                                    maximum
//   max_pool_backward(grad, argmax)  -> attribute input_shape: adds grad where the maxima were
//   max_pool_gather(x, argmax)       -> x at the argmax positions; adjoint of max_pool_backward
//   average_pool(x)                  the mean over the part of the window inside the image (padding
//                                    is not counted)
//   average_pool_backward(grad)      -> attribute input_shape
//   global_average_pool(x)           -> (N, C): the mean of each plane
//   global_average_pool_backward(g)  g (N, C) -> attribute input_shape
//
// Attributes of the windowed ones: kernel [2], stride [2] = 1, 1, padding [4] = 0 (top, bottom,
// left, right), each smaller than the kernel. float32 and float64. A window's elements are added in
// row-major order. Gradients that meet in one element are added in row-major order of the windows
// (maximum) or of the taps (mean).
#pragma once

#include <vector>

#include "kernels/op.h"

namespace superstep::kernels {

std::vector<OpInfo> pool_ops();

}  // namespace superstep::kernels

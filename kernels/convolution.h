// One 2-d convolution as a value, and its kernels built on matrix products.
//
// Forward reads x (N, C, H, W) and the filter (O, C, KH, KW) and gives y (N, O, OH, OW):
//
//   y[n, o, i, j] = sum over c, p, q of x[n, c, i*stride - top + p*dilation, ...] * filter[o, c, p,
//   q]
//
// (a correlation, as usual in this field). It is bilinear; the two other passes are its adjoints:
// kBackwardInput (dy, filter) -> dx and kBackwardFilter (x, dy) -> dfilter. Costs 2 N O OH OW C KH
// KW flops each.
//
// make_gemm_convolution unfolds samples into a matrix (im2col) and multiplies: any shape, float32
// and float64, Eigen. Forward and input gradient go sample by sample, so that a sample's bits
// depend neither on its place in the batch nor on the batch. The filter gradient takes blocks of
// samples, sized by the shape, and adds them in order; the input gradient adds the taps in order.
// The workspace holds the unfolded block.
#pragma once

#include <memory>
#include <string_view>

#include "kernels/op.h"
#include "kernels/window.h"

namespace superstep::kernels {

enum class ConvolutionPass : std::uint8_t { kForward, kBackwardInput, kBackwardFilter };

struct Convolution {
  std::int64_t batch = 0;
  std::int64_t in_channels = 0;
  std::int64_t out_channels = 0;
  Window window;

  Shape input_shape() const;
  Shape filter_shape() const;
  Shape output_shape() const;
  std::int64_t patch_size() const { return in_channels * window.taps(); }  // C KH KW
  double flops() const;
};

// Throws InvalidArgument naming `op` when ranks, channels or the window do not fit.
Convolution make_convolution(std::string_view op, const Shape& input, const Shape& filter,
                             const Attributes& attributes);

std::unique_ptr<Kernel> make_gemm_convolution(ConvolutionPass pass, const Convolution& convolution,
                                              DType dtype);

}  // namespace superstep::kernels

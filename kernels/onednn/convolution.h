// Convolution of float32 tensors by oneDNN's direct algorithm (no Winograd: its rounding is worse).
//
// Descriptors, primitives and reorders are made once; oneDNN picks the physical layouts and the
// kernel reorders in its workspace what lies otherwise: images are given plain (N, C, H, W) or in
// channel blocks (kernels/layout.h), which is what oneDNN picks most often; the primitive, and so
// the bits, are the same for both. Measured on AVX-512, reorders from and to plain included, that
// is 1.2 to 4 times as fast as oneDNN's kernels for plain layouts in every shape of our models but
// one: the gradient of an input with very few channels computes mostly padding. There the matrix
// product (make_gemm_convolution) beats both; is_profitable decides by the shape alone.
//
// In bf16 (kernels/precision.h) operands are converted by the reorder that brings them into the
// primitive's layout; the result is added up and stored in float32.
//
// Bits depend on the shape, the team size and the instruction set. A run allocates nothing of ours;
// oneDNN itself takes a few hundred bytes for the arguments of an execution.
#pragma once

#include <memory>

#include "kernels/convolution.h"
#include "kernels/precision.h"

namespace superstep::kernels::onednn {

bool is_profitable(ConvolutionPass pass, const Convolution& convolution);

// How the two images of a convolution lie: its input and its output, or their gradients.
struct ImageLayouts {
  Layout x = Layout::kPlain;
  Layout y = Layout::kPlain;
};

// Null where oneDNN has nothing better than its naive reference code (unusual shapes; processors
// without bf16): use make_gemm_convolution then, or another precision. All sizes must be positive.
std::unique_ptr<Kernel> make_convolution_kernel(ConvolutionPass pass,
                                                const Convolution& convolution,
                                                const ImageLayouts& layouts = {},
                                                Precision precision = Precision::kFloat32);

}  // namespace superstep::kernels::onednn

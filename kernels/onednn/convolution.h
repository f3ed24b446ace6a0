// float32 convolution by oneDNN's direct algorithm (no Winograd: its rounding is worse).
//
// Descriptors, primitives and reorders are made once; oneDNN picks the physical layouts and the
// kernel reorders from and to plain (N, C, H, W) in its workspace. Measured on AVX-512, that is two
// to four times as fast as oneDNN's kernels for plain layouts; the exception is the gradient of an
// input with very few channels, which stays plain. Which of the two is used depends on the shape
// alone. Bits depend on the shape, the team size and the instruction set. A run allocates nothing
// of ours; oneDNN itself takes a few hundred bytes for the arguments of an execution.
#pragma once

#include <memory>

#include "kernels/convolution.h"

namespace superstep::kernels::onednn {

// Null where oneDNN has nothing better than its naive reference code (unusual shapes): use
// make_gemm_convolution then. All sizes must be positive.
std::unique_ptr<Kernel> make_convolution_kernel(ConvolutionPass pass,
                                                const Convolution& convolution);

}  // namespace superstep::kernels::onednn

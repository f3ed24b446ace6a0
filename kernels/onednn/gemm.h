// float32 matrix product by oneDNN: the engine behind kernels::gemm (kernels/gemm.h states the
// contract). Sizes must be positive. Uses the team of the calling thread.
#pragma once

#include "kernels/gemm.h"

namespace superstep::kernels::onednn {

void sgemm(const GemmShape& shape, const float* a, const float* b, float* c);

}  // namespace superstep::kernels::onednn

// A panel product (kernels/panel_gemm.h) as the kernel of an op: inputs A and B, output C.
#pragma once

#include <memory>

#include "kernels/op.h"
#include "kernels/panel_gemm.h"

namespace superstep::kernels {

std::unique_ptr<Kernel> panel_kernel(PanelGemm product);

}  // namespace superstep::kernels

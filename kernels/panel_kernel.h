// A panel product (kernels/panel_gemm.h) as the kernel of an op: inputs A and B, output C.
#pragma once

#include <memory>
#include <vector>

#include "kernels/op.h"
#include "kernels/panel_gemm.h"

namespace superstep::kernels {

// In the precision that the call asks for: on pairs of bf16 where PanelGemm has instructions for
// the shape, else on operands rounded beforehand. `folds`: as of PanelGemm.
std::unique_ptr<Kernel> panel_kernel(const OpSignature& signature, const GemmShape& shape,
                                     std::vector<int> folds = {0});

}  // namespace superstep::kernels

// A kernel whose operands are rounded to bf16 first: what bf16 means where a build or a shape has
// no instructions for it.
//
// The inner kernel sees copies in the workspace; they lie as the operands do, plain or in channel
// blocks. Costs one pass over the operands and their size in workspace.
#pragma once

#include <memory>

#include "kernels/op.h"

namespace superstep::kernels {

// The kernel itself where the call's precision is float32 (kernels/precision.h); null stays null.
std::unique_ptr<Kernel> with_rounded_operands(const OpSignature& signature,
                                              std::unique_ptr<Kernel> kernel);

}  // namespace superstep::kernels

// Replaces runs of calls of a recording by calls that do the same in one pass over memory, with the
// same bits:
//
//   bias_add, relu, max_pool            by bias_relu_max_pool      (kernels/fused_pool_ops.h)
//   max_pool_backward, relu_backward    by relu_max_pool_backward
//
// where nobody else reads what lies between. Both or neither where the recording has gradients: the
// second reads what the first one leaves of the first three.
//
// Internal to Program: rewrites the recording of one slot.
#pragma once

#include "kernels/program_recorder.h"

namespace superstep::kernels::internal {

void fuse_calls(Recording& recording);

}  // namespace superstep::kernels::internal

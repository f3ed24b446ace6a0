// Ops that move elements and compute nothing, for every dtype: reshape (a view), transpose, concat,
// slice, pad. Each is the transpose of another, so gradients of any order stay in this group.
// space_to_batch and batch_to_space are in kernels/space_to_batch_ops.h.
#pragma once

#include <vector>

#include "kernels/op.h"

namespace superstep::kernels {

std::vector<OpInfo> shape_ops();

}  // namespace superstep::kernels

// space_to_batch and batch_to_space over the pixels of (N, C, H, W); see kernels/ops.h for the
// layout. Each is the other's gradient. With them a dilated convolution becomes an ordinary one on
// more, smaller images (the role they have in the paper on TensorFlow's operations and in Yu and
// Koltun 2016).
#pragma once

#include <vector>

#include "kernels/op.h"

namespace superstep::kernels {

std::vector<OpInfo> space_to_batch_ops();

}  // namespace superstep::kernels

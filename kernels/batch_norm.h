// The kernels behind the batch-norm ops (kernels/norm_ops.h has inputs, outputs and formulas).
//
// Plain vectorised loops that work through one channel at a time (all channels of a row where a
// channel has one element per sample), so that its samples are read from memory once for all
// passes.
#pragma once

#include <memory>

#include "kernels/op.h"

namespace superstep::kernels {

enum class BatchNormPass : std::uint8_t { kTraining, kBackward, kInference };

std::unique_ptr<Kernel> make_batch_norm(BatchNormPass pass, const TensorType& x, double epsilon);

}  // namespace superstep::kernels

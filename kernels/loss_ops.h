// softmax and log_softmax over the last axis; cross-entropy on logits.
//
// All subtract the row's largest value first, so no exponential overflows; rows are summed in
// double in the order of kernels/reduce_ops.h. cross_entropy(logits (N, C), labels (N)) gives the
// losses (N) of the samples, not their mean: sums and counts are divided once, by the owner. Labels
// are checked when a kernel runs.
#pragma once

#include <vector>

#include "kernels/op.h"

namespace superstep::kernels {

std::vector<OpInfo> loss_ops();

}  // namespace superstep::kernels

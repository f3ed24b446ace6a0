// Which values of a recording lie in channel blocks, and the conversions that takes.
//
// Convolutions run fastest on channel blocks (kernels/layout.h), and what stands between them works
// on blocks as well as on planes. So every image that a program makes lies in blocks, as far as its
// channels fill them and something gains from it: inputs, outputs and values with views of another
// shape stay plain, and so does everything in a recording without a convolution that profits. Where
// an op has no kernel for blocks, its operands are converted, each value at most once a way.
// Conversions copy, so bits do not change.
//
// Internal to Program: rewrites a recording before kernels are made.
#pragma once

#include "kernels/program_recorder.h"

namespace superstep::kernels::internal {

void plan_layouts(Recording& recording);

}  // namespace superstep::kernels::internal

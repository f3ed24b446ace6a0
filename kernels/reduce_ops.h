// sum and mean over axes, and broadcast_to.
//
// Order of summation, a function of the shape alone: sums are kept in double (for float32 too).
// When the innermost remaining dimension is summed, its row of n elements goes to 16 partial sums
// (element i to partial sum i mod 16, in order of i), which are added pairwise, 8 + 8, 4 + 4, 2 +
// 2, 1 + 1; rows are added in order. Otherwise the elements of an output are added in row-major
// order. Neighbouring axes that are both summed or both kept count as one.
#pragma once

#include <vector>

#include "kernels/op.h"

namespace superstep::kernels {

std::vector<OpInfo> reduce_ops();

// The sum of n contiguous values in the order above.
double sum_of_row(const float* values, std::int64_t n);
double sum_of_row(const double* values, std::int64_t n);

}  // namespace superstep::kernels

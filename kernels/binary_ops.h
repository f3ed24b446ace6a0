// add, sub, mul, div with NumPy broadcasting.
#pragma once

#include <vector>

#include "kernels/op.h"

namespace superstep::kernels {

std::vector<OpInfo> binary_ops();

}  // namespace superstep::kernels

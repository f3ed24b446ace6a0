// embedding_lookup: rows of a table by index; embedding_backward adds rows up into a table.
//
// Rows of the same index are added in the order of the indices. Indices are checked when a kernel
// runs. The gradient is dense: (V, D) as the table.
#pragma once

#include <vector>

#include "kernels/op.h"

namespace superstep::kernels {

std::vector<OpInfo> embedding_ops();

}  // namespace superstep::kernels

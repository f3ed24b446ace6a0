// The max-pool part of the pooling ops (kernels/pool_ops.h lists and describes them all).
#pragma once

#include <vector>

#include "kernels/op.h"

namespace superstep::kernels {

std::vector<OpInfo> max_pool_ops();

}  // namespace superstep::kernels

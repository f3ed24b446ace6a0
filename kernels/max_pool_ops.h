// The max-pool part of the pooling ops (kernels/pool_ops.h lists and describes them all).
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/op.h"

namespace superstep::kernels {

std::vector<OpInfo> max_pool_ops();

// The positions come from a caller: one outside the plane must not become a write outside the
// tensor. Throws InvalidArgument in the name of `op`.
void expect_positions(std::string_view op, std::span<const std::int32_t> argmax,
                      std::int64_t plane);

}  // namespace superstep::kernels

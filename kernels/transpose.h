// Transposes a matrix of floats, by squares in registers where the build has them.
#pragma once

#include <cstdint>

namespace superstep::kernels::internal {

// to[k * to_stride + j] = from[j * from_stride + k], j < columns, k < num_k.
void transpose(std::int64_t columns, std::int64_t num_k, const float* from,
               std::int64_t from_stride, float* to, std::int64_t to_stride);

}  // namespace superstep::kernels::internal

// Elementwise left op right on untyped memory: the arithmetic of reductions.
//
// out may be left or right itself. The order of the operands is kept (left + right), which is all
// that decides the bits of a floating-point sum along a fixed tree. Minima and maxima return left
// unless right is strictly better. Cost: one pass, memory-bound.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "bsp/world.h"

namespace superstep::bsp::internal {

std::int64_t size_of(DataType type);
std::string_view name_of(DataType type);

// Throws InvalidArgument for what has no meaning: the sum of bools.
void require_reducible(DataType type, ReduceOp op);

void combine(DataType type, ReduceOp op, std::byte* out, const std::byte* left,
             const std::byte* right, std::int64_t count);

}  // namespace superstep::bsp::internal

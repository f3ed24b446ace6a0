// Gradient clipping: by value, elementwise, and by global norm, with bits that no cut changes.
//
// The global norm is the square root of tree_sum() over the squared norms of all blocks of 4,096
// elements. A block's sum is formed in double in a fixed order, blocks are added along the fixed
// tree (bsp/slot_tree.h: split at the largest power of two below the length), so the norm has the
// same bits for every number of ranks: each owner computes its blocks, the numbers are gathered in
// block order, and every rank adds them up. Cost: one pass over the gradient, 8 bytes per block on
// the wire.
//
//   std::vector<double> mine(blocks of my shard);
//   block_squared_norms<float>(my_gradient, mine);
//   world.allgather(mine -> all);
//   const double norm = std::sqrt(tree_sum(all));
//   scale<float>(my_gradient, global_norm_factor(norm, 1.0));
//
// NaN and infinity are never hidden: clipping by value leaves NaN as it is (infinity becomes the
// limit), a norm that is not finite gives the factor 1, so that the gradient arrives unchanged
// where the trainer checks numbers.
#pragma once

#include <span>

namespace superstep::paramserver {

// Every element to [-limit, limit], limit > 0; NaN stays NaN. Elementwise: cuts do not matter.
template <typename T>
void clip_by_value(std::span<T> gradient, double limit);

// out[b] = sum of squares of block b. gradient.size() == out.size() * kBlockElements; elements that
// must not count (padding, masked entries, statistics) are zero.
template <typename T>
void block_squared_norms(std::span<const T> gradient, std::span<double> out);

// Sum along the fixed tree; 0 for nothing.
double tree_sum(std::span<const double> values);

// What to multiply the gradient with so that its norm is at most max_norm > 0: at most 1, and 1 for
// a norm that is not finite.
double global_norm_factor(double norm, double max_norm);

// gradient *= factor, rounded to T once; left alone when factor is 1.
template <typename T>
void scale(std::span<T> gradient, double factor);

extern template void clip_by_value<float>(std::span<float>, double);
extern template void clip_by_value<double>(std::span<double>, double);
extern template void block_squared_norms<float>(std::span<const float>, std::span<double>);
extern template void block_squared_norms<double>(std::span<const double>, std::span<double>);
extern template void scale<float>(std::span<float>, double);
extern template void scale<double>(std::span<double>, double);

}  // namespace superstep::paramserver

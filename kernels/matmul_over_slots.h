// The weight gradient of several slots at once: sum over slots s of A_s^T B_s, along a tree.
//
//   matmul_over_slots(a, b)   a (K n, m), b (K n, c) -> (m, c); attribute folds: one number per
//   slot; precision as of matmul
//
// A_s and B_s are the n rows of slot s. After slot s the top two sums on a stack are added folds[s]
// times (left + right); the last fold leaves one sum. That has the bits of products made one by one
// by kernels/panel_gemm.h and added along the tree, but the result is written once.
//
// Used inside programs alone (kernels/slot_join.h); in no table. float32, one thread.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/op.h"
#include "kernels/precision.h"

namespace superstep::kernels {

// The most slots of `rows` rows each that one call takes; 0: none.
int max_slots_of_matmul(const TensorType& a, const TensorType& b, std::int64_t rows);

// Of the call that sums up over slots what `matmul` makes of one.
Attributes over_slots(const Attributes& matmul, std::span<const int> folds);

const OpInfo& matmul_over_slots_op();

}  // namespace superstep::kernels

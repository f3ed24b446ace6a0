// Whether a call over the samples of several slots has the bits of one call per slot: both ways are
// run on random numbers, when a joined recording is made (kernels/slot_join.h).
//
// Which way a sum runs depends on the kernel that a shape gets, never on values, so one set of
// numbers tells. Costs two calls; memory of both ways' inputs and outputs.
//
// Internal to Program.
#pragma once

#include <span>
#include <vector>

#include "kernels/program_recorder.h"

namespace superstep::kernels::internal {

// Of `times` slots, one behind the other along axis 0.
TensorType repeated(const TensorType& type, int times);
Tensor repeat_rows(const Tensor& one, int times);

// `types` are of one slot's inputs; where rows[i], input i is the slot's samples, elsewhere all
// slots share it.
bool rows_are_independent(const RecordedCall& call, std::span<const TensorType> types,
                          const std::vector<bool>& rows, int num_slots);

// Of a matmul x^T dy per slot, added along the folds of a tree (bsp::tree_folds), against
// matmul_over_slots.
bool sums_over_slots_agree(const RecordedCall& call, std::span<const TensorType> types,
                           std::span<const int> folds);

}  // namespace superstep::kernels::internal

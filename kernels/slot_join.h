// From the recording of one slot to that of several slots in one pass, with the bits of one slot
// after the other.
//
// A slot is a run of n samples whose sums are kept apart until they are added along a tree. In the
// joined recording the slots' samples lie one behind the other along axis 0. Every call becomes one
// of three things:
//   together   one call over the samples of all slots: a sample's result must not depend on what
//              lies beside it. Ops whose rows are independent by definition, on matrices; for each
//              shape both ways are run on random numbers here, and only equal bits count.
//   over slots a weight gradient x^T dy, made slot by slot and added in registers
//              (kernels/matmul_over_slots.h); proven in the same way.
//   by slot    one call per slot on its part of the samples: everything else, such as statistics of
//              batch normalisation, and images: a few of them fill a kernel, and stay in cache.
// What a slot sums up is added along the tree as soon as it is there. So the result differs from a
// loop over slots in speed alone.
//
// Internal to Program.
#pragma once

#include <optional>

#include "kernels/program.h"
#include "kernels/program_recorder.h"

namespace superstep::kernels::internal {

// Nothing where parts of slots would not start on 64 bytes.
std::optional<Recording> join_slots(const Recording& one, const SlotPlan& plan);

}  // namespace superstep::kernels::internal

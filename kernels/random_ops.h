// dropout (Srivastava et al. 2014), inverted: what is kept is scaled by 1 / (1 - rate).
//
// The mask is a pure function of its inputs: element e of the sample with id s is dropped when word
// e mod 4 of block e / 4 of the Philox stream (seed; "dropout", epoch, s, op_index) is below rate *
// 2^32. Rank, thread, batch and the sample's place in it play no part. The op is linear in x and is
// its own gradient.
#pragma once

#include <vector>

#include "kernels/op.h"

namespace superstep::kernels {

std::vector<OpInfo> random_ops();

}  // namespace superstep::kernels

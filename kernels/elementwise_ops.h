// Ops of one tensor, element by element, their backward ops, and cast.
//
// relu, tanh and sigmoid are differentiated through their outputs, so that a plan may free their
// inputs; their backward ops (relu_backward, ...) are ops with gradients of their own. Float exp,
// tanh and sigmoid come from kernels/math.h: the bits of an element depend on its value only.
#pragma once

#include <vector>

#include "kernels/op.h"

namespace superstep::kernels {

std::vector<OpInfo> elementwise_ops();

}  // namespace superstep::kernels

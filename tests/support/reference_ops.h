// Naive references for the ops on elements, shapes, losses and random numbers: index arithmetic and
// loops in double, straight from the definitions, sharing no code with the kernels.
// tests/support/reference_heavy_ops.h has the products, convolutions, pools and norms.
#pragma once

#include <string_view>

#include "tests/support/reference_heavy_ops.h"

namespace superstep::testing {

// Null for an op this file does not know.
ReferenceFunction light_reference(std::string_view op);

// Of either file; null when no reference exists.
ReferenceFunction reference_of(std::string_view op);

}  // namespace superstep::testing

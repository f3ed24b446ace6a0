// The one Environment of an SPMD test program, made by its main.
#pragma once

#include "bsp/environment.h"

namespace superstep::testing {

// Valid while main runs.
bsp::Environment& spmd_environment();
void set_spmd_environment(bsp::Environment* environment);

}  // namespace superstep::testing

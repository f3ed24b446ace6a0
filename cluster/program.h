// The `superstep` program: command line in, exit code out (base/error.h lists the codes).
#pragma once

#include "bsp/environment.h"

namespace superstep::cluster {

// Errors are printed once, by the root process, for all processes that had them.
int run_program(bsp::Environment& environment, int argc, const char* const* argv);

}  // namespace superstep::cluster

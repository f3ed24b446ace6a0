// Refuses processes that were started together but do not know of each other.
//
// `srun superstep train` without PMIx, or an mpirun of another MPI, starts n processes that each
// believe to be alone: n times the same training, into one directory. What such launchers put into
// the environment gives them away.
#pragma once

#include "bsp/environment.h"

namespace superstep::cluster {

// Throws InvalidArgument that names the launcher, its count and the remedy. Nothing under Open
// MPI's mpirun, and nothing for one process.
void require_known_launcher(const bsp::Environment& environment);

}  // namespace superstep::cluster

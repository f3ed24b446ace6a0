// The `superstep` program: command line in, exit code out (base/error.h lists the codes).
#pragma once

namespace superstep::cluster {

// Starts MPI when mpirun launched the process. Errors are printed once, by the root process, for
// all processes that had them. A result that could not be written to standard output is a failure.
int run_program(int argc, const char* const* argv);

}  // namespace superstep::cluster

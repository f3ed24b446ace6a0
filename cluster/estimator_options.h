// The command line of `superstep estimator`.
#pragma once

#include <CLI/App.hpp>

#include "cluster/command_line.h"

namespace superstep::cluster {

// Adds the command to the program; what is parsed goes to `arguments`, which must remain valid.
void add_estimator(CLI::App& program, EstimatorArguments& arguments);

}  // namespace superstep::cluster

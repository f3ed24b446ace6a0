// Before the first superstep: every rank is the same program, on the same configuration, model and
// data.
#pragma once

#include "bsp/world.h"
#include "cluster/setup.h"

namespace superstep::cluster {

// Collective. Throws CommunicationError (exit code 5) on every rank that names the first thing that
// differs, the ranks and both values. Directories may differ between nodes: the content is
// compared. Costs about 60 small allgathers.
void require_same_run(bsp::World& world, const RunSetup& setup);

// The program alone, for commands without a configuration of their own.
void require_same_program(bsp::World& world);

}  // namespace superstep::cluster

// Before the first superstep: every rank is the same program, on the same configuration, model and
// data, computing in the same way.
#pragma once

#include <string>

#include "bsp/agreement.h"
#include "bsp/world.h"
#include "cluster/setup.h"

namespace superstep::cluster {

// Collective. Throws CommunicationError (exit code 5) on every rank that names what differs, the
// ranks and both values. Directories may differ between nodes: the content is compared. Costs two
// small allgathers when all is well. `mpi_library`: bsp::Environment::mpi_library().
void require_same_run(bsp::World& world, const RunSetup& setup, const std::string& mpi_library);

// The program alone, for commands without a configuration of their own.
void require_same_program(bsp::World& world, const std::string& mpi_library);

// What is compared, by name; tests look at it.
bsp::Agreement program_fields(const std::string& mpi_library);
bsp::Agreement run_fields(const RunSetup& setup, const std::string& mpi_library, int num_ranks);

}  // namespace superstep::cluster

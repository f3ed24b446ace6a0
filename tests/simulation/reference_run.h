// The undisturbed run that the others are compared with: one rank, a checkpoint at every superstep.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/hash.h"
#include "tests/simulation/coordinator.h"

namespace superstep::simulation {

struct ReferenceRun {
  std::map<std::int64_t, Hash128> states;  // by superstep
  std::string end;
};

// In a simulation of its own; none may live. `run` writes and keeps every checkpoint.
ReferenceRun make_reference(const SupervisedRun& run);

// Fills what `run` is compared with.
void compare_with(const ReferenceRun& reference, SupervisedRun& run);

}  // namespace superstep::simulation

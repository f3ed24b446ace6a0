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
  // Of the same on three ranks.
  std::int64_t num_points = 0;
  std::int64_t num_disk_calls = 0;
};

// In simulations of their own; none may live. `run` writes and keeps every checkpoint.
ReferenceRun make_reference(const SupervisedRun& run);

// Fills what `run` is compared with, and how long it is about when it writes every so many
// supersteps.
void compare_with(const ReferenceRun& reference, std::int64_t every_supersteps, SupervisedRun& run);

}  // namespace superstep::simulation

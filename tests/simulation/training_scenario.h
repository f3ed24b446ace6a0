// Whole trainings that die and go on: worker::Trainer with its input thread, slots placed, measured
// or stolen, and checkpoints beside the supersteps; worker::FederatedTrainer with its cohorts,
// rejected updates, attackers and robust rules.
#pragma once

#include <cstdint>

#include "tests/simulation/seeds.h"

namespace superstep::simulation {

Problem run_training_seed(std::uint64_t seed);
Problem run_federated_seed(std::uint64_t seed);

}  // namespace superstep::simulation

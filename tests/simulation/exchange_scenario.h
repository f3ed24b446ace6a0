// The exchange of gradients: slots dealt, stolen and pushed in an order that the seed decides, with
// pushes that are too many, too late or of the wrong slot. Those are refused, and the parameters
// have the bits of one rank alone.
#pragma once

#include <cstdint>

#include "tests/simulation/seeds.h"

namespace superstep::simulation {

Problem run_exchange_seed(std::uint64_t seed);

}  // namespace superstep::simulation

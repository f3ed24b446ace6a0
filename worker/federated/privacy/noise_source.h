// Where the noise of a federated run comes from.
#pragma once

#include <cstdint>
#include <string_view>

namespace superstep::worker {

// kTest is a function of the seed: equal bits for tests of invariance, NOT private.
enum class NoiseSource : std::uint8_t { kSystem, kTest };
std::string_view name_of(NoiseSource source);

}  // namespace superstep::worker

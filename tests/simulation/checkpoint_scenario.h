// The checkpoint protocol by itself: ranks that write their shards of a small state beside their
// supersteps (paramserver::CheckpointWriter), die, and go on from the newest checkpoint.
#pragma once

#include <cstdint>

#include "tests/simulation/disk.h"
#include "tests/simulation/seeds.h"

namespace superstep::simulation {

// Mistakes that a protocol of checkpoints could make, for tests of the simulation itself. They are
// made with the real steps (paramserver/checkpoint_protocol.h) in another order.
enum class ProtocolFlaw : std::uint8_t {
  kNone,
  kManifestBeforeShards,  // sealed first, then the shards are written
  kSealWithoutWaiting,    // rank 0 seals when its own shard is written
  kPruneBeforeSeal,       // older checkpoints go when the new one is prepared
};

struct CheckpointFlaws {
  ProtocolFlaw protocol = ProtocolFlaw::kNone;
  DiskFlaw disk = DiskFlaw::kNone;
};

Problem run_checkpoint_seed(std::uint64_t seed);
Problem run_flawed_checkpoint_seed(std::uint64_t seed, const CheckpointFlaws& flaws);

}  // namespace superstep::simulation

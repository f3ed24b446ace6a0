// Brings every node's copy of the parameters up to date after the owners updated their shards.
#pragma once

#include <cstdint>
#include <span>

#include "bsp/world.h"

namespace superstep::paramserver {

// Collective. Rank r owns parameters [cuts[r], cuts[r+1]); owners send their shard to one rank of
// every other node (owner number modulo the node's size), which stores it in that node's
// `parameters`. Nothing happens on one node. Cost between N nodes: each owner sends (N-1) shards,
// one round.
void publish_between_nodes(bsp::World& world, std::span<const std::int64_t> cuts,
                           std::span<float> parameters);

}  // namespace superstep::paramserver

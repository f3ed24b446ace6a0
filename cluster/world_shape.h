// The shape of a world, as reports name it.
#pragma once

#include <string>
#include <vector>

#include "bsp/world.h"

namespace superstep::cluster {

struct WorldShape {
  int ranks = 1;
  int processes = 1;
  int lanes = 1;  // per process
  int nodes = 1;
  std::vector<int> node_of_rank;   // by rank
  std::vector<std::string> hosts;  // distinct, in rank order
};

WorldShape shape_of(const bsp::World& world);

// "4 ranks (2 processes x 2 lanes) on 1 node"
std::string to_text(const WorldShape& shape);

}  // namespace superstep::cluster

#include "cluster/world_shape.h"

#include <algorithm>
#include <string>

#include <fmt/format.h>

namespace superstep::cluster {

namespace {

std::string counted(int count, std::string_view one, std::string_view many) {
  return fmt::format("{} {}", count, count == 1 ? one : many);
}

}  // namespace

WorldShape shape_of(const bsp::World& world) {
  WorldShape shape;
  shape.ranks = world.size();
  shape.processes = world.num_processes();
  shape.lanes = world.size() / world.num_processes();
  shape.nodes = world.num_nodes();
  for (int rank = 0; rank < world.size(); ++rank) {
    shape.node_of_rank.push_back(world.node_of(rank));
    const std::string host = world.host_of(rank);
    if (std::find(shape.hosts.begin(), shape.hosts.end(), host) == shape.hosts.end()) {
      shape.hosts.push_back(host);
    }
  }
  return shape;
}

std::string to_text(const WorldShape& shape) {
  return fmt::format("{} ({} x {}) on {}", counted(shape.ranks, "rank", "ranks"),
                     counted(shape.processes, "process", "processes"),
                     counted(shape.lanes, "lane", "lanes"), counted(shape.nodes, "node", "nodes"));
}

}  // namespace superstep::cluster

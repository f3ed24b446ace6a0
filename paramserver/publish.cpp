#include "paramserver/publish.h"

#include <vector>

namespace superstep::paramserver {

namespace {

std::vector<std::vector<int>> ranks_by_node(const bsp::World& world) {
  std::vector<std::vector<int>> ranks(static_cast<std::size_t>(world.num_nodes()));
  for (int rank = 0; rank < world.size(); ++rank) {
    ranks[static_cast<std::size_t>(world.node_of(rank))].push_back(rank);
  }
  return ranks;
}

}  // namespace

void publish_between_nodes(bsp::World& world, std::span<const std::int64_t> cuts,
                           std::span<float> parameters) {
  if (world.num_nodes() == 1) {
    return;
  }
  const std::vector<std::vector<int>> nodes = ranks_by_node(world);
  std::vector<bsp::Outgoing> outgoing;
  std::vector<bsp::Incoming> incoming;
  for (int owner = 0; owner < world.size(); ++owner) {
    const auto index = static_cast<std::size_t>(owner);
    const std::span<float> shard =
        parameters.subspan(static_cast<std::size_t>(cuts[index]),
                           static_cast<std::size_t>(cuts[index + 1] - cuts[index]));
    for (int node = 0; node < world.num_nodes() && !shard.empty(); ++node) {
      if (node == world.node_of(owner)) {
        continue;
      }
      const std::vector<int>& ranks = nodes[static_cast<std::size_t>(node)];
      const int receiver = ranks[index % ranks.size()];
      if (owner == world.rank()) {
        outgoing.push_back({.to = receiver, .bytes = std::as_bytes(shard)});
      } else if (receiver == world.rank()) {
        incoming.push_back({.from = owner, .bytes = std::as_writable_bytes(shard)});
      }
    }
  }
  world.exchange(outgoing, incoming);
}

}  // namespace superstep::paramserver

#include "bsp/topology.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/error.h"

namespace superstep::bsp::internal {

namespace {

// The number of `key` among those seen so far; a new one gets the next number.
int number_of(std::vector<int>& seen, int key) {
  const auto found = std::find(seen.begin(), seen.end(), key);
  if (found != seen.end()) {
    return static_cast<int>(found - seen.begin());
  }
  seen.push_back(key);
  return static_cast<int>(seen.size()) - 1;
}

void add_rank(Topology& topology, int process, int node, int machine, int root_rank,
              const std::string& host) {
  const int rank = topology.size();
  if (process == topology.num_processes()) {
    topology.ranks_of_process.emplace_back();
  }
  std::vector<int>& lanes = topology.ranks_of_process[static_cast<std::size_t>(process)];
  topology.process_of.push_back(process);
  topology.lane_of.push_back(static_cast<int>(lanes.size()));
  topology.node_of.push_back(node);
  topology.machine_of.push_back(machine);
  topology.root_rank_of.push_back(root_rank);
  topology.host_of.push_back(host);
  topology.num_nodes = std::max(topology.num_nodes, node + 1);
  lanes.push_back(rank);
}

void require_nodes_within_machines(const Topology& topology, int ranks_per_node) {
  for (std::size_t rank = 1; rank < topology.node_of.size(); ++rank) {
    if (topology.node_of[rank] == topology.node_of[rank - 1] &&
        topology.machine_of[rank] != topology.machine_of[rank - 1]) {
      throw InvalidArgument("Environment::run",
                            fmt::format("ranks_per_node does not divide the ranks of a machine: "
                                        "got {}, but ranks {} and {} of one "
                                        "node would be on {} and {}",
                                        ranks_per_node, rank - 1, rank, topology.host_of[rank - 1],
                                        topology.host_of[rank]));
    }
  }
}

}  // namespace

Topology root_topology(std::span<const int> machine_of_process,
                       std::span<const std::string> host_of_process, int lanes,
                       int ranks_per_node) {
  if (lanes < 1) {
    throw InvalidArgument("Environment::run",
                          fmt::format("lanes out of range: got {}, expected at least 1", lanes));
  }
  if (ranks_per_node < 0) {
    throw InvalidArgument(
        "Environment::run",
        fmt::format("ranks_per_node out of range: got {}, expected at least 0", ranks_per_node));
  }
  Topology topology;
  for (std::size_t process = 0; process < machine_of_process.size(); ++process) {
    for (int lane = 0; lane < lanes; ++lane) {
      const int rank = topology.size();
      const int machine = machine_of_process[process];
      const int node = ranks_per_node == 0 ? machine : rank / ranks_per_node;
      add_rank(topology, static_cast<int>(process), node, machine, rank, host_of_process[process]);
    }
  }
  require_nodes_within_machines(topology, ranks_per_node);
  return topology;
}

Topology sub_topology(const Topology& parent, std::span<const int> members) {
  Topology topology;
  std::vector<int> processes;
  std::vector<int> nodes;
  for (const int member : members) {
    const auto i = static_cast<std::size_t>(member);
    add_rank(topology, number_of(processes, parent.process_of[i]),
             number_of(nodes, parent.node_of[i]), parent.machine_of[i], parent.root_rank_of[i],
             parent.host_of[i]);
  }
  return topology;
}

std::vector<int> processes_of_members(const Topology& parent, std::span<const int> members) {
  std::vector<int> processes;
  for (const int member : members) {
    number_of(processes, parent.process_of[static_cast<std::size_t>(member)]);
  }
  return processes;
}

}  // namespace superstep::bsp::internal

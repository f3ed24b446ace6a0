// Where the ranks of a world are: processes, lanes, nodes, machines. A value; the same on all
// ranks.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace superstep::bsp::internal {

struct Topology {
  // By rank.
  std::vector<int> process_of;    // processes of this world, numbered from 0
  std::vector<int> lane_of;       // index among this world's ranks of the process
  std::vector<int> node_of;       // nodes of this world, numbered from 0
  std::vector<int> machine_of;    // physical machines of the job
  std::vector<int> root_rank_of;  // rank in the world that Environment::run made
  std::vector<std::string> host_of;

  // By process.
  std::vector<std::vector<int>> ranks_of_process;
  int num_nodes = 0;

  int size() const { return static_cast<int>(process_of.size()); }
  int num_processes() const { return static_cast<int>(ranks_of_process.size()); }
};

// The world that Environment::run makes. ranks_per_node as in EnvironmentOptions; throws
// InvalidArgument when a node of that many ranks would span machines.
Topology root_topology(std::span<const int> machine_of_process,
                       std::span<const std::string> host_of_process, int lanes, int ranks_per_node);

// The world of `members` (ranks of `parent`, in the order of the new world); processes and nodes
// are numbered in the order in which they appear.
Topology sub_topology(const Topology& parent, std::span<const int> members);

// The process numbers in `parent` of the processes of sub_topology(parent, members).
std::vector<int> processes_of_members(const Topology& parent, std::span<const int> members);

}  // namespace superstep::bsp::internal

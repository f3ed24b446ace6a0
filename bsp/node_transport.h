// A transport whose processes meet in shared memory as far as they share a node.
//
// synchronise() goes through a NodeBarrier within the node and by messages between the leaders of
// nodes; everything else is the inner transport's.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "bsp/node_barrier.h"
#include "bsp/shared_memory.h"
#include "bsp/topology.h"
#include "bsp/transport.h"

namespace superstep::bsp::internal {

// The processes that share one node with this one.
struct NodeProcesses {
  std::vector<int> members;  // ascending; the first one leads
  std::vector<int> leaders;  // of all nodes, in node order
  int member = 0;            // index of this process in `members`
};
// Processes belong to the node of their first rank. With ranks_per_node = 1 each is alone.
NodeProcesses node_processes(const Topology& topology, int process);

// `mapping`: NodeBarrier::bytes_for(members), shared by the members. `context` as that of `inner`.
std::unique_ptr<Transport> node_transport(std::unique_ptr<Transport> inner,
                                          const NodeProcesses& processes, SharedMapping mapping,
                                          std::uint32_t context);

}  // namespace superstep::bsp::internal

#include "bsp/topology.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace superstep::bsp::internal {
namespace {

using Ints = std::vector<int>;

// Two machines: processes 0 and 1 on the first, 2 on the second.
const Ints kMachines{0, 0, 1};
const std::vector<std::string> kHosts{"a", "a", "b"};

TEST(Topology, NumbersRanksByProcessThenLane) {
  const Topology topology = root_topology(kMachines, kHosts, 2, 0);
  EXPECT_EQ(topology.size(), 6);
  EXPECT_EQ(topology.process_of, (Ints{0, 0, 1, 1, 2, 2}));
  EXPECT_EQ(topology.lane_of, (Ints{0, 1, 0, 1, 0, 1}));
  EXPECT_EQ(topology.node_of, (Ints{0, 0, 0, 0, 1, 1}));
  EXPECT_EQ(topology.num_nodes, 2);
  EXPECT_EQ(topology.host_of[4], "b");
}

TEST(Topology, CutsNodesOfAGivenSize) {
  EXPECT_EQ(root_topology(kMachines, kHosts, 2, 2).node_of, (Ints{0, 0, 1, 1, 2, 2}));
  EXPECT_EQ(root_topology(kMachines, kHosts, 2, 1).num_nodes, 6);
}

TEST(Topology, RefusesNodesThatSpanMachines) {
  try {
    root_topology(kMachines, kHosts, 2, 3);
    FAIL() << "ranks 3 and 4 are on different machines";
  } catch (const InvalidArgument& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("got 3, but ranks 3 and 4"));
    EXPECT_THAT(error.what(), ::testing::HasSubstr("a and b"));
  }
}

TEST(Topology, RefusesImpossibleOptions) {
  EXPECT_THROW(root_topology(kMachines, kHosts, 0, 0), InvalidArgument);
  EXPECT_THROW(root_topology(kMachines, kHosts, 1, -1), InvalidArgument);
}

TEST(Topology, RenumbersProcessesAndNodesOfSomeRanksInOrderOfAppearance) {
  const Topology parent = root_topology(kMachines, kHosts, 2, 0);
  const Ints members{5, 2, 4};
  const Topology sub = sub_topology(parent, members);
  EXPECT_EQ(sub.process_of, (Ints{0, 1, 0}));
  EXPECT_EQ(sub.lane_of, (Ints{0, 0, 1}));
  EXPECT_EQ(sub.node_of, (Ints{0, 1, 0}));
  EXPECT_EQ(sub.root_rank_of, members);
  EXPECT_EQ(processes_of_members(parent, members), (Ints{2, 1}));
}

}  // namespace
}  // namespace superstep::bsp::internal

// Which ranks serve, which compute, and who owns what.
#include "paramserver/server_ranks.h"

#include <algorithm>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace superstep::paramserver {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

ParameterLayout blocks(std::int64_t count) {
  ParameterLayout layout;
  layout.add({.name = "weight", .shape = {count * kBlockElements}});
  layout.freeze();
  return layout;
}

TEST(ServerRanks, SpreadOverTheRanks) {
  EXPECT_THAT(server_ranks(2, 6), ElementsAre(2, 5));
  EXPECT_THAT(worker_ranks(2, 6), ElementsAre(0, 1, 3, 4));
  EXPECT_THAT(server_ranks(1, 3), ElementsAre(2));
  EXPECT_THAT(server_ranks(3, 4), ElementsAre(0, 1, 3));
  EXPECT_THAT(worker_ranks(3, 4), ElementsAre(2));
}

TEST(ServerRanks, AreAllRanksWhereNoneIsDedicated) {
  EXPECT_THAT(server_ranks(0, 3), ElementsAre(0, 1, 2));
  EXPECT_THAT(worker_ranks(0, 3), ElementsAre(0, 1, 2));
  const ParameterLayout layout = blocks(5);
  EXPECT_EQ(owner_cuts(layout, 0, 3), layout.shard_cuts(3));
}

TEST(ServerRanks, AndWorkersAreEveryRankOnce) {
  for (int ranks = 2; ranks <= 40; ++ranks) {
    for (int servers = 1; servers < ranks; ++servers) {
      std::vector<int> all = server_ranks(servers, ranks);
      ASSERT_EQ(static_cast<int>(all.size()), servers);
      const std::vector<int> workers = worker_ranks(servers, ranks);
      all.insert(all.end(), workers.begin(), workers.end());
      std::sort(all.begin(), all.end());
      ASSERT_EQ(all, worker_ranks(0, ranks)) << servers << " of " << ranks;
    }
  }
}

TEST(ServerRanks, OwnEvenShardsAndWorkersNone) {
  const ParameterLayout layout = blocks(7);
  EXPECT_THAT(owner_cuts(layout, 2, 6), ElementsAre(0, 0, 0, 3 * kBlockElements, 3 * kBlockElements,
                                                    3 * kBlockElements, 7 * kBlockElements));
}

TEST(ServerRanks, ComputeNoSlots) {
  EXPECT_THAT(worker_placement(8, 2, 6), ElementsAre(0, 0, 1, 1, 3, 3, 4, 4));
}

TEST(ServerRanks, LeaveAtLeastOneWorker) {
  EXPECT_NO_THROW(require_servers(3, 4));
  for (const int servers : {-1, 4, 9}) {
    try {
      require_servers(servers, 4);
      FAIL() << servers;
    } catch (const InvalidArgument& error) {
      EXPECT_THAT(error.what(), HasSubstr("'server.servers' = " + std::to_string(servers) +
                                          " of 4 ranks, expected 0"));
      EXPECT_THAT(error.what(), HasSubstr("to 3"));
    }
  }
}

}  // namespace
}  // namespace superstep::paramserver

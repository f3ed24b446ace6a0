// The proofs of bsp/schedule_proof.h for every number of ranks from 1 to 1,024: memory, matched
// messages and progress, and the right sums in tree order; with rounds, elements and messages as
// docs/collectives.md states them.
#include "bsp/schedule_proof.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace superstep::bsp {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int kMostRanks = 1'024;
// Algorithms with p^2 messages; World takes others beyond.
constexpr int kMostDirectRanks = 64;

std::vector<int> nodes_of_size(int num_ranks, int ranks_per_node) {
  std::vector<int> nodes;
  for (int rank = 0; rank < num_ranks; ++rank) {
    nodes.push_back(rank / ranks_per_node);
  }
  return nodes;
}

// Every rank on a node of its own: no operand may be remote.
std::vector<int> lonely_nodes(int num_ranks) {
  return nodes_of_size(num_ranks, 1);
}

std::size_t ceil_log2(int p) {
  return static_cast<std::size_t>(std::bit_width(static_cast<unsigned>(p - 1)));
}

bool is_power_of_two(int p) {
  return std::has_single_bit(static_cast<unsigned>(p));
}

std::vector<std::int64_t> uneven(int num_ranks) {
  std::vector<std::int64_t> counts;
  for (int rank = 0; rank < num_ranks; ++rank) {
    counts.push_back(rank % 2);  // some ranks have nothing
  }
  return counts;
}

struct Most {
  std::int64_t sent = 0;
  std::int64_t received = 0;
  std::int64_t messages = 0;
};

Most most_traffic(const Schedule& schedule) {
  Most most;
  for (const RankTraffic& traffic : traffic_of(schedule)) {
    most.sent = std::max(most.sent, traffic.elements_sent);
    most.received = std::max(most.received, traffic.elements_received);
    most.messages = std::max(most.messages, traffic.messages_sent);
  }
  return most;
}

TEST(ScheduleProof, HalvingDoublingAllreduceHoldsForEveryP) {
  for (int p = 1; p <= kMostRanks; ++p) {
    // No segment is empty, and they differ in length.
    const std::int64_t n = std::bit_floor(static_cast<unsigned>(p)) + std::int64_t{3};
    const AllreducePlan plan = allreduce_schedule(AllreduceAlgorithm::kHalvingDoubling, p, n);
    ASSERT_THAT(prove_allreduce(plan, lonely_nodes(p), n), IsEmpty()) << "p " << p;
    if (p > 1) {
      EXPECT_EQ(plan.schedule.rounds.size(), 2 * ceil_log2(p));
    }
  }
}

TEST(ScheduleProof, HalvingDoublingMovesTheBoundForPowersOfTwoAndAtMostTwiceTheElements) {
  for (int p = 2; p <= kMostRanks; ++p) {
    const std::int64_t n = std::int64_t{p} * 1'024;
    const Schedule schedule =
        allreduce_schedule(AllreduceAlgorithm::kHalvingDoubling, p, n).schedule;
    const Most most = most_traffic(schedule);
    if (is_power_of_two(p)) {
      for (const RankTraffic& traffic : traffic_of(schedule)) {
        EXPECT_EQ(traffic.elements_sent, 2 * (p - 1) * n / p) << "p " << p;
        EXPECT_EQ(traffic.elements_received, 2 * (p - 1) * n / p) << "p " << p;
        EXPECT_EQ(traffic.messages_sent, 2 * static_cast<std::int64_t>(ceil_log2(p)));
      }
    } else {
      // Segments differ by one element where p does not divide n.
      EXPECT_LE(most.sent, 2 * n + 2 * static_cast<std::int64_t>(ceil_log2(p))) << "p " << p;
      EXPECT_LE(most.received, 2 * n + 2 * static_cast<std::int64_t>(ceil_log2(p))) << "p " << p;
    }
    for (const std::int64_t extent : schedule.extents) {
      EXPECT_LE(extent, 2 * n + (n + 1) / 2);
    }
  }
}

TEST(ScheduleProof, RecursiveDoublingAllreduceHoldsForEveryP) {
  for (int p = 1; p <= kMostRanks; ++p) {
    const std::int64_t n = 3;
    const AllreducePlan plan = allreduce_schedule(AllreduceAlgorithm::kRecursiveDoubling, p, n);
    ASSERT_THAT(prove_allreduce(plan, lonely_nodes(p), n), IsEmpty()) << "p " << p;
    const Most most = most_traffic(plan.schedule);
    const auto levels = static_cast<std::int64_t>(ceil_log2(p));
    EXPECT_LE(most.received, levels * n) << "p " << p;
    EXPECT_LE(most.sent, is_power_of_two(p) ? levels * n : (p - 1) * n) << "p " << p;
    if (p > 1) {
      EXPECT_EQ(plan.schedule.rounds.size(), ceil_log2(p));
    }
  }
}

TEST(ScheduleProof, DirectAndShardedAllreduceHoldForEveryPThatTakesThem) {
  for (int p = 1; p <= kMostDirectRanks; ++p) {
    // Shards are of 64 elements at least.
    for (const auto& [algorithm, n] :
         {std::pair(AllreduceAlgorithm::kDirect, std::int64_t{1}),
          std::pair(AllreduceAlgorithm::kDirect, std::int64_t{5}),
          std::pair(AllreduceAlgorithm::kShards, std::int64_t{1}),
          std::pair(AllreduceAlgorithm::kShards, std::int64_t{p} * 64 + 5)}) {
      const AllreducePlan plan = allreduce_schedule(algorithm, p, n);
      ASSERT_THAT(prove_allreduce(plan, lonely_nodes(p), n), IsEmpty()) << "p " << p;
    }
  }
}

TEST(ScheduleProof, ShardedAllreduceMovesTheBoundForEveryP) {
  for (int p = 2; p <= kMostDirectRanks; ++p) {
    const std::int64_t n = std::int64_t{p} * 64;
    const AllreducePlan plan = allreduce_schedule(AllreduceAlgorithm::kShards, p, n);
    for (const RankTraffic& traffic : traffic_of(plan.schedule)) {
      EXPECT_EQ(traffic.elements_sent, 2 * (p - 1) * n / p);
      EXPECT_EQ(traffic.elements_received, 2 * (p - 1) * n / p);
    }
  }
}

// What World takes, whichever it is.
TEST(ScheduleProof, ChosenAllreduceHoldsForEveryP) {
  for (int p = 1; p <= kMostRanks; p = p < 130 ? p + 1 : p + 97) {
    for (const std::int64_t n : {std::int64_t{0}, std::int64_t{1}, std::int64_t{p} * 9}) {
      ASSERT_THAT(prove_allreduce(allreduce_schedule(p, n), lonely_nodes(p), n), IsEmpty())
          << "p " << p << " n " << n;
    }
  }
}

TEST(ScheduleProof, HierarchicalAllreduceHoldsForEveryP) {
  for (int p = 1; p <= kMostRanks; ++p) {
    const std::int64_t n = p;
    const std::vector<int> nodes = nodes_of_size(p, 32);
    ASSERT_THAT(prove_allreduce(hierarchical_allreduce_schedule(nodes, n), nodes, n), IsEmpty())
        << "p " << p;
  }
}

TEST(ScheduleProof, HierarchicalAllreduceHoldsForEveryNodeSizeAndUnevenNodes) {
  for (int p = 1; p <= 40; ++p) {
    for (int ranks_per_node = 1; ranks_per_node <= p; ++ranks_per_node) {
      for (const std::int64_t n : {std::int64_t{1}, std::int64_t{3} * p + 2}) {
        const std::vector<int> nodes = nodes_of_size(p, ranks_per_node);
        ASSERT_THAT(prove_allreduce(hierarchical_allreduce_schedule(nodes, n), nodes, n), IsEmpty())
            << "p " << p << " ranks per node " << ranks_per_node;
      }
    }
  }
  const std::vector<int> uneven_nodes = {0, 1, 1, 1, 2, 2, 3, 3, 3, 3, 3};
  ASSERT_THAT(prove_allreduce(hierarchical_allreduce_schedule(uneven_nodes, 50), uneven_nodes, 50),
              IsEmpty());
}

TEST(ScheduleProof, HierarchicalAllreduceMovesTwiceTheElementsBetweenNodesPerNode) {
  for (const int ranks_per_node : {1, 2, 4, 8}) {
    for (const int num_nodes : {2, 4, 8}) {
      const int p = num_nodes * ranks_per_node;
      const std::int64_t n = std::int64_t{p} * 64;
      const std::vector<int> nodes = nodes_of_size(p, ranks_per_node);
      const AllreducePlan plan = hierarchical_allreduce_schedule(nodes, n);
      std::vector<std::int64_t> sent(static_cast<std::size_t>(num_nodes), 0);
      for (const Round& round : plan.schedule.rounds) {
        for (const Transfer& transfer : round.transfers) {
          const int from = transfer.from.rank / ranks_per_node;
          sent[static_cast<std::size_t>(from)] +=
              from == transfer.to.rank / ranks_per_node ? 0 : transfer.count;
        }
      }
      EXPECT_THAT(sent, ::testing::Each(2 * (num_nodes - 1) * n / num_nodes))
          << num_nodes << " nodes of " << ranks_per_node;
    }
  }
}

TEST(ScheduleProof, ReduceScatterHoldsForEveryP) {
  for (int p = 1; p <= kMostRanks; ++p) {
    const std::vector<std::int64_t> counts = uneven(p);
    const ReduceScatterPlan plan = reduce_scatter_schedule(counts);
    ASSERT_THAT(prove_reduce_scatter(plan, lonely_nodes(p), counts), IsEmpty()) << "p " << p;
    EXPECT_LE(plan.schedule.rounds.size(), ceil_log2(p) + 1);
  }
}

TEST(ScheduleProof, AllgatherHoldsForEveryPAndReceivesEveryElementOnce) {
  for (int p = 1; p <= kMostRanks; ++p) {
    const std::vector<std::int64_t> counts = uneven(p);
    const std::int64_t n = std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
    const Schedule schedule = allgather_schedule(counts);
    ASSERT_THAT(prove_allgather(schedule, lonely_nodes(p), counts), IsEmpty()) << "p " << p;
    EXPECT_LE(schedule.rounds.size(), std::max<std::size_t>(ceil_log2(p), 1));
    const std::vector<RankTraffic> traffic = traffic_of(schedule);
    for (std::size_t rank = 0; rank < traffic.size(); ++rank) {
      EXPECT_EQ(traffic[rank].elements_received, n - counts[rank]);
    }
  }
}

TEST(ScheduleProof, GatherHoldsForEveryP) {
  for (int p = 1; p <= kMostRanks; ++p) {
    const std::vector<std::int64_t> counts = uneven(p);
    const int root = p / 3;
    ASSERT_THAT(prove_gather(gather_schedule(counts, root), lonely_nodes(p), counts, root),
                IsEmpty())
        << "p " << p;
  }
}

TEST(ScheduleProof, BroadcastHoldsForEveryP) {
  for (int p = 1; p <= kMostRanks; ++p) {
    for (const int root : {0, p / 2, p - 1}) {
      const Schedule schedule = broadcast_schedule(p, root, 2);
      ASSERT_THAT(prove_broadcast(schedule, lonely_nodes(p), root, 2), IsEmpty()) << "p " << p;
      EXPECT_EQ(schedule.rounds.size(), ceil_log2(p));
    }
  }
}

// --- the proofs find what is wrong ---

AllreducePlan good_plan() {
  return allreduce_schedule(AllreduceAlgorithm::kHalvingDoubling, 6, 12);
}

TEST(ScheduleProof, FindsASumInAnotherOrder) {
  AllreducePlan plan = good_plan();
  std::swap(plan.schedule.rounds[0].combines[0].left, plan.schedule.rounds[0].combines[0].right);
  EXPECT_THAT(prove_allreduce(plan, lonely_nodes(6), 12),
              ::testing::Contains(HasSubstr("of the result of rank")));
}

TEST(ScheduleProof, FindsAMissingSummand) {
  AllreducePlan plan = good_plan();
  plan.schedule.rounds[2].combines.pop_back();
  EXPECT_THAT(prove_allreduce(plan, lonely_nodes(6), 12), ::testing::Not(IsEmpty()));
}

TEST(ScheduleProof, FindsElementsMixedUp) {
  AllreducePlan plan = good_plan();
  Transfer& transfer = plan.schedule.rounds[0].transfers[0];
  transfer.from.offset = transfer.from.offset == 0 ? 1 : 0;
  EXPECT_THAT(prove_allreduce(plan, lonely_nodes(6), 12), ::testing::Not(IsEmpty()));
}

TEST(ScheduleProof, FindsMessagesWithoutMatch) {
  std::vector<internal::RankPlan> plans = internal::plans_of_ranks(good_plan().schedule);
  EXPECT_THAT(prove_progress(plans), IsEmpty());
  plans[3].rounds[0].receives.pop_back();
  EXPECT_THAT(prove_progress(plans), ::testing::Contains(HasSubstr("has no match")));
  plans = internal::plans_of_ranks(good_plan().schedule);
  plans[3].rounds[1].sends[0].count += 1;
  EXPECT_THAT(prove_progress(plans), ::testing::Contains(HasSubstr("from rank 3")));
}

// Rank 0 sends in its first round what rank 1 takes in its second, and the other way round.
TEST(ScheduleProof, FindsADeadlock) {
  std::vector<internal::RankPlan> plans(2);
  for (internal::RankPlan& plan : plans) {
    plan.rounds.resize(2);
    plan.rounds[0].exchanges = plan.rounds[1].exchanges = true;
  }
  plans[0].rounds[1].sends.push_back({1, 0, 1});
  plans[1].rounds[1].receives.push_back({0, 0, 1});
  EXPECT_THAT(prove_progress(plans), IsEmpty());
  plans[0].rounds.resize(1);
  EXPECT_THAT(prove_progress(plans), ::testing::Contains(HasSubstr("waits for rank 0")));
}

TEST(ScheduleProof, FindsAWrittenInput) {
  AllreducePlan plan = good_plan();
  plan.schedule.rounds.push_back({.transfers = {{{0, 12}, {1, 0}, 1}}, .combines = {}});
  EXPECT_THAT(prove_allreduce(plan, lonely_nodes(6), 12),
              ::testing::Contains(HasSubstr("input of rank 1 was written")));
}

TEST(ScheduleProof, PlansOfAllRanksAreThoseOfEach) {
  const Schedule schedule = hierarchical_allreduce_schedule(nodes_of_size(11, 3), 40).schedule;
  const std::vector<internal::RankPlan> plans = internal::plans_of_ranks(schedule);
  for (int rank = 0; rank < 11; ++rank) {
    const internal::RankPlan one = internal::plan_of_rank(schedule, rank);
    const internal::RankPlan& same = plans[static_cast<std::size_t>(rank)];
    ASSERT_EQ(one.rounds.size(), same.rounds.size());
    for (std::size_t i = 0; i < one.rounds.size(); ++i) {
      EXPECT_EQ(one.rounds[i].exchanges, same.rounds[i].exchanges);
      ASSERT_EQ(one.rounds[i].sends.size(), same.rounds[i].sends.size());
      ASSERT_EQ(one.rounds[i].receives.size(), same.rounds[i].receives.size());
      EXPECT_EQ(one.rounds[i].copies.size(), same.rounds[i].copies.size());
      EXPECT_EQ(one.rounds[i].combines.size(), same.rounds[i].combines.size());
      for (std::size_t k = 0; k < one.rounds[i].sends.size(); ++k) {
        EXPECT_EQ(one.rounds[i].sends[k].peer, same.rounds[i].sends[k].peer);
        EXPECT_EQ(one.rounds[i].sends[k].offset, same.rounds[i].sends[k].offset);
      }
    }
  }
}

TEST(TreeSum, AddsAlongTheTreeOnly) {
  const TreeSum first{7, 0, 1};
  const TreeSum second{7, 1, 2};
  const TreeSum third{7, 2, 3};
  EXPECT_EQ((first + second) + third, (TreeSum{7, 0, 3}));
  EXPECT_EQ(first + (second + third), TreeSum{});
  EXPECT_EQ(second + first, TreeSum{});
  EXPECT_EQ(first + TreeSum({8, 1, 2}), TreeSum{});
  EXPECT_EQ(first + third, TreeSum{});
}

}  // namespace
}  // namespace superstep::bsp

// The gradient exchange against the tree evaluated serially, at 0 ulp, for random placements, node
// layouts and cuts.
#include "bsp/tree_reduce.h"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace superstep::bsp {
namespace {

constexpr std::uint32_t kSeed = 20'240'917;

struct Case {
  std::int64_t n = 0;
  int num_slots = 0;
  std::vector<int> placement;
  std::vector<int> nodes;
  std::vector<std::int64_t> cuts;

  int num_ranks() const { return static_cast<int>(nodes.size()); }
  TreeReduceInput input() const {
    return {.num_elements = n,
            .num_slots = num_slots,
            .placement = placement,
            .node_of_rank = nodes,
            .cuts = cuts};
  }
};

int draw(std::mt19937& random, int low, int high) {
  return std::uniform_int_distribution<int>(low, high)(random);
}

// Ranks without slots, nodes without slots and empty shards occur.
Case random_case(std::mt19937& random, int num_ranks) {
  Case c{.n = draw(random, 1, 40),
         .num_slots = draw(random, 1, 32),
         .placement = {},
         .nodes = {},
         .cuts = {}};
  const int used = draw(random, 1, num_ranks);
  for (int slot = 0; slot < c.num_slots; ++slot) {
    c.placement.push_back(draw(random, 0, used - 1));
  }
  c.nodes.push_back(0);
  const int node_size = draw(random, 1, num_ranks);
  while (c.num_ranks() < num_ranks) {
    c.nodes.push_back(c.nodes.back() + (draw(random, 1, node_size) == 1 ? 1 : 0));
  }
  for (int rank = 0; rank <= num_ranks; ++rank) {
    c.cuts.push_back(rank == 0           ? 0
                     : rank == num_ranks ? c.n
                                         : draw(random, 0, static_cast<int>(c.n)));
  }
  std::sort(c.cuts.begin(), c.cuts.end());
  return c;
}

float gradient(int slot, std::int64_t i) {
  return (slot % 3 == 0 ? 1e4F : 1.0F) / static_cast<float>(1 + (slot * 31 + i * 17) % 101);
}

float tree_sum_over_slots(SlotRange slots, std::int64_t i) {
  if (slots.length() == 1) {
    return gradient(slots.begin, i);
  }
  const int middle = split_point(slots);
  return tree_sum_over_slots({slots.begin, middle}, i) +
         tree_sum_over_slots({middle, slots.end}, i);
}

std::vector<std::vector<float>> pieces_of(const Case& c, const TreeReducePlan& plan) {
  std::vector<std::vector<float>> buffers;
  const auto slots = slots_of_ranks(c.placement, c.num_ranks());
  for (std::size_t rank = 0; rank < slots.size(); ++rank) {
    std::vector<float>& buffer = buffers.emplace_back();
    for (const SlotRange range : maximal_subtrees(c.num_slots, slots[rank])) {
      for (std::int64_t i = 0; i < c.n; ++i) {
        buffer.push_back(tree_sum_over_slots(range, i));
      }
    }
    EXPECT_EQ(static_cast<std::int64_t>(buffer.size()), plan.pieces_extent[rank]);
    buffer.resize(static_cast<std::size_t>(plan.schedule.extents[rank]), -99.0F);
  }
  return buffers;
}

void expect_tree_sums(const Case& c) {
  const TreeReducePlan plan = plan_tree_reduce(c.input());
  const auto initialised = [&](int rank) {
    return std::vector<std::pair<std::int64_t, std::int64_t>>{
        {0, plan.pieces_extent[static_cast<std::size_t>(rank)]}};
  };
  ASSERT_THAT(prove(plan.schedule, c.nodes, initialised), ::testing::IsEmpty());
  std::vector<std::vector<float>> buffers = pieces_of(c, plan);
  simulate(plan.schedule, buffers);
  for (int owner = 0; owner < c.num_ranks(); ++owner) {
    const auto o = static_cast<std::size_t>(owner);
    const Location result = plan.results[o];
    if (c.cuts[o] < c.cuts[o + 1]) {
      EXPECT_EQ(c.nodes[static_cast<std::size_t>(result.rank)], c.nodes[o])
          << "the owner cannot see its result";
    }
    for (std::int64_t i = c.cuts[o]; i < c.cuts[o + 1]; ++i) {
      const auto at = static_cast<std::size_t>(result.offset + i - c.cuts[o]);
      ASSERT_EQ(buffers[static_cast<std::size_t>(result.rank)][at],
                tree_sum_over_slots({0, c.num_slots}, i));
    }
  }
}

TEST(TreeReduce, HasTheBitsOfTheSerialTreeForRandomPlacements) {
  std::mt19937 random(kSeed);
  for (int num_ranks = 1; num_ranks <= 16; ++num_ranks) {
    for (int repetition = 0; repetition < 60; ++repetition) {
      const Case c = random_case(random, num_ranks);
      ASSERT_NO_FATAL_FAILURE(expect_tree_sums(c))
          << "seed " << kSeed << ", p " << num_ranks << ", repetition " << repetition;
    }
  }
}

std::vector<std::int64_t> numbers_of(const Combine& c) {
  return {c.target.rank, c.target.offset, c.left.rank, c.left.offset,
          c.right.rank,  c.right.offset,  c.count};
}
std::vector<std::int64_t> numbers_of(const Transfer& t) {
  return {t.from.rank, t.from.offset, t.to.rank, t.to.offset, t.count};
}

using Numbers = std::vector<std::vector<std::int64_t>>;

// Combines, then transfers, of every round that `rank` has to do with.
Numbers part_of(const TreeReducePlan& plan, int rank) {
  Numbers all;
  for (const Round& round : plan.schedule.rounds) {
    for (const Combine& combine : round.combines) {
      if (combine.target.rank == rank) {
        all.push_back(numbers_of(combine));
      }
    }
    for (const Transfer& transfer : round.transfers) {
      if (transfer.from.rank == rank || transfer.to.rank == rank) {
        all.push_back(numbers_of(transfer));
      }
    }
  }
  return all;
}

std::size_t size_of(const TreeReducePlan& plan) {
  std::size_t size = 0;
  for (const Round& round : plan.schedule.rounds) {
    size += round.combines.size() + round.transfers.size();
  }
  return size;
}

TEST(TreeReduce, PlansForOneRankWhatItDoesInThePlanForAll) {
  std::mt19937 random(kSeed);
  for (int repetition = 0; repetition < 200; ++repetition) {
    const Case c = random_case(random, 1 + repetition % 12);
    const TreeReducePlan all = plan_tree_reduce(c.input());
    for (int rank = 0; rank < c.num_ranks(); ++rank) {
      TreeReduceInput input = c.input();
      input.planning_rank = rank;
      const TreeReducePlan own = plan_tree_reduce(input);
      const Numbers expected = part_of(all, rank);
      ASSERT_EQ(part_of(own, rank), expected) << "repetition " << repetition << ", rank " << rank;
      EXPECT_EQ(size_of(own), expected.size());
      EXPECT_EQ(own.pieces_extent, all.pieces_extent);
      EXPECT_EQ(own.moved_extent, all.moved_extent);
      const auto r = static_cast<std::size_t>(rank);
      EXPECT_EQ(own.results[r].rank, all.results[r].rank);
      EXPECT_EQ(own.results[r].offset, all.results[r].offset);
    }
  }
}

TEST(TreeReduce, NeedsOneRoundWithinANodeAndMovesNothing) {
  const Case c{.n = 100,
               .num_slots = 8,
               .placement = contiguous_placement(8, 4),
               .nodes = {0, 0, 0, 0},
               .cuts = {0, 25, 50, 75, 100}};
  const TreeReducePlan plan = plan_tree_reduce(c.input());
  EXPECT_EQ(plan.schedule.rounds.size(), 1U);
  EXPECT_TRUE(plan.schedule.rounds[0].transfers.empty());
  expect_tree_sums(c);
}

TEST(TreeReduce, SendsEachElementOncePerForeignNodeWhenSlotsAreContiguous) {
  const Case c{.n = 100,
               .num_slots = 8,
               .placement = contiguous_placement(8, 4),
               .nodes = {0, 0, 1, 1},
               .cuts = {0, 25, 50, 75, 100}};
  const TreeReducePlan plan = plan_tree_reduce(c.input());
  std::int64_t sent = 0;
  for (int rank = 0; rank < 4; ++rank) {
    sent += plan.schedule.elements_sent(rank);
  }
  EXPECT_EQ(sent, 100);
  expect_tree_sums(c);
}

TEST(TreeReduce, NeedsNoSumWhenOneRankHoldsAllSlots) {
  const Case c{
      .n = 10, .num_slots = 4, .placement = {1, 1, 1, 1}, .nodes = {0, 0}, .cuts = {0, 5, 10}};
  const TreeReducePlan plan = plan_tree_reduce(c.input());
  EXPECT_TRUE(plan.schedule.rounds[0].combines.empty());
  EXPECT_EQ(plan.results[0].rank, 1);
  expect_tree_sums(c);
}

}  // namespace
}  // namespace superstep::bsp

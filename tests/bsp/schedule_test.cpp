// Every schedule is proved for p = 1 ... 64 (the cheap ones to 1,024) and simulated against sums
// evaluated serially along the tree, at 0 ulp.
#include "bsp/schedule.h"

#include <cstdint>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace superstep::bsp {
namespace {

using ElementRanges = std::vector<std::pair<std::int64_t, std::int64_t>>;

constexpr int kMostRanks = 64;

std::vector<std::int64_t> uneven_counts(int num_ranks) {
  std::vector<std::int64_t> counts;
  counts.reserve(static_cast<std::size_t>(num_ranks));
  for (int rank = 0; rank < num_ranks; ++rank) {
    counts.push_back(rank % 4 * 3);  // some ranks have nothing
  }
  return counts;
}

std::int64_t sum_of(const std::vector<std::int64_t>& counts) {
  return std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
}

// Values whose sums round differently in different orders.
float value_of(int rank, std::int64_t i) {
  return 1.0F / static_cast<float>(3 + rank * 7 + i % 13) * (rank % 2 == 0 ? 1.0F : -1'000.0F);
}

float tree_sum(SlotRange ranks, std::int64_t i) {
  if (ranks.length() == 1) {
    return value_of(ranks.begin, i);
  }
  const int middle = split_point(ranks);
  return tree_sum({ranks.begin, middle}, i) + tree_sum({middle, ranks.end}, i);
}

// Every rank on a node of its own: no operand may be remote.
std::vector<int> lonely_nodes(int num_ranks) {
  std::vector<int> nodes(static_cast<std::size_t>(num_ranks));
  std::iota(nodes.begin(), nodes.end(), 0);
  return nodes;
}

void expect_proved(const Schedule& schedule, const std::function<ElementRanges(int)>& initialised) {
  EXPECT_THAT(prove(schedule, lonely_nodes(schedule.num_ranks), initialised), ::testing::IsEmpty());
}

std::vector<std::vector<float>> buffers_for(const Schedule& schedule, std::int64_t n) {
  std::vector<std::vector<float>> buffers;
  for (int rank = 0; rank < schedule.num_ranks; ++rank) {
    auto& buffer = buffers.emplace_back(
        static_cast<std::size_t>(schedule.extents[static_cast<std::size_t>(rank)]), -99.0F);
    for (std::int64_t i = 0; i < n; ++i) {
      buffer[static_cast<std::size_t>(i)] = value_of(rank, i);
    }
  }
  return buffers;
}

TEST(Schedule, BroadcastReachesEveryRank) {
  for (int p = 1; p <= 1'024; p = p < kMostRanks ? p + 1 : p + 137) {
    for (const int root : {0, p / 2, p - 1}) {
      const Schedule schedule = broadcast_schedule(p, root, 5);
      expect_proved(schedule, [&](int rank) {
        return rank == root ? ElementRanges{{0, 5}} : ElementRanges{};
      });
      std::vector<std::vector<float>> buffers = buffers_for(schedule, 5);
      const std::vector<float> expected = buffers[static_cast<std::size_t>(root)];
      simulate(schedule, buffers);
      for (const auto& buffer : buffers) {
        ASSERT_EQ(buffer, expected) << "p " << p << " root " << root;
      }
      EXPECT_LE(schedule.rounds.size(), 11U);
    }
  }
}

TEST(Schedule, AllgatherConcatenates) {
  for (int p = 1; p <= kMostRanks; ++p) {
    const std::vector<std::int64_t> counts = uneven_counts(p);
    const Schedule schedule = allgather_schedule(counts);
    std::vector<std::int64_t> offsets(1, 0);
    std::partial_sum(counts.begin(), counts.end(), std::back_inserter(offsets));
    expect_proved(schedule, [&](int rank) {
      const auto i = static_cast<std::size_t>(rank);
      return ElementRanges{{offsets[i], offsets[i + 1]}};
    });
    std::vector<std::vector<float>> buffers = buffers_for(schedule, 0);
    std::vector<float> expected(static_cast<std::size_t>(offsets.back()));
    for (int rank = 0; rank < p; ++rank) {
      for (auto i = offsets[static_cast<std::size_t>(rank)];
           i < offsets[static_cast<std::size_t>(rank) + 1]; ++i) {
        const auto at = static_cast<std::size_t>(i);
        expected[at] = buffers[static_cast<std::size_t>(rank)][at] = value_of(rank, i);
      }
    }
    simulate(schedule, buffers);
    for (int rank = 0; rank < p; ++rank) {
      ASSERT_EQ(buffers[static_cast<std::size_t>(rank)], expected) << "p " << p;
      EXPECT_EQ(schedule.elements_received(rank),
                offsets.back() - counts[static_cast<std::size_t>(rank)]);
    }
  }
}

TEST(Schedule, GatherConcatenatesAtTheRoot) {
  for (int p = 1; p <= 1'024; p = p < kMostRanks ? p + 1 : p + 191) {
    const std::vector<std::int64_t> counts = uneven_counts(p);
    const int root = p / 2;
    const Schedule schedule = gather_schedule(counts, root);
    expect_proved(schedule, [&](int rank) {
      return ElementRanges{{0, counts[static_cast<std::size_t>(rank)]}};
    });
    std::vector<std::vector<float>> buffers = buffers_for(schedule, 0);
    std::vector<float> expected;
    for (int rank = 0; rank < p; ++rank) {
      for (std::int64_t i = 0; i < counts[static_cast<std::size_t>(rank)]; ++i) {
        buffers[static_cast<std::size_t>(rank)][static_cast<std::size_t>(i)] = value_of(rank, i);
        expected.push_back(value_of(rank, i));
      }
    }
    simulate(schedule, buffers);
    const auto& at_root = buffers[static_cast<std::size_t>(root)];
    const std::vector<float> result(at_root.begin() + counts[static_cast<std::size_t>(root)],
                                    at_root.end());
    ASSERT_EQ(result, expected) << "p " << p;
  }
}

TEST(Schedule, ReduceScatterSumsInTreeOrder) {
  for (int p = 1; p <= kMostRanks; ++p) {
    const std::vector<std::int64_t> counts = uneven_counts(p);
    const std::int64_t n = sum_of(counts);
    const ReduceScatterPlan plan = reduce_scatter_schedule(counts);
    expect_proved(plan.schedule, [&](int) { return ElementRanges{{0, n}}; });
    std::vector<std::vector<float>> buffers = buffers_for(plan.schedule, n);
    simulate(plan.schedule, buffers);
    std::int64_t first = 0;
    for (int rank = 0; rank < p; ++rank) {
      const auto r = static_cast<std::size_t>(rank);
      for (std::int64_t i = 0; i < counts[r]; ++i) {
        ASSERT_EQ(buffers[r][static_cast<std::size_t>(plan.result_offsets[r] + i)],
                  tree_sum({0, p}, first + i));
      }
      for (std::int64_t i = 0; i < n; ++i) {
        ASSERT_EQ(buffers[r][static_cast<std::size_t>(i)], value_of(rank, i))
            << "the input was written";
      }
      first += counts[r];
    }
  }
}

TEST(Schedule, AllreduceSumsInTreeOrderWithEitherAlgorithm) {
  for (int p = 1; p <= kMostRanks; p = p < 20 ? p + 1 : p + 11) {
    for (const std::int64_t n : {std::int64_t{1}, std::int64_t{p + 1}, std::int64_t{9'001}}) {
      const AllreducePlan plan = allreduce_schedule(p, n);
      expect_proved(plan.schedule, [&](int) { return ElementRanges{{0, n}}; });
      std::vector<std::vector<float>> buffers = buffers_for(plan.schedule, n);
      simulate(plan.schedule, buffers);
      for (std::int64_t i = 0; i<n; i += n> 100 ? 97 : 1) {
        const float expected = tree_sum({0, p}, i);
        for (const auto& buffer : buffers) {
          ASSERT_EQ(buffer[static_cast<std::size_t>(plan.result_offset + i)], expected)
              << "p " << p << " n " << n;
        }
      }
    }
  }
}

TEST(Schedule, ShardedAllreduceMovesTwiceTheElementsOfARank) {
  const AllreducePlan plan = allreduce_schedule(8, 80'000);
  for (int rank = 0; rank < 8; ++rank) {
    EXPECT_LE(plan.schedule.elements_received(rank), 2 * 80'000);
    EXPECT_LE(plan.schedule.elements_sent(rank), 2 * 80'000);
  }
}

// --- the prover finds what is wrong ---

Schedule two_ranks(Round round) {
  return {.num_ranks = 2, .extents = {10, 10}, .rounds = {std::move(round)}};
}

std::vector<std::string> prove_two(const Schedule& schedule,
                                   const std::vector<int>& nodes = {0, 0}) {
  return prove(schedule, nodes, [](int) { return ElementRanges{{0, 4}}; });
}

TEST(Prover, FindsCombinesAcrossNodes) {
  const Schedule schedule = two_ranks({.transfers = {}, .combines = {{{0, 5}, {0, 0}, {1, 0}, 2}}});
  EXPECT_THAT(prove_two(schedule, {0, 1}),
              ::testing::ElementsAre(::testing::HasSubstr("on another node")));
  EXPECT_THAT(prove_two(schedule, {0, 0}), ::testing::IsEmpty());
}

TEST(Prover, FindsAddressesOutsideOfAnExtent) {
  EXPECT_THAT(prove_two(two_ranks({.transfers = {{{0, 0}, {1, 8}, 3}}, .combines = {}})),
              ::testing::ElementsAre(::testing::HasSubstr("outside")));
  EXPECT_THAT(prove_two(two_ranks({.transfers = {{{0, 0}, {2, 0}, 1}}, .combines = {}})),
              ::testing::ElementsAre(::testing::HasSubstr("outside")));
}

TEST(Prover, FindsTwoWritersOfAnElement) {
  EXPECT_THAT(prove_two(two_ranks(
                  {.transfers = {{{0, 0}, {1, 5}, 2}, {{0, 2}, {1, 6}, 2}}, .combines = {}})),
              ::testing::ElementsAre(::testing::HasSubstr("two writers")));
}

TEST(Prover, FindsReadsOfElementsNeverWritten) {
  EXPECT_THAT(prove_two(two_ranks({.transfers = {{{0, 3}, {1, 5}, 2}}, .combines = {}})),
              ::testing::ElementsAre(::testing::HasSubstr("never written")));
  EXPECT_THAT(prove_two(two_ranks({.transfers = {}, .combines = {{{0, 8}, {0, 0}, {0, 6}, 2}}})),
              ::testing::ElementsAre(::testing::HasSubstr("never written")));
}

TEST(Prover, FindsElementsWrittenWhileTheyAreRead) {
  EXPECT_THAT(prove_two(two_ranks(
                  {.transfers = {{{0, 0}, {1, 5}, 2}, {{1, 0}, {0, 1}, 1}}, .combines = {}})),
              ::testing::ElementsAre(::testing::HasSubstr("while they are read")));
  EXPECT_THAT(prove_two(two_ranks(
                  {.transfers = {},
                   .combines = {{{1, 2}, {1, 0}, {1, 2}, 1}, {{0, 5}, {0, 0}, {1, 2}, 1}}})),
              ::testing::ElementsAre(::testing::HasSubstr("written in the same round")));
  EXPECT_THAT(prove_two(two_ranks({.transfers = {}, .combines = {{{0, 1}, {0, 0}, {0, 1}, 2}}})),
              ::testing::ElementsAre(::testing::HasSubstr("overlap the target")));
}

}  // namespace
}  // namespace superstep::bsp

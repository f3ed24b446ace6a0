// The collectives against closed forms, at counts around the number of ranks.
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "base/error.h"
#include "bsp/world.h"
#include "tests/bsp/rounding_values.h"
#include "tests/support/spmd_fixture.h"

namespace superstep::bsp {
namespace {

using testing::rounding_values;
using testing::tree_sum_over_ranks;

// Counts that hurt: nothing, one, around p, many, and enough for the sharded algorithms.
std::vector<std::int64_t> interesting_counts(int num_ranks) {
  return {0, 1, num_ranks - 1, num_ranks, num_ranks + 1, 1'000, 20'011};
}

// What rank `rank` contributes at index i: small integers, so that every sum is exact.
double value_of(int rank, std::int64_t i) {
  return static_cast<double>((rank + 1) * (i % 97 + 1));
}

double sum_over_ranks(int num_ranks, std::int64_t i) {
  return static_cast<double>(num_ranks) * (num_ranks + 1) / 2 * static_cast<double>(i % 97 + 1);
}

std::vector<double> contribution(int rank, std::int64_t n) {
  std::vector<double> values(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) {
    values[static_cast<std::size_t>(i)] = value_of(rank, i);
  }
  return values;
}

// Rank r contributes r + extra elements.
std::vector<std::int64_t> uneven_counts(int num_ranks, std::int64_t extra) {
  std::vector<std::int64_t> counts(static_cast<std::size_t>(num_ranks));
  std::iota(counts.begin(), counts.end(), extra);
  return counts;
}

SUPERSTEP_WORLD_TEST_ON_NODES(Broadcast, GivesTheRootsElementsToEveryRank) {
  for (const std::int64_t n : interesting_counts(world.size())) {
    for (int root = 0; root < world.size(); ++root) {
      std::vector<double> data = contribution(world.rank(), n);
      world.broadcast(std::span(data), root);
      EXPECT_EQ(data, contribution(root, n)) << "n " << n << " root " << root;
    }
  }
}

SUPERSTEP_WORLD_TEST_ON_NODES(Allreduce, SumsOverRanks) {
  for (const std::int64_t n : interesting_counts(world.size())) {
    const std::vector<double> in = contribution(world.rank(), n);
    std::vector<double> out(in.size(), -1.0);
    world.allreduce(std::span<const double>(in), std::span(out), ReduceOp::kSum);
    for (std::int64_t i = 0; i < n; ++i) {
      ASSERT_EQ(out[static_cast<std::size_t>(i)], sum_over_ranks(world.size(), i))
          << "n " << n << " i " << i;
    }
  }
}

SUPERSTEP_WORLD_TEST(Allreduce, WorksInPlace) {
  for (const std::int64_t n : interesting_counts(world.size())) {
    std::vector<double> data = contribution(world.rank(), n);
    world.allreduce(std::span<const double>(data), std::span(data), ReduceOp::kSum);
    for (std::int64_t i = 0; i < n; ++i) {
      ASSERT_EQ(data[static_cast<std::size_t>(i)], sum_over_ranks(world.size(), i))
          << "n " << n << " i " << i;
    }
  }
}

template <typename T>
void expect_extremes(World& world) {
  const int number = world.rank() + 3;
  const int sum = world.size() * (world.size() + 5) / 2;
  const T mine = static_cast<T>(number);
  EXPECT_EQ(world.allreduce(mine, ReduceOp::kMin), T{3});
  EXPECT_EQ(world.allreduce(mine, ReduceOp::kMax), static_cast<T>(world.size() + 2));
  EXPECT_EQ(world.allreduce(mine, ReduceOp::kSum), static_cast<T>(sum));
}

// From one chunk of the staging area to messages that are written past the caches, one after
// another, so that what an earlier call left behind would be seen.
SUPERSTEP_WORLD_TEST(Allreduce, AddsAlongTheTreeOverRanksAtEverySize) {
  for (const std::int64_t n : {3, 32'768, 32'769, 300'001, 5, 2'100'003, 1'001}) {
    std::vector<float> data = rounding_values<float>(world.rank(), n);
    std::vector<float> out(data.size() + 1, -1.0F);  // not on a border of 16 bytes
    world.allreduce(std::span<const float>(data), std::span(out).subspan(1), ReduceOp::kSum);
    world.allreduce(std::span<const float>(data), std::span(data), ReduceOp::kSum);
    for (std::int64_t i = 0; i < n; ++i) {
      const float expected = tree_sum_over_ranks<float>({0, world.size()}, i);
      ASSERT_EQ(data[static_cast<std::size_t>(i)], expected) << "n " << n << " i " << i;
      ASSERT_EQ(out[static_cast<std::size_t>(i) + 1], expected) << "n " << n << " i " << i;
    }
    EXPECT_EQ(out[0], -1.0F);
  }
}

SUPERSTEP_WORLD_TEST(Allreduce, KnowsEveryElementType) {
  expect_extremes<std::int8_t>(world);
  expect_extremes<std::uint8_t>(world);
  expect_extremes<std::int16_t>(world);
  expect_extremes<std::uint16_t>(world);
  expect_extremes<std::int32_t>(world);
  expect_extremes<std::uint32_t>(world);
  expect_extremes<std::int64_t>(world);
  expect_extremes<std::uint64_t>(world);
  expect_extremes<float>(world);
  expect_extremes<double>(world);
  EXPECT_EQ(world.allreduce(world.rank() == 0, ReduceOp::kMax), true);
  EXPECT_EQ(world.allreduce(world.rank() == 0, ReduceOp::kMin), world.size() == 1);
}

SUPERSTEP_WORLD_TEST(Allreduce, RefusesSumsOfBools) {
  EXPECT_THROW(world.allreduce(true, ReduceOp::kSum), InvalidArgument);
}

SUPERSTEP_WORLD_TEST(Allreduce, MinimumOfNegativeNumbersIsNegative) {
  EXPECT_EQ(world.allreduce(-1.5F - static_cast<float>(world.rank()), ReduceOp::kMax), -1.5F);
}

SUPERSTEP_WORLD_TEST_ON_NODES(ReduceScatter, GivesEveryRankItsPartOfTheSum) {
  for (const std::int64_t extra : interesting_counts(world.size())) {
    const std::vector<std::int64_t> counts = uneven_counts(world.size(), extra);
    const std::int64_t n = std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
    const std::int64_t first =
        std::accumulate(counts.begin(), counts.begin() + world.rank(), std::int64_t{0});
    const std::vector<double> in = contribution(world.rank(), n);
    std::vector<double> out(
        static_cast<std::size_t>(counts[static_cast<std::size_t>(world.rank())]));
    world.reduce_scatter(std::span<const double>(in), std::span(out), counts, ReduceOp::kSum);
    for (std::size_t i = 0; i < out.size(); ++i) {
      ASSERT_EQ(out[i], sum_over_ranks(world.size(), first + static_cast<std::int64_t>(i)));
    }
    EXPECT_EQ(in, contribution(world.rank(), n)) << "the input was written";
  }
}

SUPERSTEP_WORLD_TEST_ON_NODES(Allgather, ConcatenatesInRankOrder) {
  for (const std::int64_t extra : interesting_counts(world.size())) {
    const std::vector<std::int64_t> counts = uneven_counts(world.size(), extra);
    std::vector<double> expected;
    for (int rank = 0; rank < world.size(); ++rank) {
      const std::vector<double> part = contribution(rank, counts[static_cast<std::size_t>(rank)]);
      expected.insert(expected.end(), part.begin(), part.end());
    }
    const std::vector<double> in =
        contribution(world.rank(), counts[static_cast<std::size_t>(world.rank())]);
    std::vector<double> out(expected.size());
    world.allgather(std::span<const double>(in), std::span(out), counts);
    EXPECT_EQ(out, expected);
  }
}

SUPERSTEP_WORLD_TEST_ON_NODES(Gather, ConcatenatesAtEveryPossibleRoot) {
  for (int root = 0; root < world.size(); ++root) {
    const std::vector<std::int64_t> counts = uneven_counts(world.size(), 2);
    std::vector<double> expected;
    for (int rank = 0; rank < world.size(); ++rank) {
      const std::vector<double> part = contribution(rank, counts[static_cast<std::size_t>(rank)]);
      expected.insert(expected.end(), part.begin(), part.end());
    }
    const std::vector<double> in =
        contribution(world.rank(), counts[static_cast<std::size_t>(world.rank())]);
    std::vector<double> out(world.rank() == root ? expected.size() : 0);
    world.gather(std::span<const double>(in), std::span(out), counts, root);
    if (world.rank() == root) {
      EXPECT_EQ(out, expected);
    }
  }
}

SUPERSTEP_WORLD_TEST_ON_NODES(Alltoallv, DeliversWhatEachRankSentToEach) {
  const int p = world.size();
  std::vector<std::int64_t> send_counts;
  std::vector<std::int64_t> receive_counts;
  std::vector<std::int32_t> in;
  std::vector<std::int32_t> expected;
  // Rank a sends (a + b) % 3 elements of value 100 a + b to rank b: some pairs exchange nothing.
  for (int peer = 0; peer < p; ++peer) {
    const int count = (world.rank() + peer) % 3;
    send_counts.push_back(count);
    receive_counts.push_back(count);
    in.insert(in.end(), static_cast<std::size_t>(count), 100 * world.rank() + peer);
    expected.insert(expected.end(), static_cast<std::size_t>(count), 100 * peer + world.rank());
  }
  std::vector<std::int32_t> out(expected.size());
  world.alltoallv(std::span<const std::int32_t>(in), send_counts, std::span(out), receive_counts);
  EXPECT_EQ(out, expected);
}

SUPERSTEP_WORLD_TEST_ON_NODES(AllgatherString, KeepsLengthsAndBytes) {
  const auto text_of = [](int rank) {
    return std::string(static_cast<std::size_t>(rank) * 1'000, static_cast<char>('a' + rank));
  };
  const std::vector<std::string> texts = world.allgather_string(text_of(world.rank()));
  for (int rank = 0; rank < world.size(); ++rank) {
    EXPECT_EQ(texts[static_cast<std::size_t>(rank)], text_of(rank));
  }
}

SUPERSTEP_WORLD_TEST_ON_NODES(Exchange, KeepsTheOrderOfMessagesBetweenTwoRanks) {
  constexpr int kMessages = 5;
  std::vector<std::int32_t> sent(kMessages);
  std::vector<std::int32_t> received(static_cast<std::size_t>(kMessages * world.size()), -1);
  std::iota(sent.begin(), sent.end(), world.rank() * 10);
  std::vector<Outgoing> outgoing;
  std::vector<Incoming> incoming;
  for (int i = 0; i < kMessages; ++i) {
    for (int peer = 0; peer < world.size(); ++peer) {
      outgoing.push_back(
          {peer, std::as_bytes(std::span(sent)).subspan(static_cast<std::size_t>(i) * 4, 4)});
    }
  }
  for (int peer = world.size() - 1; peer >= 0; --peer) {
    for (int i = 0; i < kMessages; ++i) {
      const int index = peer * kMessages + i;
      incoming.push_back({peer, std::as_writable_bytes(std::span(received))
                                    .subspan(static_cast<std::size_t>(index) * 4, 4)});
    }
  }
  world.exchange(outgoing, incoming);
  for (int peer = 0; peer < world.size(); ++peer) {
    for (int i = 0; i < kMessages; ++i) {
      EXPECT_EQ(received[static_cast<std::size_t>(peer * kMessages + i)], peer * 10 + i);
    }
  }
}

SUPERSTEP_WORLD_TEST(Exchange, RefusesRanksThatDoNotExist) {
  const std::byte byte{};
  const Outgoing outgoing{world.size(), {&byte, 1}};
  EXPECT_THROW(world.exchange({&outgoing, 1}, {}), InvalidArgument);
}

SUPERSTEP_WORLD_TEST(Collectives, RefuseWrongSizesBeforeCommunicating) {
  std::vector<float> two(2);
  std::vector<float> three(3);
  EXPECT_THROW(world.allreduce(std::span<const float>(two), std::span(three), ReduceOp::kSum),
               InvalidArgument);
  EXPECT_THROW(world.broadcast(std::span(two), world.size()), InvalidArgument);
  EXPECT_THROW(world.broadcast(std::span(two), -1), InvalidArgument);
  const std::vector<std::int64_t> too_few(static_cast<std::size_t>(world.size()) - 1, 1);
  EXPECT_THROW(world.allgather(std::span<const float>(two), std::span(three), too_few),
               InvalidArgument);
  const std::vector<std::int64_t> negative(static_cast<std::size_t>(world.size()), -1);
  EXPECT_THROW(world.allgather(std::span<const float>(two), std::span(three), negative),
               InvalidArgument);
  world.sync();
}

}  // namespace
}  // namespace superstep::bsp

// Training and test samples of every client.
#include "worker/federated/client_division.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/worker/federated/client_samples.h"
#include "tests/worker/federated/federated_support.h"

namespace superstep::worker {
namespace {

using testing::ClientSamples;
using testing::read_all_samples;

// Clients of 1, 2, 3, 5, 10 and 179 samples, some of them out of order.
std::shared_ptr<const ClientData> some_clients() {
  ClientIndex index(200);
  std::uint32_t next = 0;
  for (const std::size_t size : {1U, 2U, 3U, 5U, 10U, 179U}) {
    std::vector<std::uint32_t> samples(size);
    std::iota(samples.begin(), samples.end(), next);
    std::reverse(samples.begin(), samples.end());
    next += static_cast<std::uint32_t>(size);
    index.add(samples, "client of " + std::to_string(size));
  }
  return partitioned_clients(testing::small_dataset(200, 1), std::move(index));
}

TEST(ClientDivision, EverySampleIsInOnePartAndEveryClientHasSomethingToTrainOn) {
  const auto clients = some_clients();
  for (const ClientSplit split : {ClientSplit::kRandom, ClientSplit::kLast}) {
    for (const double fraction : {0.0, 0.2, 0.5, 0.99}) {
      const DividedClients parts =
          divide_clients(clients, {.test_fraction = fraction, .split = split});
      std::int64_t train = 0;
      std::int64_t test = 0;
      for (std::int64_t client = 0; client < clients->num_clients(); ++client) {
        std::multiset<std::int64_t> ids;
        for (const auto& part : {parts.train, parts.test}) {
          const ClientSamples read = read_all_samples(*part, client);
          ids.insert(read.ids.begin(), read.ids.end());
        }
        const ClientSamples whole = read_all_samples(*clients, client);
        EXPECT_EQ(ids, std::multiset<std::int64_t>(whole.ids.begin(), whole.ids.end()));
        EXPECT_GE(parts.train->num_samples(client), 1);
        EXPECT_EQ(parts.train->name(client), clients->name(client));
        train += parts.train->num_samples(client);
        test += parts.test->num_samples(client);
      }
      EXPECT_EQ(parts.train->total_samples(), train);
      EXPECT_EQ(parts.test->total_samples(), test);
    }
  }
}

TEST(ClientDivision, TheTestPartHasTheNearestNumberOfSamplesButNotAll) {
  const DividedClients parts = divide_clients(some_clients(), {.test_fraction = 0.2});
  const std::vector<std::int64_t> expected = {0, 0, 1, 1, 2, 36};
  for (std::size_t client = 0; client < expected.size(); ++client) {
    EXPECT_EQ(parts.test->num_samples(static_cast<std::int64_t>(client)), expected[client]);
  }
  const DividedClients most = divide_clients(some_clients(), {.test_fraction = 0.99});
  EXPECT_EQ(most.train->num_samples(5), 2);
  EXPECT_EQ(most.train->num_samples(4), 1);
}

TEST(ClientDivision, LastKeepsTheOrderAndTakesTheEnd) {
  const auto clients = some_clients();
  const DividedClients parts =
      divide_clients(clients, {.test_fraction = 0.2, .split = ClientSplit::kLast});
  const ClientSamples whole = read_all_samples(*clients, 5);
  ClientSamples joined = read_all_samples(*parts.train, 5);
  const ClientSamples test = read_all_samples(*parts.test, 5);
  joined.ids.insert(joined.ids.end(), test.ids.begin(), test.ids.end());
  joined.labels.insert(joined.labels.end(), test.labels.begin(), test.labels.end());
  joined.values.insert(joined.values.end(), test.values.begin(), test.values.end());
  EXPECT_EQ(joined.ids, whole.ids);
  EXPECT_EQ(joined.labels, whole.labels);
  EXPECT_EQ(joined.values, whole.values);
}

TEST(ClientDivision, IsAFunctionOfTheSeed) {
  const auto clients = some_clients();
  const auto tests_of = [&](std::uint64_t seed) {
    return read_all_samples(*divide_clients(clients, {.test_fraction = 0.2, .seed = seed}).test, 5)
        .ids;
  };
  EXPECT_EQ(tests_of(1), tests_of(1));
  EXPECT_NE(tests_of(1), tests_of(2));
  const DividedClients one = divide_clients(clients, {.test_fraction = 0.2, .seed = 1});
  const DividedClients two = divide_clients(clients, {.test_fraction = 0.2, .seed = 2});
  EXPECT_NE(one.train->fingerprint(), two.train->fingerprint());
  EXPECT_NE(one.train->fingerprint(), one.test->fingerprint());
}

// 30 samples drawn of 120, 200 times over: every sample about equally often.
TEST(ClientDivision, DrawsEverySampleEquallyOften) {
  ClientIndex index(120);
  std::vector<std::uint32_t> samples(120);
  std::iota(samples.begin(), samples.end(), 0U);
  index.add(samples);
  const auto clients = partitioned_clients(testing::small_dataset(120, 1), std::move(index));
  std::vector<int> drawn(120, 0);
  constexpr int kDraws = 200;
  for (int seed = 0; seed < kDraws; ++seed) {
    const DividedClients parts =
        divide_clients(clients, {.test_fraction = 0.25, .seed = static_cast<std::uint64_t>(seed)});
    for (const std::int64_t id : read_all_samples(*parts.test, 0).ids) {
      ++drawn[static_cast<std::size_t>(id)];
    }
  }
  // Mean 50, deviation sqrt(200 * 0.25 * 0.75) = 6.1: five deviations.
  EXPECT_GT(*std::min_element(drawn.begin(), drawn.end()), 19);
  EXPECT_LT(*std::max_element(drawn.begin(), drawn.end()), 81);
}

TEST(ClientDivision, RefusesFractionsOutsideOfZeroToOne) {
  for (const double fraction : {-0.1, 1.0, 2.0, std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_THROW(divide_clients(some_clients(), {.test_fraction = fraction}), InvalidArgument);
  }
}

}  // namespace
}  // namespace superstep::worker

#include "worker/federated/cohort.h"

#include <cmath>
#include <numeric>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "worker/federated/client_metrics.h"
#include "worker/federated/placement.h"

namespace superstep::worker {
namespace {

// Client i has i + 1 samples.
class Sizes : public ClientData {
 public:
  explicit Sizes(std::int64_t count) : count_(count) {}
  std::int64_t num_clients() const override { return count_; }
  std::int64_t num_samples(std::int64_t client) const override { return client + 1; }
  std::int64_t total_samples() const override { return count_ * (count_ + 1) / 2; }
  kernels::Shape sample_shape() const override { return {1}; }
  int num_classes() const override { return 2; }
  std::string fingerprint() const override { return "sizes"; }
  void read(std::int64_t, std::span<const std::int64_t>, const Normalization&, std::span<float>,
            std::span<std::int64_t>, std::span<std::int64_t>) const override {}

 private:
  std::int64_t count_;
};

std::vector<double> frequencies(const CohortOptions& options, std::int64_t clients, int rounds) {
  std::vector<double> counts(static_cast<std::size_t>(clients), 0.0);
  const Sizes sizes(clients);
  for (int round = 0; round < rounds; ++round) {
    for (const std::int64_t client : select_cohort(options, sizes, round)) {
      counts[static_cast<std::size_t>(client)] += 1.0 / rounds;
    }
  }
  return counts;
}

TEST(Cohort, FixedSizeIsExactWithoutRepetitionAndFair) {
  const CohortOptions options{.sampling = Sampling::kFixed, .size = 4, .seed = 9};
  for (int round = 0; round < 200; ++round) {
    const std::vector<std::int64_t> cohort = select_cohort(options, Sizes(10), round);
    EXPECT_EQ(cohort.size(), 4U);
    EXPECT_EQ(std::set<std::int64_t>(cohort.begin(), cohort.end()).size(), 4U);
    EXPECT_TRUE(std::is_sorted(cohort.begin(), cohort.end()));
  }
  constexpr int kRounds = 20000;
  for (const double frequency : frequencies(options, 10, kRounds)) {
    EXPECT_NEAR(frequency, 0.4, 5.0 * std::sqrt(0.4 * 0.6 / kRounds));
  }
}

TEST(Cohort, PoissonTakesEveryClientByItself) {
  const CohortOptions options{.sampling = Sampling::kPoisson, .size = 3, .seed = 9};
  constexpr int kRounds = 20000;
  const Sizes sizes(12);
  double sum = 0.0;
  double squares = 0.0;
  for (int round = 0; round < kRounds; ++round) {
    const auto size = static_cast<double>(select_cohort(options, sizes, round).size());
    sum += size;
    squares += size * size;
  }
  const double mean = sum / kRounds;
  EXPECT_NEAR(mean, 3.0, 5.0 * std::sqrt(12 * 0.25 * 0.75 / kRounds));
  EXPECT_NEAR(squares / kRounds - mean * mean, 12 * 0.25 * 0.75, 0.1);  // binomial
  for (const double frequency : frequencies(options, 12, kRounds)) {
    EXPECT_NEAR(frequency, 0.25, 5.0 * std::sqrt(0.25 * 0.75 / kRounds));
  }
}

TEST(Cohort, WeightedTakesALargeClientInProportionToItsSamples) {
  const CohortOptions options{.sampling = Sampling::kWeighted, .size = 1, .seed = 9};
  constexpr int kRounds = 20000;
  const std::vector<double> found = frequencies(options, 4, kRounds);
  for (std::size_t i = 0; i < 4; ++i) {
    const double expected = static_cast<double>(i + 1) / 10.0;
    EXPECT_NEAR(found[i], expected, 5.0 * std::sqrt(expected * (1 - expected) / kRounds));
  }
}

TEST(Cohort, RefusesACohortLargerThanThePopulation) {
  EXPECT_THROW(select_cohort({.size = 5}, Sizes(4), 0), InvalidArgument);
  EXPECT_THROW(select_cohort({.size = 0}, Sizes(4), 0), InvalidArgument);
}

TEST(ClientMetrics, AreNearestRanksOverClients) {
  std::vector<double> values;
  for (int i = 20; i >= 1; --i) {
    values.push_back(i);
  }
  const Distribution over = distribution_of(values);
  EXPECT_EQ(over.count, 20);
  EXPECT_EQ(over.minimum, 1.0);
  EXPECT_EQ(over.p10, 2.0);
  EXPECT_EQ(over.median, 10.0);
  EXPECT_EQ(over.p90, 18.0);
  EXPECT_EQ(over.maximum, 20.0);
  EXPECT_NEAR(over.mean, 10.5, 1e-12);
  EXPECT_NEAR(over.variance, 33.25, 1e-12);
  EXPECT_EQ(distribution_of({}).count, 0);
}

TEST(Placement, GivesTheLongestClientToTheLeastLoadedRank) {
  const std::vector<double> costs = {3.0, 3.0, 2.0, 2.0, 2.0};
  EXPECT_EQ(place_by_cost(costs, 2), (std::vector<int>{0, 1, 0, 1, 0}));
  EXPECT_EQ(place_by_cost({}, 3), std::vector<int>{});
}

TEST(Placement, FitsTheCostOfAClientToWhatWasMeasured) {
  ClientCost cost;
  EXPECT_EQ(cost.predict(7.0), 7.0);  // nothing measured yet
  cost.add(10.0, 0.25);
  cost.add(20.0, 0.35);
  cost.add(40.0, 0.55);
  EXPECT_NEAR(cost.predict(100.0), 0.15 + 1.0, 1e-12);
}

}  // namespace
}  // namespace superstep::worker

// The accountants against published values; the mechanism against its own formulas.

#include "worker/federated/privacy/privacy.h"

#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "worker/federated/privacy/pld.h"
#include "worker/federated/privacy/rdp.h"

namespace superstep::worker {
namespace {

struct Row {
  const char* source;
  GaussianRound round;
  std::int64_t times;
  double delta;
  double epsilon;
  double tolerance;
};

double rdp_epsilon(const Row& row, RdpConversion conversion,
                   std::vector<double> orders = default_rdp_orders()) {
  RdpAccountant accountant(std::move(orders));
  accountant.compose(row.round, row.times);
  return accountant.epsilon(row.delta, conversion).epsilon;
}

std::vector<double> integer_orders() {
  std::vector<double> orders;
  for (int order = 2; order <= 256; ++order) {
    orders.push_back(order);
  }
  return orders;
}

// Tolerances are half of the last printed digit; Opacus' own check allows more than its digits say.
TEST(Rdp, ReproducesPublishedEpsilons) {
  const Row improved[] = {
      {"Opacus", {.04, 1.5}, 2250, 1e-5, 7.32911117143, 1e-10},
      {"TensorFlow Privacy", {150.0 / 60000, 1.3}, 6000, 1e-5, 0.7242234026, 5e-11},
      {"TensorFlow Privacy", {100.0 / 100000, 1.0}, 30000, 1e-7, 1.4154988495, 5e-11},
      {"TensorFlow Privacy tutorial", {256.0 / 60000, 1.1}, 14062, 1e-5, 2.59656, 5e-6},
      {"TensorFlow Privacy tutorial", {256.0 / 60000, 1.1}, 234, 1e-5, 0.74023, 5e-6},
      {"TensorFlow Privacy, exact fractional orders", {.01, .7}, 120, 1e-5, 3.2391922, 5e-8},
      {"TensorFlow Privacy", {1.0, .7}, 2, 1e-5, 10.8602036, 5e-8},
  };
  for (const Row& row : improved) {
    EXPECT_NEAR(rdp_epsilon(row, RdpConversion::kImproved), row.epsilon, row.tolerance)
        << row.source << " sigma " << row.round.noise;
  }
  const Row classic[] = {
      {"TensorFlow Privacy", {150.0 / 60000, 1.3}, 6000, 1e-5, 0.9418705672, 5e-11},
      {"TensorFlow Privacy", {100.0 / 100000, 1.0}, 30000, 1e-7, 1.7092873370, 5e-11},
      {"TensorFlow Privacy tutorial", {256.0 / 60000, 1.1}, 14062, 1e-5, 3.008, 5e-4},
      {"TensorFlow Privacy tutorial", {256.0 / 60000, 1.1}, 234, 1e-5, 1.03, 5e-3},
  };
  for (const Row& row : classic) {
    EXPECT_NEAR(rdp_epsilon(row, RdpConversion::kClassic), row.epsilon, row.tolerance)
        << row.source << " sigma " << row.round.noise;
  }
  // McMahan et al. 2018 used integer orders.
  const Row headline{"DP-FedAvg", {5000.0 / 763430, 1.0}, 5000, 1e-9, 4.634, 5e-4};
  EXPECT_NEAR(rdp_epsilon(headline, RdpConversion::kClassic, integer_orders()), headline.epsilon,
              headline.tolerance);
  std::vector<double> dense;
  for (int i = 1; i < 20000; ++i) {
    dense.push_back(1.0 + 0.01 * i);
  }
  const Row calibrated{"dp_accounting", {1.0, 4.530877117}, 1, 1e-6, 1.0, 5e-7};
  EXPECT_NEAR(rdp_epsilon(calibrated, RdpConversion::kImproved, dense), calibrated.epsilon,
              calibrated.tolerance);
}

TEST(Rdp, ReproducesItsGridOfIntegerOrders) {
  std::vector<double> orders;
  for (int order = 2; order <= 64; ++order) {
    orders.push_back(order);
  }
  const Row rows[] = {{"", {.01, 1.0}, 1000, 1e-5, 2.1077530755, 5e-11},
                      {"", {.01, 1.1}, 10000, 1e-5, 5.6543080001, 5e-11},
                      {"", {.001, 1.0}, 100000, 1e-6, 2.0040455924, 5e-11},
                      {"", {.02, .8}, 500, 1e-5, 5.3970189145, 5e-11},
                      {"", {.1, 4.0}, 200, 1e-6, 1.7550479733, 5e-11}};
  const double classic[] = {2.5383475455, 6.2798110296, 2.3169575739, 6.1467991073, 2.0357434507};
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_NEAR(rdp_epsilon(rows[i], RdpConversion::kImproved, orders), rows[i].epsilon,
                rows[i].tolerance);
    EXPECT_NEAR(rdp_epsilon(rows[i], RdpConversion::kClassic, orders), classic[i],
                rows[i].tolerance);
  }
}

TEST(Rdp, FractionalOrdersKeepTheSignsOfTheSeries) {
  const GaussianRound round{.sampling = .01, .noise = 2.5};
  EXPECT_NEAR(50 * gaussian_rdp(round, 1.5), 6.50071e-4, 5e-10);
  EXPECT_NEAR(50 * gaussian_rdp(round, 2.5), 1.08542e-3, 5e-9);
  EXPECT_NEAR(50 * gaussian_rdp(round, 5), 2.18076e-3, 5e-9);
  EXPECT_NEAR(50 * gaussian_rdp(round, 50), 2.38460e-2, 5e-8);
  EXPECT_NEAR(50 * gaussian_rdp(round, 100), 167.416, 5e-4);
  // Continuous across an integer, where another formula is used.
  EXPECT_NEAR(gaussian_rdp(round, 3.0 + 1e-9), gaussian_rdp(round, 3.0), 1e-10);
}

TEST(Pld, ReproducesPublishedEpsilons) {
  const Row rows[] = {
      {"TensorFlow Privacy", {.01, .7}, 120, 1e-5, 2.4612381, 1e-7},
      {"TensorFlow Privacy", {1.0, .7}, 2, 1e-5, 10.1224946, 1e-7},
      {"dp_accounting", {.01, .67379294682}, 1, 1e-5, 1.0, 1e-5},
      {"dp_accounting", {.001, 3.20956502598 / 6}, 25, 1e-5, 1.0, 1e-5},
  };
  for (const Row& row : rows) {
    EXPECT_NEAR(pld_epsilon(row.round, row.times, row.delta), row.epsilon, row.tolerance)
        << row.source << " sigma " << row.round.noise;
  }
}

// microsoft/prv_accountant prints its upper bound: epsilon at delta - delta_error plus
// epsilon_error, with errors delta / 1000 and 0.01.
TEST(Pld, ReproducesTheUpperBoundsOfThePrvAccountant) {
  const Row rows[] = {
      {"", {.001, .8}, 100, 1e-6, 0.2704033641, 5e-5},
      {"", {.05, .8}, 1000, 1e-6, 19.5258428054, 5e-5},
      {"", {.05, 1.5}, 1000, 1e-6, 6.2099692466, 5e-5},
      {"", {.2, 2.0}, 100, 1e-6, 5.6720556088, 5e-5},
      {"", {.001, 1.5}, 20000, 1e-6, 0.4370051087, 5e-5},
      {"", {.05, 3.0}, 50000, 1e-6, 24.9420056431, 5e-5},
  };
  for (const Row& row : rows) {
    // What the grid adds grows with the number of rounds.
    const double grid = row.times > 10000 ? 2e-5 : 1e-4;
    const double epsilon =
        pld_epsilon(row.round, row.times, row.delta * (1.0 - 1e-3), {.grid = grid}) + 0.01;
    EXPECT_NEAR(epsilon, row.epsilon, row.tolerance) << "sigma " << row.round.noise;
  }
}

TEST(Pld, EqualsTheExactGaussianWithoutSampling) {
  EXPECT_NEAR(gaussian_delta(1.0, 1.0), 0.126936737507, 5e-13);
  EXPECT_NEAR(gaussian_delta(1.0 / 3, 1.0), 0.787600741, 5e-10);
  EXPECT_NEAR(gaussian_delta(2.0, 0.5), 0.0524403233, 5e-11);
  EXPECT_NEAR(gaussian_delta(4.0, 1.0), 2.92427210e-6, 5e-14);
  // T releases are one with sigma / sqrt(T).
  const double epsilon = pld_epsilon({.sampling = 1.0, .noise = 10.0}, 100, 1e-5);
  EXPECT_NEAR(gaussian_delta(1.0, epsilon), 1e-5, 1e-10);
  EXPECT_NEAR(epsilon, 4.377178096, 1e-6);
}

// Little noise gives wide losses: the grid grows until they fit, and the bound stays one.
TEST(Pld, CoarsensItsGridInsteadOfGivingUp) {
  const double wide = pld_epsilon({.sampling = .1, .noise = .1}, 1000, 1e-5);
  EXPECT_TRUE(std::isfinite(wide));
  const Row row{"", {.1, .1}, 1000, 1e-5, 0, 0};
  EXPECT_LE(wide, rdp_epsilon(row, RdpConversion::kImproved));
  // The mean loss of a round is about q / (2 z^2), 5000 in all.
  EXPECT_GT(wide, 4000.0);
  // Without sampling, T releases of noise sigma are one of sigma / sqrt(T).
  const double unsampled = pld_epsilon({.sampling = 1.0, .noise = .2}, 4, 1e-5);
  EXPECT_NEAR(gaussian_delta(.1, unsampled), 1e-5, 1e-9);
  EXPECT_EQ(pld_epsilon({.sampling = .5, .noise = 1e-3}, 10, 1e-5),
            std::numeric_limits<double>::infinity());
  EXPECT_EQ(pld_epsilon({.sampling = 1.0, .noise = 1e-9}, 10, 1e-5),
            std::numeric_limits<double>::infinity());
}

TEST(Accountants, AreOrderedAndMonotone) {
  double before = 0.0;
  for (const std::int64_t times : {1, 10, 100, 1000}) {
    const Row row{"", {.02, 1.0}, times, 1e-5, 0, 0};
    const double pld = pld_epsilon(row.round, times, row.delta);
    const double improved = rdp_epsilon(row, RdpConversion::kImproved);
    EXPECT_LE(pld, improved);
    EXPECT_LE(improved, rdp_epsilon(row, RdpConversion::kClassic));
    EXPECT_GE(pld, before);
    before = pld;
  }
  EXPECT_LT(pld_epsilon({.01, 1.0}, 100, 1e-5), pld_epsilon({.02, 1.0}, 100, 1e-5));
  EXPECT_LT(pld_epsilon({.02, 1.2}, 100, 1e-5), pld_epsilon({.02, 1.0}, 100, 1e-5));
  EXPECT_EQ(pld_epsilon({.02, 1.0}, 0, 1e-5), 0.0);
}

TEST(Accountants, RefuseWhatTheyCannotAccount) {
  EXPECT_THROW(gaussian_rdp({.sampling = 0.0}, 2.0), InvalidArgument);
  EXPECT_THROW(gaussian_rdp({.sampling = 1.1}, 2.0), InvalidArgument);
  EXPECT_THROW(gaussian_rdp({.noise = 0.0}, 2.0), InvalidArgument);
  EXPECT_THROW(gaussian_rdp({}, 1.0), InvalidArgument);
  EXPECT_THROW(RdpAccountant({2.0, 1.0}), InvalidArgument);
  EXPECT_THROW(pld_epsilon({}, 1, 0.0), InvalidArgument);
  EXPECT_THROW(pld_epsilon({}, -1, 1e-5), InvalidArgument);
  EXPECT_THROW(pld_epsilon({}, 1, 1e-5, {.grid = 0.0}), InvalidArgument);
}

PrivacyEngine engine(const PrivacyOptions& options, std::int64_t elements = 10000) {
  return {options,
          {.cohort = 100, .population = 1000, .num_elements = elements, .most_clip = 16.0},
          {.bits = 64, .fraction_bits = 30, .value_bound = 16},
          7};
}

TEST(PrivacyEngine, ClipsToTheBoundAndNotBelow) {
  const PrivacyEngine flat = engine({.kind = PrivacyKind::kDpFedAvg, .clip = 0.5});
  EXPECT_EQ(flat.factor(0.0), 1.0);
  EXPECT_EQ(flat.factor(0.5), 1.0);
  EXPECT_LE(flat.factor(2.0) * 2.0, 0.5);
  EXPECT_NEAR(flat.factor(2.0), 0.25, 1e-11);
}

TEST(PrivacyEngine, CapsWeightsAtOne) {
  const PrivacyEngine capped = engine({.kind = PrivacyKind::kDpFedAvg, .weight_cap = 20.0});
  EXPECT_EQ(capped.weight_of(5), 0.25);
  EXPECT_EQ(capped.weight_of(500), 1.0);
  EXPECT_EQ(engine({.kind = PrivacyKind::kDpFedAvg}).weight_of(500), 1.0);
}

// A million draws, in shards of several sizes: one deviation, whatever the cut.
TEST(PrivacyEngine, NoiseHasTheDeviationOfTheSensitivityWhateverTheShards) {
  constexpr std::int64_t kElements = 1'000'000;
  const PrivacyEngine noisy = engine({.kind = PrivacyKind::kDpFedAvg,
                                      .clip = 0.25,
                                      .noise_multiplier = 1.5,
                                      .noise_source = NoiseSource::kTest},
                                     kElements);
  const double deviation = 1.5 * (0.25 * 0x1p30 + 500.0);
  EXPECT_DOUBLE_EQ(noisy.ring_deviation(), deviation);
  std::vector<std::int64_t> whole(kElements, 0);
  noisy.add_noise(3, 0, whole);
  double squares = 0.0;
  double sum = 0.0;
  for (const std::int64_t value : whole) {
    sum += static_cast<double>(value);
    squares += static_cast<double>(value) * static_cast<double>(value);
  }
  EXPECT_NEAR(std::sqrt(squares / kElements) / deviation, 1.0, 5.0 / std::sqrt(2.0 * kElements));
  EXPECT_NEAR(sum / kElements / deviation, 0.0, 5.0 / std::sqrt(kElements));
  std::vector<std::int64_t> part(1000, 0);
  noisy.add_noise(3, 4321, part);
  EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + 4321));
}

TEST(PrivacyEngine, AdaptiveBoundFindsTheQuantileAndSharesTheBudget) {
  const PrivacyOptions options{.kind = PrivacyKind::kDpFedAvg,
                               .clip = 8.0,
                               .noise_multiplier = 1.0,
                               .clipping = Clipping::kAdaptive,
                               .target_quantile = 0.5,
                               .count_noise = 10.0};
  PrivacyEngine adaptive = engine(options);
  // Norms are uniform in [0, 2]: the median is 1.
  for (int round = 0; round < 300; ++round) {
    const double within = std::min(1.0, adaptive.clip() / 2.0);
    const double count = 100.0 * (within - 0.5);
    adaptive.adapt(std::llround(count * 2.0 * static_cast<double>(kHalfCount)));
  }
  EXPECT_NEAR(adaptive.clip(), 1.0, 0.01);
  const double z = 1.0 / std::sqrt(1.0 - 1.0 / 400.0);
  EXPECT_NEAR(adaptive.ring_deviation(), z * (adaptive.clip() * 0x1p30 + 50.0), 1.0);
  adaptive.adapt(-1'000'000 * kHalfCount);
  EXPECT_EQ(adaptive.clip(), 16.0);  // the most that the ring was made for
  adaptive.adapt(1'000'000 * kHalfCount);
  EXPECT_GT(adaptive.clip(), 0.0);
  PrivacyOptions greedy = options;
  greedy.count_noise = 0.4;
  EXPECT_THROW(engine(greedy), InvalidArgument);
}

// A simulation of five times the cohort: a fifth of the noise, so that the means have the same, and
// the account of the larger cohort.
TEST(PrivacyEngine, SimulatesTheNoiseOfALargerCohort) {
  PrivacyOptions options{.kind = PrivacyKind::kDpFedAvg,
                         .noise_multiplier = 1.0,
                         .clipping = Clipping::kAdaptive,
                         .count_noise = 10.0};
  PrivacyEngine run = engine(options);
  options.noise_cohort = 500;
  PrivacyEngine simulated = engine(options);
  EXPECT_DOUBLE_EQ(simulated.ring_deviation(), run.ring_deviation() / 5.0);
  EXPECT_EQ(simulated.divisor(), run.divisor());
  run.account();
  simulated.account();
  const PrivacyRound plain = run.spent(1.0);
  const PrivacyRound larger = simulated.spent(1.0);
  EXPECT_EQ(plain.noise_cohort, plain.cohort);
  EXPECT_EQ(larger.cohort, 100);
  EXPECT_EQ(larger.noise_cohort, 500);
  EXPECT_DOUBLE_EQ(larger.sampling, 5.0 * plain.sampling);
  EXPECT_DOUBLE_EQ(larger.count_deviation, plain.count_deviation / 5.0);
  EXPECT_GT(larger.rdp.epsilon, plain.rdp.epsilon);
}

// Noise of both sources has the deviation that is accounted for, and no residue of the noisy count
// tells how many clients are in it: its fraction of a half is uniform.
TEST(PrivacyEngine, NoiseOfCountsCoversTheParityOfTheClients) {
  constexpr int kDraws = 20000;
  const auto half = static_cast<double>(kHalfCount);
  for (const NoiseSource source : {NoiseSource::kTest, NoiseSource::kSystem}) {
    const PrivacyEngine noisy = engine({.kind = PrivacyKind::kDpFedAvg,
                                        .noise_multiplier = 0.5,
                                        .clipping = Clipping::kAdaptive,
                                        .count_noise = 0.5,
                                        .noise_source = source});
    double squares = 0.0;
    std::array<int, 8> residues{};
    for (int round = 0; round < kDraws; ++round) {
      const std::int64_t noise = noisy.count_noise(round);
      const double clients = static_cast<double>(noise) / (2.0 * half);
      squares += clients * clients;
      const std::int64_t residue = ((noise % kHalfCount) + kHalfCount) % kHalfCount;
      ++residues[static_cast<std::size_t>(8 * residue / kHalfCount)];
    }
    EXPECT_NEAR(std::sqrt(squares / kDraws), 0.5, 5.0 * 0.5 / std::sqrt(2.0 * kDraws));
    for (const int count : residues) {
      EXPECT_NEAR(count, kDraws / 8.0, 6.0 * std::sqrt(kDraws / 8.0)) << name_of(source);
    }
  }
}

TEST(PrivacyEngine, AccountsRoundsOneByOneOrTogether) {
  const PrivacyOptions options{.kind = PrivacyKind::kDpFedAvg, .noise_multiplier = 1.1};
  PrivacyEngine one_by_one = engine(options);
  PrivacyEngine together = engine(options);
  for (int round = 0; round < 50; ++round) {
    one_by_one.account();
  }
  together.account(50);
  EXPECT_NEAR(one_by_one.spent(1.0).rdp.epsilon, together.spent(1.0).rdp.epsilon, 1e-12);
  EXPECT_EQ(one_by_one.pld(), together.pld());
  EXPECT_LE(together.pld(), together.spent(1.0).rdp.epsilon);
  EXPECT_TRUE(std::isinf(
      engine({.kind = PrivacyKind::kDpFedAvg, .noise_multiplier = 0.0}).spent(1.0).rdp.epsilon));
}

}  // namespace
}  // namespace superstep::worker

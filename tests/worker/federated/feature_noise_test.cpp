// Noise on the features of clients.
#include "worker/federated/feature_noise.h"

#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/worker/federated/client_samples.h"
#include "tests/worker/federated/federated_support.h"

namespace superstep::worker {
namespace {

using testing::ClientSamples;
using testing::read_all_samples;
using testing::read_samples;

constexpr PartitionOptions kFour{.kind = PartitionKind::kIid, .num_clients = 4, .seed = 2};

struct Moments {
  double mean = 0.0;
  double deviation = 0.0;
};
Moments difference(const ClientSamples& noisy, const ClientSamples& clean) {
  Moments moments;
  const auto count = static_cast<double>(clean.values.size());
  for (std::size_t i = 0; i < clean.values.size(); ++i) {
    const double d = double{noisy.values[i]} - double{clean.values[i]};
    moments.mean += d / count;
    moments.deviation += d * d / count;
  }
  moments.deviation = std::sqrt(moments.deviation);
  return moments;
}

// 100 samples of 64 values a client: the deviation's own relative error is 1 / sqrt(2 * 6400) =
// 0.9 %, that of the mean 1 / 80 of the deviation; five of them each.
TEST(FeatureNoise, GrowsFromClientToClientAndLeavesLabels) {
  const auto clients = testing::small_clients(kFour, 400);
  const auto noisy = noisy_clients(clients, {.deviation = 0.8, .seed = 5});
  for (std::int64_t client = 0; client < 4; ++client) {
    const ClientSamples clean = read_all_samples(*clients, client);
    const ClientSamples read = read_all_samples(*noisy, client);
    EXPECT_EQ(read.labels, clean.labels);
    EXPECT_EQ(read.ids, clean.ids);
    const double expected = 0.8 * static_cast<double>(client + 1) / 4.0;
    const Moments moments = difference(read, clean);
    EXPECT_NEAR(moments.deviation, expected, 0.045 * expected) << client;
    EXPECT_NEAR(moments.mean, 0.0, expected * 5.0 / 80.0) << client;
  }
}

TEST(FeatureNoise, IsMeasuredBeforeTheDeviationOfTheDataIsTakenOut) {
  const auto clients = testing::small_clients(kFour, 400);
  const auto noisy = noisy_clients(clients, {.deviation = 0.8, .seed = 5});
  Normalization normalization;
  normalization.mean = 0.5F;
  normalization.standard_deviation = 0.25F;
  const Moments moments = difference(read_all_samples(*noisy, 3, normalization),
                                     read_all_samples(*clients, 3, normalization));
  EXPECT_NEAR(moments.deviation, 3.2, 0.045 * 3.2);
}

TEST(FeatureNoise, IsAFunctionOfSeedClientAndSample) {
  const auto clients = testing::small_clients(kFour, 400);
  const auto noisy = noisy_clients(clients, {.deviation = 0.8, .seed = 5});
  constexpr std::int64_t kElements = 64;  // of a sample
  const ClientSamples first = read_samples(*noisy, 1, {3, 7});
  const ClientSamples again = read_samples(*noisy, 1, {7, 9, 3});
  EXPECT_TRUE(std::equal(first.values.begin(), first.values.begin() + kElements,
                         again.values.begin() + 2 * kElements));
  EXPECT_TRUE(
      std::equal(first.values.begin() + kElements, first.values.end(), again.values.begin()));
  const auto other = noisy_clients(clients, {.deviation = 0.8, .seed = 6});
  EXPECT_NE(read_samples(*other, 1, {3, 7}).values, first.values);
  EXPECT_NE(other->fingerprint(), noisy->fingerprint());
}

TEST(FeatureNoise, WithoutDeviationNothingChanges) {
  const auto clients = testing::small_clients(kFour, 400);
  const auto still = noisy_clients(clients, {.deviation = 0.0});
  EXPECT_EQ(read_samples(*still, 2, {0, 1}).values, read_samples(*clients, 2, {0, 1}).values);
  EXPECT_THROW(noisy_clients(clients, {.deviation = -0.1}), InvalidArgument);
  EXPECT_THROW(noisy_clients(clients, {.deviation = std::numeric_limits<double>::infinity()}),
               InvalidArgument);
}

}  // namespace
}  // namespace superstep::worker

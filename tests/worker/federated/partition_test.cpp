#include "worker/federated/partition.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/clock.h"
#include "base/error.h"
#include "tests/base/temporary_directory.h"
#include "tests/support/error_text.h"
#include "worker/federated/client_data.h"
#include "worker/federated/partition_file.h"
#include "worker/federated/proportions.h"

namespace superstep::worker {
namespace {

using testing::error_text;

constexpr int kClasses = 10;

std::vector<std::int64_t> labels_of(std::int64_t count) {
  std::vector<std::int64_t> labels;
  for (std::int64_t i = 0; i < count; ++i) {
    labels.push_back(i * 7 % kClasses);
  }
  return labels;
}

std::set<std::int64_t> labels_of_client(const ClientIndex& index,
                                        const std::vector<std::int64_t>& labels,
                                        std::int64_t client) {
  std::set<std::int64_t> found;
  for (const std::uint32_t sample : index.samples(client)) {
    found.insert(labels[sample]);
  }
  return found;
}

class EveryPartition : public ::testing::TestWithParam<PartitionKind> {};

TEST_P(EveryPartition, GivesEachSampleToExactlyOneClientAndEveryClientItsMinimum) {
  const std::vector<std::int64_t> labels = labels_of(997);
  for (const double alpha : {1e-6, 0.1, 100.0}) {
    const PartitionOptions options{.kind = GetParam(),
                                   .num_clients = 31,
                                   .alpha = alpha,
                                   .size_skew = 2.0,
                                   .min_samples = 3,
                                   .seed = 4};
    const ClientIndex index = make_partition(labels, kClasses, options);
    ASSERT_EQ(index.num_clients(), 31);
    EXPECT_EQ(index.total_samples(), 997);
    std::set<std::uint32_t> seen;
    for (std::int64_t client = 0; client < index.num_clients(); ++client) {
      EXPECT_GE(index.num_samples(client), 3);
      seen.insert(index.samples(client).begin(), index.samples(client).end());
    }
    EXPECT_EQ(seen.size(), 997U);
    EXPECT_EQ(index.hash(), make_partition(labels, kClasses, options).hash());
  }
}

TEST_P(EveryPartition, DependsOnTheSeed) {
  const std::vector<std::int64_t> labels = labels_of(600);
  PartitionOptions options{.kind = GetParam(), .num_clients = 20, .size_skew = 1.0, .seed = 1};
  const Hash128 first = make_partition(labels, kClasses, options).hash();
  options.seed = 2;
  EXPECT_FALSE(make_partition(labels, kClasses, options).hash() == first);
}

INSTANTIATE_TEST_SUITE_P(AllKinds, EveryPartition,
                         ::testing::Values(PartitionKind::kIid, PartitionKind::kShards,
                                           PartitionKind::kPathological, PartitionKind::kDirichlet,
                                           PartitionKind::kDirichletSizes,
                                           PartitionKind::kQuantity),
                         [](const auto& tested) { return std::string(name_of(tested.param)); });

TEST(Partition, IidClientsDifferByAtMostOneSample) {
  const ClientIndex index =
      make_partition(labels_of(1003), kClasses, {.kind = PartitionKind::kIid, .num_clients = 100});
  for (std::int64_t client = 0; client < 100; ++client) {
    EXPECT_NEAR(static_cast<double>(index.num_samples(client)), 10.03, 1.0);
  }
}

// McMahan's: 600 samples of 10 equally frequent labels, 20 shards of 30 for 10 clients.
TEST(Partition, ShardsGiveAClientAtMostTwoLabels) {
  const std::vector<std::int64_t> labels = labels_of(600);
  const ClientIndex index =
      make_partition(labels, kClasses, {.kind = PartitionKind::kShards, .num_clients = 10});
  for (std::int64_t client = 0; client < 10; ++client) {
    EXPECT_EQ(index.num_samples(client), 60);
    EXPECT_LE(labels_of_client(index, labels, client).size(), 2U);
  }
}

TEST(Partition, PathologicalClientsHaveExactlyTheirLabels) {
  const std::vector<std::int64_t> labels = labels_of(2000);
  const PartitionOptions options{
      .kind = PartitionKind::kPathological, .num_clients = 50, .labels_per_client = 3};
  const ClientIndex index = make_partition(labels, kClasses, options);
  for (std::int64_t client = 0; client < 50; ++client) {
    EXPECT_EQ(labels_of_client(index, labels, client).size(), 3U);
  }
}

TEST(Partition, SmallAlphaConcentratesLabelsAndLargeAlphaSpreadsThem) {
  const std::vector<std::int64_t> labels = labels_of(5000);
  const auto mean_labels = [&](double alpha) {
    const PartitionOptions options{
        .kind = PartitionKind::kDirichlet, .num_clients = 20, .alpha = alpha};
    const ClientIndex index = make_partition(labels, kClasses, options);
    double sum = 0.0;
    for (std::int64_t client = 0; client < 20; ++client) {
      sum += static_cast<double>(labels_of_client(index, labels, client).size());
    }
    return sum / 20.0;
  };
  EXPECT_LT(mean_labels(0.02), 4.0);
  EXPECT_GT(mean_labels(100.0), 9.9);
}

TEST(Partition, RefusesWhatCannotBeMet) {
  const std::vector<std::int64_t> labels = labels_of(100);
  const auto refusal = [&](const PartitionOptions& options) {
    return error_text<InvalidArgument>([&] { make_partition(labels, kClasses, options); });
  };
  EXPECT_NE(refusal({.num_clients = 101}).find("more clients than the data can serve"),
            std::string::npos);
  EXPECT_NE(refusal({.num_clients = 40, .min_samples = 3}).find("more clients"), std::string::npos);
  EXPECT_NE(refusal({.kind = PartitionKind::kDirichlet, .alpha = std::nan("")}).find("alpha"),
            std::string::npos);
  EXPECT_NE(
      refusal({.kind = PartitionKind::kPathological, .num_clients = 10, .labels_per_client = 11})
          .find("labels_per_client: got 11"),
      std::string::npos);
  EXPECT_NE(
      refusal({.kind = PartitionKind::kPathological, .num_clients = 3, .labels_per_client = 2})
          .find("has no client"),
      std::string::npos);
  EXPECT_NE(refusal({.kind = PartitionKind::kShards, .num_clients = 60}).find("shards_per_client"),
            std::string::npos);
}

// FedProx's MNIST: log-normal sizes, and nobody has a third label to reach the minimum.
TEST(Partition, SkewedPathologicalClientsHaveTheirOwnLabelsOnly) {
  const std::vector<std::int64_t> labels = labels_of(60'000);
  const PartitionOptions options{.kind = PartitionKind::kPathological,
                                 .num_clients = 1000,
                                 .labels_per_client = 2,
                                 .size_skew = 2.0,
                                 .min_samples = 10};
  const ClientIndex index = make_partition(labels, kClasses, options);
  std::int64_t largest = 0;
  for (std::int64_t client = 0; client < 1000; ++client) {
    EXPECT_EQ(labels_of_client(index, labels, client).size(), 2U) << client;
    EXPECT_GE(index.num_samples(client), 10);
    largest = std::max(largest, index.num_samples(client));
  }
  EXPECT_GT(largest, 500);
  EXPECT_EQ(index.total_samples(), 60'000);
}

// An option of another kind of partition is no reason to refuse: 2 shards for each of 90 clients
// would be more than there are samples.
TEST(Partition, ChecksOnlyTheOptionsOfItsKind) {
  const std::vector<std::int64_t> labels = labels_of(100);
  EXPECT_EQ(make_partition(labels, kClasses, {.num_clients = 90}).num_clients(), 90);
  const PartitionOptions options{.kind = PartitionKind::kQuantity,
                                 .num_clients = 90,
                                 .labels_per_client = 99,
                                 .alpha = -1.0,
                                 .size_skew = 1.0};
  EXPECT_EQ(make_partition(labels, kClasses, options).num_clients(), 90);
}

// Nearly all clients are empty at first: filling them up is no search among all, for each.
TEST(Partition, FillsUpManyClientsQuickly) {
  const std::vector<std::int64_t> labels = labels_of(200'000);
  const PartitionOptions options{
      .kind = PartitionKind::kDirichletSizes, .num_clients = 100'000, .alpha = 1e-3};
  const Clock::time_point start = Clock::now();
  const ClientIndex index = make_partition(labels, kClasses, options);
  EXPECT_LT(to_seconds(Clock::now() - start), 5.0);
  EXPECT_EQ(index.total_samples(), 200'000);
}

TEST(GeneratedClients, HaveNoMoreSamplesThanNumbers) {
  EXPECT_THROW(generated_clients({.num_clients = std::int64_t{1} << 50, .samples_per_client = 9}),
               InvalidArgument);
  EXPECT_NO_THROW(
      generated_clients({.num_clients = std::int64_t{1} << 50, .samples_per_client = 8}));
}

TEST(ClientIndex, RefusesEmptyClientsAndSamplesThatAreTakenOrMissing) {
  ClientIndex index(5);
  const std::vector<std::uint32_t> first = {0, 3};
  index.add(first);
  const auto refusal = [&](const std::vector<std::uint32_t>& samples) {
    return error_text<InvalidArgument>([&] { index.add(samples); });
  };
  EXPECT_NE(refusal({}).find("client 1 has no data"), std::string::npos);
  EXPECT_NE(refusal({3}).find("sample 3 belongs to a client already"), std::string::npos);
  EXPECT_NE(refusal({5}).find("no such sample: got 5, expected 0 to 4"), std::string::npos);
  EXPECT_NE(refusal({1, 1}).find("sample 1 belongs"), std::string::npos);
}

// Moments of Dirichlet(alpha) with K = 4: mean 1/4, variance (1/4)(3/4)/(4 alpha + 1).
TEST(Proportions, HaveTheMomentsOfTheDirichletDistribution) {
  constexpr int kDraws = 20000;
  for (const double alpha : {0.3, 2.5}) {
    double sum = 0.0;
    double squares = 0.0;
    for (int i = 0; i < kDraws; ++i) {
      const std::vector<double> p = dirichlet_proportions(4, alpha, PhiloxStream(1, i));
      ASSERT_NEAR(p[0] + p[1] + p[2] + p[3], 1.0, 1e-12);
      sum += p[0];
      squares += p[0] * p[0];
    }
    const double mean = sum / kDraws;
    const double variance = 0.1875 / (4.0 * alpha + 1.0);
    EXPECT_NEAR(mean, 0.25, 5.0 * std::sqrt(variance / kDraws));
    EXPECT_NEAR(squares / kDraws - mean * mean, variance, 0.05 * variance);
  }
}

TEST(Proportions, AreNeverNoNumbersForATinyConcentration) {
  const std::vector<double> p = dirichlet_proportions(50, 1e-8, PhiloxStream(1, 2));
  double sum = 0.0;
  for (const double value : p) {
    ASSERT_TRUE(std::isfinite(value));
    sum += value;
  }
  EXPECT_NEAR(sum, 1.0, 1e-12);
}

class PartitionFile : public ::testing::Test {
 protected:
  ClientIndex read(const std::string& text, const std::string& column = "writer") {
    const std::filesystem::path path = directory_.path() / "partition.tsv";
    std::ofstream(path) << text;
    return read_partition(path, 6, column);
  }

  std::string refusal(const std::string& text) {
    return error_text<DataError>([&] { read(text); });
  }

  testing::TemporaryDirectory directory_;
};

TEST_F(PartitionFile, NumbersClientsAsTheyAppear) {
  const ClientIndex index = read("index\tlabel\twriter\n0\t5\tb\n3\t1\ta\n5\t2\tb\r\n");
  ASSERT_EQ(index.num_clients(), 2);
  EXPECT_EQ(std::vector<std::uint32_t>(index.samples(0).begin(), index.samples(0).end()),
            (std::vector<std::uint32_t>{0, 5}));
  EXPECT_EQ(std::vector<std::uint32_t>(index.samples(1).begin(), index.samples(1).end()),
            (std::vector<std::uint32_t>{3}));
}

TEST_F(PartitionFile, NamesTheLineOfWhatIsWrong) {
  EXPECT_NE(refusal("index\twriter\n0\ta\n0\tb\n").find("line 3: sample 0 is given twice"),
            std::string::npos);
  EXPECT_NE(refusal("index\twriter\n6\ta\n").find("line 2: index: got \"6\", expected 0 to 5"),
            std::string::npos);
  EXPECT_NE(refusal("index\twriter\nx\ta\n").find("line 2: index: got \"x\""), std::string::npos);
  EXPECT_NE(refusal("index\tname\n0\ta\n").find("line 1: no column 'writer'"), std::string::npos);
  EXPECT_NE(refusal("index\twriter\n0\n").find("line 2: cells: got 1, expected 2"),
            std::string::npos);
  EXPECT_NE(refusal("index\twriter\n0\t\n").find("the client is empty"), std::string::npos);
  EXPECT_NE(refusal("index\twriter\n").find("no sample is listed"), std::string::npos);
}

}  // namespace
}  // namespace superstep::worker

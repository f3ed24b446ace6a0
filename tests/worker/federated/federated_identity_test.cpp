// Algebraic identities between algorithms, bit for bit.

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "bsp/environment.h"
#include "paramserver/collocated_server.h"
#include "tests/base/temporary_directory.h"
#include "tests/worker/federated/federated_support.h"
#include "worker/trainer.h"

namespace superstep::worker {
namespace {

using testing::kUneven;
using testing::run_federated;
using testing::small_clients;
using testing::small_dataset;
using testing::small_model;
using testing::small_options;

constexpr PartitionOptions kEven{.kind = PartitionKind::kIid, .num_clients = 10, .seed = 2};

class FederatedIdentity : public ::testing::Test {
 protected:
  // The model after training on one rank.
  std::vector<float> train(const FederatedOptions& options,
                           const std::shared_ptr<const ClientData>& clients) {
    std::vector<float> parameters;
    bsp::Environment environment;
    const int code = environment.run({}, [&](bsp::World& world) {
      FederatedOptions own = options;
      own.client_store = directory_.path() / std::to_string(count_++);
      parameters = run_federated(world, small_model(), clients, own).parameters;
    });
    EXPECT_EQ(code, 0);
    return parameters;
  }

  static FederatedOptions options_of(Algorithm kind, Weighting weighting = Weighting::kSamples) {
    FederatedOptions options = small_options();
    options.rounds = 6;
    options.algorithm.kind = kind;
    options.algorithm.weighting = weighting;
    return options;
  }

  // One client's data, given to `count` clients.
  class Copies : public ClientData {
   public:
    explicit Copies(std::int64_t count) : count_(count) {}
    std::int64_t num_clients() const override { return count_; }
    std::int64_t num_samples(std::int64_t) const override { return data_->size(); }
    std::int64_t total_samples() const override { return count_ * data_->size(); }
    kernels::Shape sample_shape() const override { return data_->sample_shape(); }
    int num_classes() const override { return data_->num_classes(); }
    std::string fingerprint() const override { return "copies"; }
    void read(std::int64_t, std::span<const std::int64_t> positions,
              const Normalization& normalization, std::span<float> out,
              std::span<std::int64_t> labels, std::span<std::int64_t> ids) const override {
      std::copy(positions.begin(), positions.end(), ids.begin());
      data_->read(positions, normalization, out, labels);
    }

   private:
    std::int64_t count_;
    std::shared_ptr<const Dataset> data_ = small_dataset(24, 5);
  };

  testing::TemporaryDirectory directory_;
  int count_ = 0;
};

TEST_F(FederatedIdentity, FedProxWithoutProximalTermIsFedAvg) {
  FederatedOptions prox = options_of(Algorithm::kFedProx);
  prox.algorithm.mu = 0.0;
  const auto clients = small_clients(kUneven);
  EXPECT_EQ(train(prox, clients), train(options_of(Algorithm::kFedAvg), clients));
  prox.algorithm.mu = 1.0;
  EXPECT_NE(train(prox, clients), train(options_of(Algorithm::kFedAvg), clients));
}

TEST_F(FederatedIdentity, FedAvgMWithoutMomentumIsFedAvg) {
  FederatedOptions momentum = options_of(Algorithm::kFedAvgM);
  momentum.algorithm.server.momentum = 0.0;
  const auto clients = small_clients(kUneven);
  EXPECT_EQ(train(momentum, clients), train(options_of(Algorithm::kFedAvg), clients));
}

TEST_F(FederatedIdentity, FedNovaWithEqualStepsIsFedAvg) {
  const auto even = small_clients(kEven);
  EXPECT_EQ(train(options_of(Algorithm::kFedNova), even),
            train(options_of(Algorithm::kFedAvg), even));
  const auto uneven = small_clients(kUneven);
  EXPECT_NE(train(options_of(Algorithm::kFedNova), uneven),
            train(options_of(Algorithm::kFedAvg), uneven));
}

// Every attack moves the plain mean, and a rule that withstands it undoes that.
TEST_F(FederatedIdentity, EveryAttackHurtsTheMeanAndNotTheMedian) {
  const auto clients = small_clients(kEven, 600);
  const auto loss = [&](RobustKind kind, const AttackOptions& attack) {
    double result = 0.0;
    bsp::Environment environment;
    environment.run({}, [&](bsp::World& world) {
      FederatedOptions options = options_of(Algorithm::kFedAvg, Weighting::kUniform);
      options.rounds = 15;
      options.cohort.size = 10;
      options.robust = {.kind = kind};
      options.attack = attack;
      result = run_federated(world, small_model(), clients, options).result.test->loss;
    });
    return result;
  };
  const double peace = loss(RobustKind::kMean, {});
  for (const AttackOptions& attack :
       {AttackOptions{.kind = AttackKind::kSignFlip, .fraction = 0.3, .strength = 3.0},
        AttackOptions{.kind = AttackKind::kGaussian, .fraction = 0.3, .strength = 0.5},
        AttackOptions{.kind = AttackKind::kLabelFlip, .fraction = 0.3},
        AttackOptions{.kind = AttackKind::kLittleIsEnough, .fraction = 0.3, .strength = 10.0},
        AttackOptions{.kind = AttackKind::kInnerProduct, .fraction = 0.3, .strength = 3.0}}) {
    const double mean = loss(RobustKind::kMean, attack);
    const double median = loss(RobustKind::kMedian, attack);
    EXPECT_GT(mean, 1.1 * peace) << name_of(attack.kind);
    EXPECT_LT(median, mean) << name_of(attack.kind);
  }
}

// Client 0 has many more samples than the others, and none of them is a number.
class OneBrokenClient : public ClientData {
 public:
  std::int64_t num_clients() const override { return 5; }
  std::int64_t num_samples(std::int64_t client) const override { return client == 0 ? 40 : 8; }
  std::int64_t total_samples() const override { return 72; }
  kernels::Shape sample_shape() const override { return data_->sample_shape(); }
  int num_classes() const override { return data_->num_classes(); }
  std::string fingerprint() const override { return "one broken client"; }
  void read(std::int64_t client, std::span<const std::int64_t> positions,
            const Normalization& normalization, std::span<float> out,
            std::span<std::int64_t> labels, std::span<std::int64_t> ids) const override {
    for (std::size_t i = 0; i < positions.size(); ++i) {
      ids[i] = 40 * client + positions[i];
    }
    data_->read(ids, normalization, out, labels);
    if (client == 0) {
      std::fill(out.begin(), out.end(), std::numeric_limits<float>::quiet_NaN());
    }
  }

 private:
  std::shared_ptr<const Dataset> data_ = small_dataset(200, 5);
};

// The others make equally many steps, so that FedNova is FedAvg without the rejected one. Weights
// of the ring were rounded with its steps: equal but for the ring's resolution.
TEST_F(FederatedIdentity, FedNovaForgetsTheStepsOfARejectedClient) {
  const auto clients = std::make_shared<OneBrokenClient>();
  FederatedOptions nova = options_of(Algorithm::kFedNova);
  nova.cohort.size = 5;
  FederatedOptions fedavg = nova;
  fedavg.algorithm.kind = Algorithm::kFedAvg;
  const std::vector<float> got = train(nova, clients);
  const std::vector<float> expected = train(fedavg, clients);
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], expected[i], 1e-6F);
  }
}

TEST_F(FederatedIdentity, QFedAvgWithExponentZeroIsUnweightedFedAvg) {
  FederatedOptions q = options_of(Algorithm::kQFedAvg);
  q.algorithm.q = 0.0;
  const auto clients = small_clients(kUneven);
  EXPECT_EQ(train(q, clients), train(options_of(Algorithm::kFedAvg, Weighting::kUniform), clients));
  q.algorithm.q = 2.0;
  EXPECT_NE(train(q, clients), train(options_of(Algorithm::kFedAvg, Weighting::kUniform), clients));
}

TEST_F(FederatedIdentity, MimeLiteWithoutMomentumIsFedAvg) {
  FederatedOptions mime = options_of(Algorithm::kMimeLite);
  mime.algorithm.beta = 0.0;
  const auto clients = small_clients(kUneven);
  EXPECT_EQ(train(mime, clients), train(options_of(Algorithm::kFedAvg), clients));
}

// Full participation and a batch that covers the data: then all clients do the same, and c = c_i.
TEST_F(FederatedIdentity, ScaffoldWithIdenticalClientsIsFedAvg) {
  const auto clients = std::make_shared<Copies>(4);
  FederatedOptions scaffold = options_of(Algorithm::kScaffold);
  scaffold.cohort.size = 4;
  scaffold.local.batch = 0;
  scaffold.local.epochs = 3;
  FederatedOptions fedavg = scaffold;
  fedavg.algorithm.kind = Algorithm::kFedAvg;
  EXPECT_EQ(train(scaffold, clients), train(fedavg, clients));
}

// Poisson sampling with q = 1 takes everybody, so the fixed divisor is the number of clients.
TEST_F(FederatedIdentity, PrivacyWithoutNoiseAndWithAWideClipIsUnweightedFedAvg) {
  const auto clients = small_clients(kUneven);
  FederatedOptions plain = options_of(Algorithm::kFedAvg, Weighting::kUniform);
  plain.cohort.size = 10;
  FederatedOptions dp = plain;
  dp.cohort.sampling = Sampling::kPoisson;
  dp.privacy = {.kind = PrivacyKind::kDpFedAvg, .clip = 16.0, .noise_multiplier = 0.0};
  EXPECT_EQ(train(dp, clients), train(plain, clients));
  dp.privacy.clip = 0.01;
  EXPECT_NE(train(dp, clients), train(plain, clients));
}

// A cap that nobody reaches: weights are samples / cap, and so is the divisor. Equal but for the
// ring's resolution.
TEST_F(FederatedIdentity, PrivacyWithAHighCapOfWeightsIsFedAvg) {
  const auto clients = small_clients(kUneven);
  FederatedOptions plain = options_of(Algorithm::kFedAvg);
  plain.cohort.size = 10;
  FederatedOptions dp = plain;
  dp.cohort.sampling = Sampling::kPoisson;
  dp.privacy = {
      .kind = PrivacyKind::kDpFedAvg, .clip = 16.0, .noise_multiplier = 0.0, .weight_cap = 1000.0};
  const std::vector<float> got = train(dp, clients);
  const std::vector<float> expected = train(plain, clients);
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], expected[i], 1e-5F);
  }
}

TEST_F(FederatedIdentity, MeanAndTrimmedMeanWithoutTrimmingAreUnweightedFedAvg) {
  const auto clients = small_clients(kUneven);
  const FederatedOptions plain = options_of(Algorithm::kFedAvg, Weighting::kUniform);
  const std::vector<float> expected = train(plain, clients);
  FederatedOptions robust = plain;
  robust.robust = {.kind = RobustKind::kMean};
  EXPECT_EQ(train(robust, clients), expected);
  robust.robust = {.kind = RobustKind::kTrimmedMean, .trim_fraction = 0.0};
  EXPECT_EQ(train(robust, clients), expected);
  robust.robust = {.kind = RobustKind::kMultiKrum, .byzantine = 0, .selected = 5};
  EXPECT_EQ(train(robust, clients), expected);
}

// The plain mean falls to a few attackers, the median does not.
TEST_F(FederatedIdentity, RobustRulesHoldAgainstSignFlips) {
  const auto clients = small_clients(kEven, 600);
  const auto accuracy = [&](RobustKind kind) {
    double result = 0.0;
    bsp::Environment environment;
    environment.run({}, [&](bsp::World& world) {
      FederatedOptions options = options_of(Algorithm::kFedAvg, Weighting::kUniform);
      options.rounds = 15;
      options.cohort.size = 10;
      options.robust = {.kind = kind, .trim_fraction = 0.4, .byzantine = 3, .selected = 4};
      options.attack = {.kind = AttackKind::kSignFlip, .fraction = 0.3, .strength = 5.0};
      result = run_federated(world, small_model(), clients, options).result.test->accuracy;
    });
    return result;
  };
  EXPECT_LT(accuracy(RobustKind::kMean), 0.5);
  for (const RobustKind kind : {RobustKind::kMedian, RobustKind::kTrimmedMean, RobustKind::kKrum,
                                RobustKind::kMultiKrum, RobustKind::kGeometricMedian}) {
    EXPECT_GT(accuracy(kind), 0.8) << name_of(kind);
  }
}

// A bound on norms undoes most of the same attack without seeing one update.
TEST_F(FederatedIdentity, BoundsOfNormsHoldAgainstBoostedSignFlips) {
  const auto clients = small_clients(kEven, 600);
  const auto accuracy = [&](const NormOptions& norms) {
    double result = 0.0;
    bsp::Environment environment;
    environment.run({}, [&](bsp::World& world) {
      FederatedOptions options = options_of(Algorithm::kFedAvg, Weighting::kUniform);
      options.rounds = 15;
      options.cohort.size = 10;
      options.norms = norms;
      options.attack = {.kind = AttackKind::kSignFlip, .fraction = 0.3, .strength = 5.0};
      result = run_federated(world, small_model(), clients, options).result.test->accuracy;
    });
    return result;
  };
  const NormBoundOptions adaptive{.kind = NormBound::kAdaptive, .norm = 0.4, .quantile = 0.3};
  EXPECT_LT(accuracy({}), 0.2);
  EXPECT_GT(accuracy({.clipping = adaptive}), 0.7);
}

TEST_F(FederatedIdentity, WideBoundsOfNormsChangeNoBit) {
  const auto clients = small_clients(kUneven);
  FederatedOptions options = options_of(Algorithm::kFedAvg);
  const std::vector<float> expected = train(options, clients);
  options.norms = {.zeroing = {.kind = NormBound::kFlat, .norm = 1e6},
                   .clipping = {.kind = NormBound::kFlat, .norm = 1e6}};
  EXPECT_EQ(train(options, clients), expected);
}

// Two far outliers of one kind: 16 iterations from the mean were still on their way.
TEST_F(FederatedIdentity, TheGeometricMedianIsTheFixedPointOfItsIterations) {
  const auto clients = small_clients(kUneven);
  FederatedOptions options = options_of(Algorithm::kFedAvg, Weighting::kUniform);
  options.rounds = 1;
  options.cohort.size = 10;
  options.update_bound = 1000.0;
  options.attack = {.kind = AttackKind::kSignFlip, .fraction = 0.3, .strength = 400.0};
  options.robust = {.kind = RobustKind::kGeometricMedian};
  const std::vector<float> usual = train(options, clients);
  options.robust.tolerance = 0.0;  // until the sum of distances does not fall at all
  const std::vector<float> exact = train(options, clients);
  options.robust.tolerance = 0.5;  // the start, nearly
  const std::vector<float> rough = train(options, clients);
  double error = 0.0;
  double rough_error = 0.0;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    error += std::pow(static_cast<double>(usual[i]) - static_cast<double>(exact[i]), 2);
    rough_error += std::pow(static_cast<double>(rough[i]) - static_cast<double>(exact[i]), 2);
  }
  EXPECT_LT(error, 0.05 * rough_error);
  EXPECT_GT(rough_error, 0.0);
}

// 5 clients are just enough for one Byzantine one. It is rejected, and the 4 others go on without.
TEST_F(FederatedIdentity, KrumGoesOnWhenTheByzantineClientIsRejected) {
  for (const RobustKind kind : {RobustKind::kKrum, RobustKind::kMultiKrum}) {
    bsp::Environment environment;
    environment.run({}, [&](bsp::World& world) {
      FederatedOptions options = options_of(Algorithm::kFedAvg, Weighting::kUniform);
      options.robust = {.kind = kind, .byzantine = 1, .selected = 4};
      const FederatedResult result =
          run_federated(world, small_model(), std::make_shared<OneBrokenClient>(), options).result;
      EXPECT_EQ(result.rejected, options.rounds);
      EXPECT_EQ(result.rounds_without_effect, 0);
      EXPECT_GT(result.test->accuracy, 0.4) << name_of(kind);
    });
  }
}

TEST_F(FederatedIdentity, FedSgdIsFedAvgWithOneFullStep) {
  const auto clients = small_clients(kUneven);
  FederatedOptions fedavg = options_of(Algorithm::kFedAvg);
  fedavg.local.batch = 0;
  FederatedOptions fedsgd = options_of(Algorithm::kFedSgd);
  fedsgd.local.batch = 4;
  fedsgd.local.epochs = 3;
  EXPECT_EQ(train(fedsgd, clients), train(fedavg, clients));
}

// The centralised trainer with one slot is the oracle; identical clients with all the data each.
TEST_F(FederatedIdentity, OneFullBatchStepOfAllClientsIsACentralisedStepOfSgd) {
  const Model model = small_model();
  FederatedOptions options = options_of(Algorithm::kFedAvg);
  options.local.batch = 0;
  options.rounds = 3;
  options.cohort.size = 3;
  const std::vector<float> federated = train(options, std::make_shared<Copies>(3));
  std::vector<float> central;
  bsp::Environment environment;
  environment.run({}, [&](bsp::World& world) {
    paramserver::CollocatedOptions server_options;
    server_options.optimizer = {.kind = paramserver::OptimizerKind::kSgd,
                                .learning_rate = options.local.learning_rate};
    server_options.num_slots = 1;
    paramserver::CollocatedServer server(world, model.layout(), server_options);
    std::vector<float> parameters(static_cast<std::size_t>(model.layout().size()));
    model.initialize(options.local.seed, parameters);
    server.load_parameters(parameters);
    TrainOptions train_options;
    train_options.epochs = 3;
    train_options.batch = {.global_batch = 24, .microbatches = 1, .shuffled = false};
    train_options.normalization = options.local.normalization;
    Trainer trainer(world, model, server, train_options);
    trainer.fit({.train = small_dataset(24, 5), .validation = nullptr, .test = nullptr});
    const std::span<const float> buffer = server.pull().buffer();
    central.assign(buffer.begin(), buffer.end());
  });
  EXPECT_EQ(federated, central);
}

}  // namespace
}  // namespace superstep::worker

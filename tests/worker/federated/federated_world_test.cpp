// Federated training as a whole: one rank alone is the oracle of every world, bit for bit.

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "tests/support/error_text.h"
#include "tests/support/spmd_fixture.h"
#include "tests/support/world_directory.h"
#include "tests/worker/federated/federated_support.h"
#include "worker/federated/client_store.h"
#include "worker/federated/federated_trainer.h"

namespace superstep::worker {
namespace {

using testing::error_text;
using testing::FederatedOutcome;
using testing::kElevenUneven;
using testing::private_options;
using testing::run_federated;
using testing::run_federated_alone;
using testing::small_clients;
using testing::small_model;
using testing::small_options;
using testing::WorldDirectory;

SUPERSTEP_WORLD_TEST_ON_NODES(FederatedTrainer, EveryWorldGivesTheBitsOfOneRankAfterTwentyRounds) {
  const WorldDirectory directory(world);
  const Model model = small_model();
  const FederatedOutcome oracle =
      run_federated_alone(world, model, small_options(), directory.path());
  const FederatedOutcome outcome =
      run_federated(world, model, small_clients(kElevenUneven), small_options());
  EXPECT_EQ(to_text(outcome.result.parameters_hash), to_text(oracle.result.parameters_hash));
  EXPECT_EQ(outcome.result.rounds, 20);
  EXPECT_EQ(outcome.result.client_rounds, 100);
  ASSERT_TRUE(outcome.result.test.has_value() && oracle.result.test.has_value());
  EXPECT_EQ(outcome.result.test->loss, oracle.result.test->loss);
  EXPECT_GT(outcome.result.test->accuracy, 0.6);
}

SUPERSTEP_WORLD_TEST(FederatedTrainer, EveryAlgorithmGivesTheBitsOfOneRankAfterTwentyRounds) {
  const Model model = small_model();
  for (const std::string_view name : algorithm_names()) {
    const WorldDirectory directory(world);
    FederatedOptions options = small_options();
    options.algorithm.kind = algorithm_of(name);
    const FederatedOutcome oracle = run_federated_alone(world, model, options, directory.path());
    options.client_store = directory.path() / "all";
    const FederatedOutcome outcome =
        run_federated(world, model, small_clients(kElevenUneven), options);
    EXPECT_EQ(to_text(outcome.result.parameters_hash), to_text(oracle.result.parameters_hash))
        << name;
    EXPECT_EQ(outcome.result.rejected, 0) << name;
    const std::int64_t model_bytes = 4 * model.layout().num_parameters();
    const bool two = name == "scaffold" || name == "mimelite";
    EXPECT_EQ(outcome.result.upload_bytes, 20 * 5 * model_bytes * (two ? 2 : 1)) << name;
    EXPECT_EQ(outcome.result.download_bytes, outcome.result.upload_bytes) << name;
    world.sync();
  }
}

SUPERSTEP_WORLD_TEST(FederatedTrainer, EveryAlgorithmUnderEveryLoneAttackGivesTheBitsOfOneRank) {
  const Model model = small_model();
  for (const std::string_view name : algorithm_names()) {
    for (const AttackKind attack :
         {AttackKind::kLabelFlip, AttackKind::kSignFlip, AttackKind::kGaussian}) {
      const WorldDirectory directory(world);
      FederatedOptions options = small_options();
      options.rounds = 3;
      options.algorithm.kind = algorithm_of(name);
      options.attack = {.kind = attack, .fraction = 0.5, .strength = 0.5};
      const FederatedOutcome oracle = run_federated_alone(world, model, options, directory.path());
      options.client_store = directory.path() / "all";
      const FederatedOutcome outcome =
          run_federated(world, model, small_clients(kElevenUneven), options);
      EXPECT_EQ(to_text(outcome.result.parameters_hash), to_text(oracle.result.parameters_hash))
          << name << " " << name_of(attack);
      world.sync();
    }
  }
}

// Losses of about 1.6 to the power 60 are 1e12: the ring sees them divided by a power of two.
SUPERSTEP_WORLD_TEST(FederatedTrainer, LargePowersOfTheLossCostNoFractionBits) {
  const WorldDirectory directory(world);
  const Model model = small_model();
  const auto clients = small_clients(kElevenUneven);
  FederatedOptions options = small_options();
  options.rounds = 3;
  options.algorithm.kind = Algorithm::kQFedAvg;
  options.algorithm.q = 60.0;
  FederatedOptions uniform = small_options();
  uniform.algorithm.weighting = Weighting::kUniform;
  EXPECT_EQ(check_federated(options, *clients, model.layout()).fraction_bits,
            check_federated(uniform, *clients, model.layout()).fraction_bits);
  const FederatedOutcome oracle = run_federated_alone(world, model, options, directory.path());
  const FederatedOutcome outcome = run_federated(world, model, clients, options);
  EXPECT_EQ(to_text(outcome.result.parameters_hash), to_text(oracle.result.parameters_hash));
  EXPECT_EQ(outcome.result.rejected, 0);
  EXPECT_EQ(outcome.result.rounds_without_effect, 0);
}

SUPERSTEP_WORLD_TEST(FederatedTrainer, SamplingAndDataModeNeverDependOnRanks) {
  const WorldDirectory directory(world);
  const Model model = small_model();
  for (const Sampling sampling : {Sampling::kFixed, Sampling::kPoisson, Sampling::kWeighted}) {
    FederatedOptions options = small_options();
    options.rounds = 6;
    options.cohort.sampling = sampling;
    if (sampling == Sampling::kWeighted) {
      options.algorithm.weighting = Weighting::kUniform;
    }
    const FederatedOutcome oracle = run_federated_alone(world, model, options, directory.path());
    options.data_mode = DataMode::kStrict;
    options.evaluate_clients_every_rounds = 6;
    const FederatedResult strict =
        run_federated(world, model, small_clients(kElevenUneven), options).result;
    EXPECT_EQ(strict.parameters_hash, oracle.result.parameters_hash) << name_of(sampling);
    ASSERT_TRUE(strict.clients.has_value());
    EXPECT_EQ(strict.clients->accuracy_all.count, 11);
    EXPECT_LE(strict.clients->accuracy_all.minimum, strict.clients->accuracy_all.median);
    EXPECT_LE(strict.clients->accuracy_all.median, strict.clients->accuracy_all.maximum);
    // The same clients on one rank: a score does not depend on who gives it.
    bsp::World alone = world.split(world.rank(), 0);
    options.data_mode = DataMode::kShared;
    const FederatedResult shared =
        run_federated(alone, model, small_clients(kElevenUneven), options).result;
    EXPECT_EQ(strict.clients->accuracy_all.mean, shared.clients->accuracy_all.mean);
    EXPECT_EQ(strict.clients->accuracy_cohort.median, shared.clients->accuracy_cohort.median);
  }
}

Model normalized_model() {
  const Sequential layers{Flatten{}, Dense{.units = 12}, BatchNorm{}, Relu{}, Dense{.units = 5}};
  return Model::build(layers, {1, 8, 8}, 5);
}

SUPERSTEP_WORLD_TEST(FederatedTrainer, RefusesWhatWouldSpoilRunningStatistics) {
  const Model model = normalized_model();
  const auto clients = small_clients(kElevenUneven);
  const auto refusal = [&](const FederatedOptions& options) {
    return error_text<InvalidArgument>([&] { check_federated(options, *clients, model.layout()); });
  };
  EXPECT_EQ(refusal(small_options()), "");
  EXPECT_NE(refusal(private_options()).find("privacy does not go with a model that has running"),
            std::string::npos);
  FederatedOptions options = small_options();
  options.compression.kind = CompressionKind::kSign;
  EXPECT_NE(refusal(options).find("compression does not go with"), std::string::npos);
  for (const Algorithm kind : {Algorithm::kFedNova, Algorithm::kQFedAvg}) {
    options = small_options();
    options.algorithm.kind = kind;
    EXPECT_NE(refusal(options).find("running statistics"), std::string::npos) << name_of(kind);
  }
}

SUPERSTEP_WORLD_TEST(FederatedTrainer, ControlsLeaveRunningStatisticsOut) {
  kernels::set_team_size(1);
  const WorldDirectory directory(world);
  const Model model = normalized_model();
  FederatedOptions options = small_options();
  options.algorithm.kind = Algorithm::kScaffold;
  options.client_store = directory.path();
  const auto clients = small_clients({.num_clients = 10}, 200);
  options.cohort.size = 10;
  FederatedTrainer trainer(world, model, clients, options);
  std::vector<float> parameters(static_cast<std::size_t>(model.layout().size()));
  model.initialize(1, parameters);
  trainer.load_parameters(parameters);
  EXPECT_TRUE(trainer.run_round().rejected.empty());
  world.sync();
  const ClientStore store(directory.path() / "states", model.layout().size(), 1);
  EXPECT_EQ(store.num_touched(), 10);
  std::vector<float> state(parameters.size());
  store.read(3, state);
  for (const paramserver::LayoutEntry& entry : model.layout().entries()) {
    const auto first = state.begin() + entry.offset;
    const bool is_zero =
        std::all_of(first, first + entry.num_elements(), [](float value) { return value == 0.0F; });
    EXPECT_EQ(is_zero, entry.role == paramserver::EntryRole::kStatistic) << entry.name;
  }
  world.sync();  // before the directory goes
}

class RoundCounter : public FederatedObserver {
 public:
  void on_round(const RoundReport&) override { ++rounds; }
  std::int64_t rounds = 0;
};

SUPERSTEP_WORLD_TEST(FederatedTrainer, EndsRunsThatOnlySeemToGoOn) {
  kernels::set_team_size(1);
  const Model model = small_model();
  const auto failure = [&](const FederatedOptions& options, RoundCounter& counter) -> std::string {
    FederatedTrainer trainer(world, model, small_clients(kElevenUneven), options, &counter);
    std::vector<float> parameters(static_cast<std::size_t>(model.layout().size()));
    model.initialize(1, parameters);
    trainer.load_parameters(parameters);
    try {
      trainer.fit(nullptr);
    } catch (const DataError& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kNumbers);
      return error.what();
    }
    return "nothing";
  };
  FederatedOptions options = small_options();
  options.update_bound = 1e-6;
  RoundCounter in_vain;
  const std::string rejected = failure(options, in_vain);
  EXPECT_NE(rejected.find("no update was accepted in 10 rounds: got client"), std::string::npos)
      << rejected;
  EXPECT_NE(rejected.find("out_of_range"), std::string::npos) << rejected;
  EXPECT_EQ(in_vain.rounds, 10);
  // Noise of 1e12 on the sum, times the rate: no float32 holds it.
  options = private_options();
  options.privacy.clipping = Clipping::kFlat;
  options.privacy.clip = 1e6;
  options.privacy.noise_multiplier = 1e6;
  options.algorithm.server.learning_rate = 1e29;
  RoundCounter diverged;
  const std::string infinite = failure(options, diverged);
  EXPECT_NE(infinite.find("gave a model that is no number"), std::string::npos) << infinite;
  EXPECT_NE(infinite.find("in the shard of rank"), std::string::npos) << infinite;
  EXPECT_EQ(diverged.rounds, 0);
}

SUPERSTEP_WORLD_TEST(FederatedTrainer, RefusesWhatCannotWorkBeforeTheFirstRound) {
  const Model model = small_model();
  const auto clients = small_clients(kElevenUneven);
  const auto refusal = [&](const FederatedOptions& options) {
    return error_text<InvalidArgument>([&] { FederatedTrainer(world, model, clients, options); });
  };
  FederatedOptions options = small_options();
  options.cohort.size = 12;
  EXPECT_NE(refusal(options).find("got 12 clients per round, expected 1 to 11"), std::string::npos)
      << refusal(options);
  options = small_options();
  options.algorithm.kind = Algorithm::kScaffold;
  EXPECT_NE(refusal(options).find("scaffold keeps state per client"), std::string::npos);
  options = small_options();
  options.ring_bits = 16;
  EXPECT_NE(refusal(options).find("integer range is too small for the cohort"), std::string::npos);
  options = small_options();
  options.cohort.sampling = Sampling::kWeighted;
  EXPECT_NE(refusal(options).find("counts the size of a client twice"), std::string::npos);
  options = small_options();
  options.local.learning_rate = -1.0;
  EXPECT_NE(refusal(options).find("learning_rate: got -1"), std::string::npos);
}

}  // namespace
}  // namespace superstep::worker

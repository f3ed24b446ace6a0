// Differential privacy in federated training: noise, accounts and what is told, on every world.

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "tests/support/error_text.h"
#include "tests/support/spmd_fixture.h"
#include "tests/support/world_directory.h"
#include "tests/worker/federated/federated_support.h"
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

SUPERSTEP_WORLD_TEST_ON_NODES(FederatedTrainer, PrivateRunsWithTestNoiseGiveTheBitsOfOneRank) {
  const WorldDirectory directory(world);
  const Model model = small_model();
  FederatedOptions options = private_options();
  options.rounds = 20;
  const FederatedOutcome oracle = run_federated_alone(world, model, options, directory.path());
  options.checkpoint = {.directory = directory.path() / "checkpoints", .every_supersteps = 0};
  options.rounds = 3;
  const FederatedResult stopped =
      run_federated(world, model, small_clients(kElevenUneven), options).result;
  options.rounds = 20;
  options.checkpoint.directory.clear();
  const FederatedResult resumed =
      run_federated(world, model, small_clients(kElevenUneven), options, stopped.last_checkpoint)
          .result;
  EXPECT_EQ(to_text(resumed.parameters_hash), to_text(oracle.result.parameters_hash));
  ASSERT_TRUE(resumed.privacy && oracle.result.privacy);
  EXPECT_EQ(resumed.privacy->clip, oracle.result.privacy->clip);
  EXPECT_DOUBLE_EQ(resumed.privacy->rdp.epsilon, oracle.result.privacy->rdp.epsilon);
  EXPECT_LE(*resumed.privacy->pld, resumed.privacy->rdp.epsilon);
  world.sync();
}

// Clients that do not learn leave nothing but noise in the mean: of one deviation, added once,
// whatever the number of ranks and whoever draws it.
SUPERSTEP_WORLD_TEST_ON_NODES(FederatedTrainer, TheModelHasTheNoiseOfOneDrawPerElement) {
  kernels::set_team_size(1);
  const Model model = small_model();
  for (const NoiseSource source : {NoiseSource::kTest, NoiseSource::kSystem}) {
    FederatedOptions options = private_options();
    options.local.learning_rate = 0.0;
    options.privacy.clipping = Clipping::kFlat;
    options.privacy.noise_source = source;
    FederatedTrainer trainer(world, model, small_clients(kElevenUneven), options);
    std::vector<float> parameters(static_cast<std::size_t>(model.layout().size()));
    model.initialize(1, parameters);
    trainer.load_parameters(parameters);
    trainer.run_round();
    // z * clip / cohort = 2 * 0.5 / 5.
    double squares = 0.0;
    std::int64_t count = 0;
    for (const paramserver::LayoutEntry& entry : model.layout().entries()) {
      for (std::int64_t i = entry.offset; i < entry.offset + entry.num_elements(); ++i, ++count) {
        const auto at = static_cast<std::size_t>(i);
        squares += std::pow(
            static_cast<double>(trainer.parameters()[at]) - static_cast<double>(parameters[at]), 2);
      }
    }
    const double deviation = std::sqrt(squares / static_cast<double>(count));
    EXPECT_NEAR(deviation / 0.2, 1.0, 5.0 / std::sqrt(2.0 * static_cast<double>(count)))
        << name_of(source);
  }
}

// What a private run tells of its rounds.
class PrivateRounds : public FederatedObserver {
 public:
  void on_private_round(std::int64_t round, const PrivacyRound& privacy) override {
    rounds.push_back(round);
    tight.push_back(privacy.pld.value_or(-1.0));
    last = privacy;
  }
  void on_round(const RoundReport& report) override {
    // Before the noise, so that a round that a fault interrupts is on the account.
    EXPECT_EQ(rounds.back(), report.round);
    cohorts.push_back(report.cohort);
    visits.push_back(report.samples);
  }
  std::vector<std::int64_t> rounds;
  std::vector<std::int64_t> cohorts;
  std::vector<std::int64_t> visits;
  std::vector<double> tight;
  PrivacyRound last;
};

SUPERSTEP_WORLD_TEST(FederatedTrainer, NobodyKnowsTheCohortsOfAPrivateRunButItsCheckpoints) {
  kernels::set_team_size(1);
  const WorldDirectory directory(world);
  const Model model = small_model();
  FederatedOptions options = private_options();
  options.privacy.noise_source = NoiseSource::kSystem;
  options.rounds = 12;
  std::vector<float> parameters(static_cast<std::size_t>(model.layout().size()));
  model.initialize(1, parameters);
  PrivateRounds first;
  options.checkpoint = {
      .directory = directory.path() / "checkpoints", .every_supersteps = 6, .keep = 9};
  FederatedTrainer one(world, model, small_clients(kElevenUneven), options, &first);
  one.load_parameters(parameters);
  one.fit(nullptr);
  options.checkpoint.directory.clear();
  PrivateRounds second;
  FederatedTrainer other(world, model, small_clients(kElevenUneven), options, &second);
  other.load_parameters(parameters);
  other.fit(nullptr);
  EXPECT_NE(first.visits, second.visits);  // the same seed
  PrivateRounds resumed;
  FederatedTrainer again(world, model, small_clients(kElevenUneven), options, &resumed);
  again.restore(paramserver::CheckpointReader(directory.path() / "checkpoints" / "step-00000006"));
  again.fit(nullptr);
  EXPECT_EQ(resumed.cohorts,
            (std::vector<std::int64_t>(first.cohorts.begin() + 6, first.cohorts.end())));
  EXPECT_EQ(resumed.last.executed_rounds, 12);
  world.sync();  // before the directory goes
}

SUPERSTEP_WORLD_TEST(FederatedTrainer, TellsTheTightEpsilonAsOftenAsAsked) {
  kernels::set_team_size(1);
  const Model model = small_model();
  FederatedOptions options = private_options();
  options.rounds = 5;
  options.privacy.pld_every_rounds = 2;
  PrivateRounds observer;
  FederatedTrainer trainer(world, model, small_clients(kElevenUneven), options, &observer);
  std::vector<float> parameters(static_cast<std::size_t>(model.layout().size()));
  model.initialize(1, parameters);
  trainer.load_parameters(parameters);
  trainer.fit(nullptr);
  const std::vector<double>& tight = observer.tight;
  ASSERT_EQ(tight.size(), 5U);
  EXPECT_EQ(tight[0], -1.0);
  EXPECT_EQ(tight[2], -1.0);
  EXPECT_GT(tight[1], 0.0);
  EXPECT_GT(tight[3], tight[1]);
  EXPECT_GT(tight[4], tight[3]);
}

SUPERSTEP_WORLD_TEST(FederatedTrainer, RoundsThatAreDoneAgainCountTwice) {
  kernels::set_team_size(1);
  const WorldDirectory directory(world);
  const Model model = small_model();
  FederatedOptions options = private_options();
  options.rounds = 3;
  options.checkpoint = {.directory = directory.path() / "checkpoints"};
  const FederatedResult stopped =
      run_federated(world, model, small_clients(kElevenUneven), options).result;
  options.rounds = 8;
  options.checkpoint.directory.clear();
  options.privacy.executed_rounds = 5;  // two more than the checkpoint has
  const FederatedResult again =
      run_federated(world, model, small_clients(kElevenUneven), options, stopped.last_checkpoint)
          .result;
  ASSERT_TRUE(again.privacy);
  EXPECT_EQ(again.privacy->executed_rounds, 10);
  options.rounds = 10;
  options.privacy.executed_rounds = 0;
  const FederatedResult ten =
      run_federated(world, model, small_clients(kElevenUneven), options).result;
  EXPECT_NEAR(again.privacy->rdp.epsilon, ten.privacy->rdp.epsilon, 1e-9);
  EXPECT_EQ(again.privacy->pld, ten.privacy->pld);
  world.sync();  // before the directory goes
}

SUPERSTEP_WORLD_TEST(FederatedTrainer, RefusesPrivacyThatWouldNotBeWhatTheLedgerSays) {
  const Model model = small_model();
  const auto clients = small_clients(kElevenUneven);
  const auto refusal = [&](const FederatedOptions& options) {
    return error_text<InvalidArgument>([&] { check_federated(options, *clients, model.layout()); });
  };
  EXPECT_EQ(refusal(private_options()), "");
  FederatedOptions options = private_options();
  options.cohort.sampling = Sampling::kFixed;
  EXPECT_NE(refusal(options).find("got sampling \"fixed\", expected \"poisson\""),
            std::string::npos);
  options = private_options();
  options.algorithm.weighting = Weighting::kSamples;
  EXPECT_NE(refusal(options).find("weighted by samples"), std::string::npos);
  options.privacy.weight_cap = 10.0;
  EXPECT_EQ(refusal(options), "");
  options.algorithm.weighting = Weighting::kUniform;
  EXPECT_NE(refusal(options).find("a cap of weights has no effect"), std::string::npos);
  options = private_options();
  options.algorithm.kind = Algorithm::kScaffold;
  options.client_store = "unused";
  EXPECT_NE(refusal(options).find("scaffold sends more than one"), std::string::npos);
  options = private_options();
  options.privacy.delta = 0.2;
  EXPECT_NE(refusal(options).find("below 1 / clients"), std::string::npos);
  options = private_options();
  options.privacy.count_noise = 0.9;
  EXPECT_NE(refusal(options).find("count_noise: got 0.9, expected more than half"),
            std::string::npos);
}

// The largest deviation that can be drawn is a limit of the ring: clips as large as the bound, and
// bounds that grow, stay below it. Updates longer than the clip are clipped, not rejected.
SUPERSTEP_WORLD_TEST(FederatedTrainer, TheRingHoldsTheNoiseOfEveryRound) {
  const Model model = small_model();
  for (const double noise : {1.0, 40.0}) {
    FederatedOptions options = private_options();
    options.rounds = 3;
    options.privacy.clipping = Clipping::kFlat;
    options.privacy.clip = 16.0;
    options.privacy.noise_multiplier = noise;
    EXPECT_EQ(run_federated(world, model, small_clients(kElevenUneven), options).result.rounds, 3);
    options.privacy.clipping = Clipping::kAdaptive;
    options.privacy.count_noise = 0.51 * noise;  // z of the updates is five times z of both
    options.privacy.target_quantile = 0.999;
    options.privacy.clip_learning_rate = 100.0;
    const FederatedResult grown =
        run_federated(world, model, small_clients(kElevenUneven), options).result;
    EXPECT_LE(grown.privacy->clip, options.update_bound);
  }
  FederatedOptions options = private_options();
  options.update_bound = 1e-6;
  options.privacy.clipping = Clipping::kFlat;
  EXPECT_EQ(run_federated(world, model, small_clients(kElevenUneven), options).result.rejected, 0);
}

}  // namespace
}  // namespace superstep::worker

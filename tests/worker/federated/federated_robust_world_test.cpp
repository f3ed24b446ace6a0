// Robust rules, attacks and rejected updates in federated training, on every world.

#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>

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
using ::testing::HasSubstr;
using testing::kElevenUneven;
using testing::run_federated;
using testing::run_federated_alone;
using testing::small_clients;
using testing::small_dataset;
using testing::small_model;
using testing::small_options;
using testing::WorldDirectory;

FederatedOptions robust_options(RobustKind kind) {
  FederatedOptions options = small_options();
  options.rounds = 6;
  options.cohort.size = 9;
  options.algorithm.weighting = Weighting::kUniform;
  options.robust = {.kind = kind, .trim_fraction = 0.25, .byzantine = 2, .selected = 4};
  return options;
}

SUPERSTEP_WORLD_TEST_ON_NODES(FederatedTrainer, RobustRulesAndAttacksGiveTheBitsOfOneRank) {
  const WorldDirectory directory(world);
  const Model model = small_model();
  const std::pair<RobustKind, AttackKind> cases[] = {
      {RobustKind::kMean, AttackKind::kNone},
      {RobustKind::kMedian, AttackKind::kSignFlip},
      {RobustKind::kTrimmedMean, AttackKind::kGaussian},
      {RobustKind::kKrum, AttackKind::kLabelFlip},
      {RobustKind::kMultiKrum, AttackKind::kLittleIsEnough},
      {RobustKind::kGeometricMedian, AttackKind::kInnerProduct}};
  for (const auto& [robust, attack] : cases) {
    FederatedOptions options = robust_options(robust);
    options.rounds = 20;
    options.attack = {.kind = attack, .fraction = 0.3, .strength = 1.5};
    const FederatedOutcome oracle = run_federated_alone(world, model, options, directory.path());
    const FederatedOutcome outcome =
        run_federated(world, model, small_clients(kElevenUneven), options);
    EXPECT_EQ(to_text(outcome.result.parameters_hash), to_text(oracle.result.parameters_hash))
        << name_of(robust) << " " << name_of(attack);
  }
}

// Forged updates are as long as anybody's, or are rejected by name: no sum of the ring overflows.
FederatedOptions bounded_options() {
  FederatedOptions options = small_options();
  options.algorithm.weighting = Weighting::kUniform;
  options.attack = {.kind = AttackKind::kSignFlip, .fraction = 0.3, .strength = 5.0};
  options.norms = {.zeroing = {.kind = NormBound::kAdaptive, .norm = 0.1, .quantile = 0.9},
                   .clipping = {.kind = NormBound::kAdaptive, .norm = 0.1, .quantile = 0.6},
                   .count_noise = 0.5,
                   .noise_source = NoiseSource::kTest};
  return options;
}

SUPERSTEP_WORLD_TEST_ON_NODES(FederatedTrainer, BoundsOfNormsGiveTheBitsOfOneRankAndGoOn) {
  const WorldDirectory directory(world);
  const Model model = small_model();
  FederatedOptions options = bounded_options();
  const FederatedOutcome oracle = run_federated_alone(world, model, options, directory.path());
  const FederatedOutcome whole = run_federated(world, model, small_clients(kElevenUneven), options);
  EXPECT_EQ(to_text(whole.result.parameters_hash), to_text(oracle.result.parameters_hash));
  options.norms = {};
  EXPECT_NE(
      run_federated(world, model, small_clients(kElevenUneven), options).result.parameters_hash,
      oracle.result.parameters_hash);
  options = bounded_options();
  options.rounds = 7;
  options.checkpoint = {.directory = directory.path() / "checkpoints", .every_supersteps = 0};
  const FederatedResult stopped =
      run_federated(world, model, small_clients(kElevenUneven), options).result;
  options.rounds = 20;
  options.checkpoint.directory.clear();
  EXPECT_EQ(to_text(run_federated(world, model, small_clients(kElevenUneven), options,
                                  stopped.last_checkpoint)
                        .result.parameters_hash),
            to_text(oracle.result.parameters_hash));
  world.sync();
}

SUPERSTEP_WORLD_TEST(FederatedTrainer, BoundsOfNormsCountWhomTheyTouch) {
  kernels::set_team_size(1);
  const Model model = small_model();
  FederatedOptions options = bounded_options();
  options.norms = {.zeroing = {.kind = NormBound::kFlat, .norm = 1e-9},
                   .clipping = {.kind = NormBound::kFlat, .norm = 1e-9}};
  std::vector<float> initial(static_cast<std::size_t>(model.layout().size()));
  model.initialize(3, initial);
  const auto first_round = [&] {
    FederatedTrainer trainer(world, model, small_clients(kElevenUneven), options);
    trainer.load_parameters(initial);
    const RoundReport report = trainer.run_round();
    EXPECT_EQ(std::equal(initial.begin(), initial.end(), trainer.parameters().begin()),
              report.norms->zeroed == report.cohort);
    return *report.norms;
  };
  NormRound norms = first_round();
  EXPECT_EQ(norms.zeroed, 5);  // all of them
  EXPECT_EQ(norms.clipped, 0);
  options.norms.zeroing.kind = NormBound::kNone;
  norms = first_round();
  EXPECT_EQ(norms.zeroed, 0);
  EXPECT_EQ(norms.clipped, 5);
  EXPECT_EQ(norms.clipping, 1e-9);
  options.norms.clipping.norm = 1e9;
  norms = first_round();
  EXPECT_EQ(norms.clipped, 0);
}

SUPERSTEP_WORLD_TEST(FederatedTrainer, RefusesBoundsOfNormsThatWouldNotHold) {
  const Model model = small_model();
  const auto refusal = [&](const auto& change) {
    FederatedOptions options = bounded_options();
    options.client_store = "states";
    change(options);
    return error_text<InvalidArgument>(
        [&] { check_federated(options, *small_clients(kElevenUneven), model.layout()); });
  };
  using Options = FederatedOptions;
  EXPECT_THAT(refusal([](Options& o) { o.robust.kind = RobustKind::kMedian; }),
              HasSubstr("rules that see all updates bound them themselves"));
  EXPECT_THAT(refusal([](Options& o) { o.algorithm.kind = Algorithm::kScaffold; }),
              HasSubstr("scaffold sends more than one bounded update"));
  EXPECT_THAT(refusal([](Options& o) {
                o.compression = {.kind = CompressionKind::kTopK,
                                 .error_feedback = ErrorFeedback::kOn};
              }),
              HasSubstr("error feedback would send later what a bound took away"));
  EXPECT_THAT(refusal([](Options& o) {
                o.cohort.sampling = Sampling::kPoisson;
                o.privacy = {.kind = PrivacyKind::kDpFedAvg};
              }),
              HasSubstr("privacy has a bound of its own"));
}

SUPERSTEP_WORLD_TEST_ON_NODES(FederatedTrainer, RejectsColludersWhoseUpdatesAreBeyondTheBound) {
  const WorldDirectory directory(world);
  const Model model = small_model();
  for (const AttackKind attack : {AttackKind::kInnerProduct, AttackKind::kLittleIsEnough}) {
    FederatedOptions options = robust_options(RobustKind::kMean);
    options.compression = {
        .kind = CompressionKind::kTopK, .keep = 0.5, .error_feedback = ErrorFeedback::kOn};
    options.attack = {.kind = attack, .fraction = 0.3, .strength = 1e12};
    const FederatedOutcome oracle = run_federated_alone(world, model, options, directory.path());
    options.client_store = directory.path() / name_of(attack);
    FederatedTrainer trainer(world, model, small_clients(kElevenUneven), options);
    std::vector<float> parameters(static_cast<std::size_t>(model.layout().size()));
    model.initialize(options.local.seed, parameters);
    trainer.load_parameters(parameters);
    const RoundReport first = trainer.run_round();
    EXPECT_FALSE(first.rejected.empty());
    for (const RejectedClient& client : first.rejected) {
      EXPECT_EQ(client.reason, Rejection::kOutOfRange);
      EXPECT_TRUE(is_attacker(options.attack, options.cohort.seed, client.client));
    }
    const FederatedResult result = trainer.fit(small_dataset(50, 2));
    EXPECT_EQ(to_text(result.parameters_hash), to_text(oracle.result.parameters_hash));
    EXPECT_GT(result.test->accuracy, 0.4);
    world.sync();
    if (world.rank() == 0) {
      for (const auto& file : std::filesystem::recursive_directory_iterator(options.client_store)) {
        const auto name = parse_client_state_name(file.path().filename().native());
        EXPECT_FALSE(name && is_attacker(options.attack, options.cohort.seed, name->client));
      }
    }
    world.sync();  // before the directory goes
  }
}

SUPERSTEP_WORLD_TEST(FederatedTrainer, RefusesRobustRulesThatCannotWork) {
  const Model model = small_model();
  const auto clients = small_clients(kElevenUneven);
  const auto refusal = [&](const FederatedOptions& options) {
    return error_text<InvalidArgument>([&] { check_federated(options, *clients, model.layout()); });
  };
  EXPECT_EQ(refusal(robust_options(RobustKind::kKrum)), "");
  FederatedOptions options = robust_options(RobustKind::kKrum);
  options.robust.byzantine = 4;
  EXPECT_NE(refusal(options).find("byzantine: got 4"), std::string::npos);
  options = robust_options(RobustKind::kMultiKrum);
  options.robust.selected = 8;  // of 9 clients, 2 of them byzantine
  EXPECT_NE(refusal(options).find("selected: got 8, expected 1 to 7"), std::string::npos);
  options = robust_options(RobustKind::kMedian);
  options.algorithm.weighting = Weighting::kSamples;
  EXPECT_NE(refusal(options).find("expected \"uniform\""), std::string::npos);
  options = robust_options(RobustKind::kNone);
  options.attack = {.kind = AttackKind::kInnerProduct, .fraction = 0.2};
  EXPECT_NE(refusal(options).find("attackers that collude"), std::string::npos);
}

SUPERSTEP_WORLD_TEST(FederatedTrainer, RejectsCountsAndNamesUpdatesThatAreNoNumbers) {
  kernels::set_team_size(1);
  const Model model = small_model();
  FederatedOptions options = small_options();
  options.local.learning_rate = 1e30;  // the first step overflows, the second is NaN
  FederatedTrainer trainer(world, model, small_clients(kElevenUneven), options);
  std::vector<float> parameters(static_cast<std::size_t>(model.layout().size()));
  model.initialize(1, parameters);
  trainer.load_parameters(parameters);
  for (int round = 0; round < 2; ++round) {
    const RoundReport report = trainer.run_round();
    EXPECT_EQ(report.rejected.size(), 5U);
    EXPECT_FALSE(report.has_effect);
    for (const RejectedClient& client : report.rejected) {
      EXPECT_NE(client.reason, Rejection::kNone);
    }
  }
  EXPECT_TRUE(std::equal(parameters.begin(), parameters.end(), trainer.parameters().begin()));
}

SUPERSTEP_WORLD_TEST(FederatedTrainer, RejectsUpdatesBeyondTheBoundAndKeepsTheOthers) {
  kernels::set_team_size(1);
  const Model model = small_model();
  FederatedOptions options = small_options();
  std::vector<std::size_t> rejected;
  for (options.update_bound = 0.01; options.update_bound < 2.0; options.update_bound *= 1.3) {
    FederatedTrainer trainer(world, model, small_clients(kElevenUneven), options);
    std::vector<float> parameters(static_cast<std::size_t>(model.layout().size()));
    model.initialize(1, parameters);
    trainer.load_parameters(parameters);
    rejected.push_back(0);
    for (int round = 0; round < 4; ++round) {
      rejected.back() += trainer.run_round().rejected.size();
    }
  }
  EXPECT_EQ(rejected.front(), 20U);
  EXPECT_EQ(rejected.back(), 0U);
  EXPECT_TRUE(std::any_of(rejected.begin(), rejected.end(),
                          [](std::size_t count) { return count > 0 && count < 20; }));
}

}  // namespace
}  // namespace superstep::worker

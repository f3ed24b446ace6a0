// Personal models: one rank alone is the oracle of every world, bit for bit.

#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"
#include "tests/support/error_text.h"
#include "tests/support/spmd_fixture.h"
#include "tests/support/world_directory.h"
#include "tests/worker/federated/federated_support.h"
#include "worker/federated/client_division.h"
#include "worker/federated/feature_noise.h"

namespace superstep::worker {
namespace {

using testing::error_text;
using testing::FederatedOutcome;
using testing::run_federated;
using testing::small_clients;
using testing::small_model;
using testing::small_options;
using testing::WorldDirectory;

// Noisy features and kept test samples are part of the promise.
DividedClients divided_clients() {
  constexpr PartitionOptions kPathological{
      .kind = PartitionKind::kPathological, .num_clients = 11, .labels_per_client = 2, .seed = 2};
  return divide_clients(noisy_clients(small_clients(kPathological, 330), {.deviation = 0.2}),
                        {.test_fraction = 0.3});
}

FederatedOptions personal_options(PersonalizationKind kind) {
  FederatedOptions options = small_options();
  options.personalization = {.kind = kind, .epochs = 2};
  options.evaluate_clients_every_rounds = 10;
  return options;
}

FederatedOutcome run_alone_with(bsp::World& world, FederatedOptions options,
                                const std::filesystem::path& directory) {
  const DividedClients parts = divided_clients();
  bsp::World alone = world.split(world.rank(), 0);
  options.client_store = directory / std::to_string(world.rank());
  return run_federated(alone, small_model(), parts.train, options, {}, parts.test);
}

void expect_same_distribution(const Distribution& got, const Distribution& expected,
                              std::string_view what) {
  EXPECT_EQ(got.count, expected.count) << what;
  EXPECT_EQ(got.median, expected.median) << what;
  EXPECT_EQ(got.mean, expected.mean) << what;
  EXPECT_EQ(got.variance, expected.variance) << what;
}

// The table is rank 0's; everybody knows the distributions.
void expect_same_judgement(bsp::World& world, const FederatedResult& result,
                           const FederatedResult& oracle, std::string_view what) {
  ASSERT_TRUE(result.clients && oracle.clients) << what;
  EXPECT_EQ(result.clients->own_models, oracle.clients->own_models) << what;
  expect_same_distribution(result.clients->accuracy_all, oracle.clients->accuracy_all, what);
  expect_same_distribution(result.clients->accuracy_cohort, oracle.clients->accuracy_cohort, what);
  expect_same_distribution(result.clients->personal_test_accuracy->all,
                           oracle.clients->personal_test_accuracy->all, what);
  expect_same_distribution(result.clients->personal_test_accuracy->cohort,
                           oracle.clients->personal_test_accuracy->cohort, what);
  ASSERT_EQ(result.clients->table != nullptr, world.rank() == 0) << what;
  if (world.rank() == 0) {
    const ClientTable& table = *result.clients->table;
    const ClientTable& expected = *oracle.clients->table;
    ASSERT_EQ(table.accuracy.size(), 11U) << what;
    EXPECT_EQ(table.has_own_model, expected.has_own_model) << what;
    EXPECT_EQ(table.in_cohort, expected.in_cohort) << what;
    EXPECT_EQ(table.accuracy, expected.accuracy) << what;
    EXPECT_EQ(table.test_accuracy, expected.test_accuracy) << what;
    EXPECT_EQ(table.personal_test_accuracy, expected.personal_test_accuracy) << what;
  }
}

SUPERSTEP_WORLD_TEST_ON_NODES(PersonalModels, EveryWorldGivesTheBitsOfOneRankAfterTwentyRounds) {
  for (const PersonalizationKind kind : {PersonalizationKind::kDitto, PersonalizationKind::kFedPer,
                                         PersonalizationKind::kFineTune}) {
    const WorldDirectory directory(world);
    FederatedOptions options = personal_options(kind);
    const FederatedOutcome oracle = run_alone_with(world, options, directory.path());
    const DividedClients parts = divided_clients();
    for (const DataMode mode : {DataMode::kShared, DataMode::kStrict}) {
      options.data_mode = mode;
      options.client_store = directory.path() / name_of(mode);
      const FederatedOutcome outcome =
          run_federated(world, small_model(), parts.train, options, {}, parts.test);
      EXPECT_EQ(to_text(outcome.result.parameters_hash), to_text(oracle.result.parameters_hash))
          << name_of(kind);
      EXPECT_EQ(outcome.result.rounds, 20);
      expect_same_judgement(world, outcome.result, oracle.result, name_of(kind));
    }
    world.sync();  // before the directory goes
  }
}

SUPERSTEP_WORLD_TEST(PersonalModels, ResumeOnAnotherNumberOfRanksWithTheSameBits) {
  for (const PersonalizationKind kind :
       {PersonalizationKind::kDitto, PersonalizationKind::kFedPer}) {
    const WorldDirectory directory(world);
    FederatedOptions options = personal_options(kind);
    options.rounds = 7;
    const FederatedOutcome oracle = run_alone_with(world, options, directory.path() / "oracle");
    const DividedClients parts = divided_clients();
    options.client_store = directory.path() / "clients";
    options.checkpoint = {
        .directory = directory.path() / "checkpoints", .every_supersteps = 2, .keep = 2};
    options.rounds = 5;
    const FederatedResult stopped =
        run_federated(world, small_model(), parts.train, options, {}, parts.test).result;
    // States of round 5 are newer than this one: left from a run that went on and was killed.
    const std::filesystem::path older = directory.path() / "checkpoints" / "step-00000004";
    if (world.rank() == 0) {
      std::filesystem::copy(directory.path() / "clients", directory.path() / "copy",
                            std::filesystem::copy_options::recursive);
    }
    world.sync();
    options.rounds = 7;
    options.checkpoint.directory.clear();
    const FederatedResult resumed = run_federated(world, small_model(), parts.train, options,
                                                  stopped.last_checkpoint, parts.test)
                                        .result;
    EXPECT_EQ(resumed.parameters_hash, oracle.result.parameters_hash) << name_of(kind);
    expect_same_judgement(world, resumed, oracle.result, name_of(kind));
    bsp::World alone = world.split(world.rank() == 0 ? 0 : 1 + world.rank(), 0);
    if (world.rank() == 0) {
      options.client_store = directory.path() / "copy";
      const FederatedResult again =
          run_federated(alone, small_model(), parts.train, options, older, parts.test).result;
      EXPECT_EQ(again.parameters_hash, oracle.result.parameters_hash) << name_of(kind);
      expect_same_judgement(world, again, oracle.result, name_of(kind));
    }
    world.sync();  // before the directory goes
  }
}

SUPERSTEP_WORLD_TEST(PersonalModels, RefusesWhatCannotWorkBeforeTheFirstRound) {
  const DividedClients parts = divided_clients();
  const Model model = small_model();
  const auto refusal = [&](const FederatedOptions& options,
                           const std::shared_ptr<const ClientData>& tests = nullptr) {
    return error_text<InvalidArgument>([&] {
      FederatedTrainer trainer(world, model, parts.train, options);
      trainer.fit(nullptr, nullptr, tests);
    });
  };
  FederatedOptions options = personal_options(PersonalizationKind::kDitto);
  EXPECT_NE(refusal(options).find("expected a directory in client_store"), std::string::npos);
  options.client_store = "unused";
  EXPECT_NE(refusal(options).find("got no such samples"), std::string::npos);
  options.personalization.lambda = -1.0;
  EXPECT_NE(refusal(options).find("lambda: got -1"), std::string::npos);
  options = personal_options(PersonalizationKind::kFineTune);
  EXPECT_NE(refusal(options, small_clients({.num_clients = 3})).find("got 3, expected 11"),
            std::string::npos);
  options.evaluate_clients_every_rounds = 0;
  EXPECT_NE(refusal(options).find("expected at least 1"), std::string::npos);
  options = personal_options(PersonalizationKind::kFedPer);
  options.client_store = "unused";
  options.personalization.layers = 2;
  EXPECT_NE(refusal(options).find("none would be averaged"), std::string::npos);
  for (const Algorithm algorithm :
       {Algorithm::kScaffold, Algorithm::kFedDyn, Algorithm::kQFedAvg, Algorithm::kMimeLite}) {
    options = personal_options(PersonalizationKind::kFedPer);
    options.client_store = "unused";
    options.algorithm.kind = algorithm;
    EXPECT_NE(refusal(options).find("published model as a whole"), std::string::npos)
        << name_of(algorithm);
  }
  options = personal_options(PersonalizationKind::kFedPer);
  options.client_store = "unused";
  options.cohort.sampling = Sampling::kPoisson;
  options.algorithm.weighting = Weighting::kUniform;
  options.privacy = {.kind = PrivacyKind::kDpFedAvg, .noise_source = NoiseSource::kTest};
  EXPECT_NE(refusal(options).find("not with privacy"), std::string::npos);
}

}  // namespace
}  // namespace superstep::worker

// Federated training as a whole: one rank alone is the oracle of every world, bit for bit.

#include <algorithm>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "tests/support/spmd_fixture.h"
#include "tests/support/world_directory.h"
#include "tests/worker/federated/federated_support.h"
#include "worker/federated/federated_trainer.h"

namespace superstep::worker {
namespace {

using testing::FederatedOutcome;
using testing::run_federated;
using testing::small_clients;
using testing::small_model;
using testing::small_options;
using testing::WorldDirectory;

constexpr PartitionOptions kUneven{
    .kind = PartitionKind::kDirichlet, .num_clients = 11, .alpha = 0.5, .seed = 2};

// On a world of one rank each, with a client store of its own.
FederatedOutcome run_alone(bsp::World& world, const Model& model, FederatedOptions options,
                           const std::filesystem::path& directory) {
  bsp::World alone = world.split(world.rank(), 0);
  options.client_store = directory / std::to_string(world.rank());
  return run_federated(alone, model, small_clients(kUneven), options);
}

SUPERSTEP_WORLD_TEST_ON_NODES(FederatedTrainer, EveryWorldGivesTheBitsOfOneRankAfterTwentyRounds) {
  const WorldDirectory directory(world);
  const Model model = small_model();
  const FederatedOutcome oracle = run_alone(world, model, small_options(), directory.path());
  const FederatedOutcome outcome =
      run_federated(world, model, small_clients(kUneven), small_options());
  EXPECT_EQ(to_text(outcome.result.parameters_hash), to_text(oracle.result.parameters_hash));
  EXPECT_EQ(outcome.result.rounds, 20);
  EXPECT_EQ(outcome.result.client_rounds, 100);
  ASSERT_TRUE(outcome.result.test.has_value() && oracle.result.test.has_value());
  EXPECT_EQ(outcome.result.test->loss, oracle.result.test->loss);
  EXPECT_GT(outcome.result.test->accuracy, 0.6);
}

SUPERSTEP_WORLD_TEST(FederatedTrainer, EveryAlgorithmGivesTheBitsOfOneRank) {
  const Model model = small_model();
  for (const std::string_view name : algorithm_names()) {
    const WorldDirectory directory(world);
    FederatedOptions options = small_options();
    options.rounds = 4;
    options.algorithm.kind = algorithm_of(name);
    const FederatedOutcome oracle = run_alone(world, model, options, directory.path());
    options.client_store = directory.path() / "all";
    const FederatedOutcome outcome = run_federated(world, model, small_clients(kUneven), options);
    EXPECT_EQ(to_text(outcome.result.parameters_hash), to_text(oracle.result.parameters_hash))
        << name;
    EXPECT_EQ(outcome.result.rejected, 0) << name;
    world.sync();
  }
}

SUPERSTEP_WORLD_TEST(FederatedTrainer, SamplingAndDataModeNeverDependOnRanks) {
  const WorldDirectory directory(world);
  const Model model = small_model();
  for (const Sampling sampling : {Sampling::kFixed, Sampling::kPoisson, Sampling::kWeighted}) {
    FederatedOptions options = small_options();
    options.rounds = 6;
    options.cohort.sampling = sampling;
    const FederatedOutcome oracle = run_alone(world, model, options, directory.path());
    options.data_mode = DataMode::kStrict;
    options.evaluate_clients_every_rounds = 6;
    const FederatedResult strict =
        run_federated(world, model, small_clients(kUneven), options).result;
    EXPECT_EQ(strict.parameters_hash, oracle.result.parameters_hash) << name_of(sampling);
    ASSERT_TRUE(strict.clients.has_value());
    EXPECT_EQ(strict.clients->accuracy_all.count, 11);
    EXPECT_LE(strict.clients->accuracy_all.minimum, strict.clients->accuracy_all.median);
    EXPECT_LE(strict.clients->accuracy_all.median, strict.clients->accuracy_all.maximum);
    // The same clients on one rank: a score does not depend on who gives it.
    bsp::World alone = world.split(world.rank(), 0);
    options.data_mode = DataMode::kShared;
    const FederatedResult shared =
        run_federated(alone, model, small_clients(kUneven), options).result;
    EXPECT_EQ(strict.clients->accuracy_all.mean, shared.clients->accuracy_all.mean);
    EXPECT_EQ(strict.clients->accuracy_cohort.median, shared.clients->accuracy_cohort.median);
  }
}

SUPERSTEP_WORLD_TEST(FederatedTrainer, ResumesOnAnotherNumberOfRanksWithTheSameBits) {
  const Model model = small_model();
  for (const Algorithm kind : {Algorithm::kFedAdam, Algorithm::kScaffold, Algorithm::kFedDyn}) {
    const WorldDirectory directory(world);
    FederatedOptions options = small_options();
    options.rounds = 7;
    options.algorithm.kind = kind;
    const FederatedOutcome oracle = run_alone(world, model, options, directory.path() / "oracle");
    options.client_store = directory.path() / "clients";
    options.checkpoint = {
        .directory = directory.path() / "checkpoints", .every_supersteps = 2, .keep = 2};
    options.rounds = 5;
    const FederatedResult stopped =
        run_federated(world, model, small_clients(kUneven), options).result;
    // States newer than the checkpoint are left from a run that went on and was killed.
    const std::filesystem::path older = directory.path() / "checkpoints" / "step-00000004";
    options.rounds = 7;
    options.checkpoint.directory.clear();
    EXPECT_EQ(run_federated(world, model, small_clients(kUneven), options, stopped.last_checkpoint)
                  .result.parameters_hash,
              oracle.result.parameters_hash)
        << name_of(kind);
    if (world.rank() == 0 && has_client_state(kind)) {
      std::filesystem::copy(directory.path() / "clients", directory.path() / "copy",
                            std::filesystem::copy_options::recursive);
    }
    world.sync();
    bsp::World alone = world.split(world.rank() == 0 ? 0 : 1 + world.rank(), 0);
    if (world.rank() == 0) {
      options.client_store = directory.path() / "copy";
      EXPECT_EQ(run_federated(alone, model, small_clients(kUneven), options, older)
                    .result.parameters_hash,
                oracle.result.parameters_hash)
          << name_of(kind);
    }
    world.sync();  // before the directory goes
  }
}

// By round.
std::map<std::int64_t, std::string> state_hashes_in(const std::filesystem::path& root) {
  std::map<std::int64_t, std::string> hashes;
  for (const std::filesystem::path& directory : paramserver::list_checkpoints(root)) {
    const paramserver::CheckpointReader reader(directory);
    reader.verify();
    hashes[reader.manifest().position.superstep] = to_text(reader.manifest().state_hash);
  }
  return hashes;
}

SUPERSTEP_WORLD_TEST_ON_NODES(FederatedTrainer, CheckpointsBesideTheRoundsHoldWhatWaitingOnesHold) {
  const Model model = small_model();
  for (const Algorithm kind : {Algorithm::kFedAdam, Algorithm::kScaffold}) {
    const WorldDirectory directory(world);
    std::map<std::int64_t, std::string> waiting;
    for (const bool asynchronous : {false, true}) {
      const std::filesystem::path run = directory.path() / (asynchronous ? "beside" : "waiting");
      FederatedOptions options = small_options();
      options.rounds = 8;
      options.algorithm.kind = kind;
      options.client_store = run / "clients";
      options.checkpoint = {.directory = run / "checkpoints",
                            .every_supersteps = 2,
                            .keep = 100,
                            .asynchronous = asynchronous};
      if (world.rank() == 0) {
        std::filesystem::create_directories(run);
      }
      world.sync();
      run_federated(world, model, small_clients(kUneven), options);
      const std::map<std::int64_t, std::string> hashes =
          state_hashes_in(options.checkpoint.directory);
      EXPECT_EQ(hashes.size(), 5U) << name_of(kind);
      if (asynchronous) {
        EXPECT_EQ(hashes, waiting) << name_of(kind);
        EXPECT_EQ(run_federated(world, model, small_clients(kUneven), options,
                                options.checkpoint.directory / "step-00000004")
                      .result.state_hash,
                  parse_hash(waiting.at(8)))
            << name_of(kind);
      }
      waiting = hashes;
      world.sync();  // before the directory goes
    }
  }
}

FederatedOptions private_options() {
  FederatedOptions options = small_options();
  options.rounds = 8;
  options.cohort.sampling = Sampling::kPoisson;
  options.algorithm.weighting = Weighting::kUniform;
  options.privacy = {.kind = PrivacyKind::kDpFedAvg,
                     .clip = 0.5,
                     .noise_multiplier = 2.0,
                     .clipping = Clipping::kAdaptive,
                     .count_noise = 4.0,
                     .noise_source = NoiseSource::kTest};
  return options;
}

SUPERSTEP_WORLD_TEST_ON_NODES(FederatedTrainer, PrivateRunsWithTestNoiseGiveTheBitsOfOneRank) {
  const WorldDirectory directory(world);
  const Model model = small_model();
  const FederatedOutcome oracle = run_alone(world, model, private_options(), directory.path());
  FederatedOptions options = private_options();
  options.checkpoint = {.directory = directory.path() / "checkpoints", .every_supersteps = 0};
  options.rounds = 3;
  const FederatedResult stopped =
      run_federated(world, model, small_clients(kUneven), options).result;
  options.rounds = 8;
  options.checkpoint.directory.clear();
  const FederatedResult resumed =
      run_federated(world, model, small_clients(kUneven), options, stopped.last_checkpoint).result;
  EXPECT_EQ(to_text(resumed.parameters_hash), to_text(oracle.result.parameters_hash));
  ASSERT_TRUE(resumed.privacy && oracle.result.privacy);
  EXPECT_EQ(resumed.privacy->clip, oracle.result.privacy->clip);
  EXPECT_DOUBLE_EQ(resumed.privacy->rdp.epsilon, oracle.result.privacy->rdp.epsilon);
  EXPECT_LE(*resumed.privacy->pld, resumed.privacy->rdp.epsilon);
  world.sync();
}

SUPERSTEP_WORLD_TEST(FederatedTrainer, RefusesPrivacyThatWouldNotBeWhatTheLedgerSays) {
  const Model model = small_model();
  const auto clients = small_clients(kUneven);
  const auto refusal = [&](const FederatedOptions& options) -> std::string {
    try {
      check_federated(options, *clients);
    } catch (const InvalidArgument& error) {
      return error.what();
    }
    return "nothing";
  };
  EXPECT_EQ(refusal(private_options()), "nothing");
  FederatedOptions options = private_options();
  options.cohort.sampling = Sampling::kFixed;
  EXPECT_NE(refusal(options).find("got sampling \"fixed\", expected \"poisson\""),
            std::string::npos);
  options = private_options();
  options.algorithm.weighting = Weighting::kSamples;
  EXPECT_NE(refusal(options).find("weighted by samples"), std::string::npos);
  options.privacy.weight_cap = 10.0;
  EXPECT_EQ(refusal(options), "nothing");
  options = private_options();
  options.algorithm.kind = Algorithm::kScaffold;
  options.client_store = "unused";
  EXPECT_NE(refusal(options).find("scaffold sends more than one"), std::string::npos);
  options = private_options();
  options.privacy.delta = 0.2;
  EXPECT_NE(refusal(options).find("below 1 / clients"), std::string::npos);
}

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
    options.attack = {.kind = attack, .fraction = 0.3, .strength = 1.5};
    const FederatedOutcome oracle = run_alone(world, model, options, directory.path());
    const FederatedOutcome outcome = run_federated(world, model, small_clients(kUneven), options);
    EXPECT_EQ(to_text(outcome.result.parameters_hash), to_text(oracle.result.parameters_hash))
        << name_of(robust) << " " << name_of(attack);
  }
}

SUPERSTEP_WORLD_TEST(FederatedTrainer, CompressionGivesTheBitsOfOneRankAndCountsItsBytes) {
  const Model model = small_model();
  for (const CompressionKind kind :
       {CompressionKind::kQsgd, CompressionKind::kTopK, CompressionKind::kRandomK,
        CompressionKind::kSign, CompressionKind::kRotation}) {
    const WorldDirectory directory(world);
    FederatedOptions options = small_options();
    options.rounds = 5;
    options.compression = {.kind = kind, .keep = 0.1, .error_feedback = ErrorFeedback::kOn};
    const FederatedOutcome oracle = run_alone(world, model, options, directory.path());
    options.client_store = directory.path() / "all";
    const FederatedOutcome outcome = run_federated(world, model, small_clients(kUneven), options);
    EXPECT_EQ(to_text(outcome.result.parameters_hash), to_text(oracle.result.parameters_hash))
        << name_of(kind);
    EXPECT_LT(outcome.result.upload_bytes, 25 * model.layout().num_parameters());
    EXPECT_GT(outcome.result.upload_bytes, 0);
    world.sync();
  }
}

SUPERSTEP_WORLD_TEST(FederatedTrainer, RefusesRobustRulesThatCannotWork) {
  const auto clients = small_clients(kUneven);
  const auto refusal = [&](const FederatedOptions& options) -> std::string {
    try {
      check_federated(options, *clients);
    } catch (const InvalidArgument& error) {
      return error.what();
    }
    return "nothing";
  };
  EXPECT_EQ(refusal(robust_options(RobustKind::kKrum)), "nothing");
  FederatedOptions options = robust_options(RobustKind::kKrum);
  options.robust.byzantine = 4;
  EXPECT_NE(refusal(options).find("byzantine: got 4"), std::string::npos);
  options = robust_options(RobustKind::kMedian);
  options.algorithm.weighting = Weighting::kSamples;
  EXPECT_NE(refusal(options).find("expected \"uniform\""), std::string::npos);
  options = robust_options(RobustKind::kNone);
  options.attack = {.kind = AttackKind::kInnerProduct, .fraction = 0.2};
  EXPECT_NE(refusal(options).find("attackers that collude"), std::string::npos);
}

class RejectionCounter : public FederatedObserver {
 public:
  void on_round(const RoundReport& report) override {
    for (const RejectedClient& client : report.rejected) {
      reasons.push_back(client.reason);
    }
  }
  std::vector<Rejection> reasons;
};

SUPERSTEP_WORLD_TEST(FederatedTrainer, RejectsCountsAndNamesUpdatesThatAreNoNumbers) {
  kernels::set_team_size(1);
  const Model model = small_model();
  FederatedOptions options = small_options();
  options.rounds = 2;
  options.local.learning_rate = 1e30;  // the first step overflows, the second is NaN
  RejectionCounter counter;
  FederatedTrainer trainer(world, model, small_clients(kUneven), options, &counter);
  std::vector<float> parameters(static_cast<std::size_t>(model.layout().size()));
  model.initialize(1, parameters);
  trainer.load_parameters(parameters);
  const FederatedResult result = trainer.fit(nullptr);
  EXPECT_EQ(result.rejected, 10);
  ASSERT_EQ(counter.reasons.size(), 10U);
  for (const Rejection reason : counter.reasons) {
    EXPECT_NE(reason, Rejection::kNone);
  }
  EXPECT_TRUE(std::equal(parameters.begin(), parameters.end(), trainer.parameters().begin()));
}

SUPERSTEP_WORLD_TEST(FederatedTrainer, RejectsUpdatesBeyondTheBoundAndKeepsTheOthers) {
  const Model model = small_model();
  FederatedOptions options = small_options();
  options.rounds = 4;
  std::vector<std::int64_t> rejected;
  for (options.update_bound = 0.01; options.update_bound < 2.0; options.update_bound *= 1.3) {
    rejected.push_back(
        run_federated(world, model, small_clients(kUneven), options).result.rejected);
  }
  EXPECT_EQ(rejected.front(), 20);
  EXPECT_EQ(rejected.back(), 0);
  EXPECT_TRUE(std::any_of(rejected.begin(), rejected.end(),
                          [](std::int64_t count) { return count > 0 && count < 20; }));
}

SUPERSTEP_WORLD_TEST(FederatedTrainer, RefusesWhatCannotWorkBeforeTheFirstRound) {
  const Model model = small_model();
  const auto clients = small_clients(kUneven);
  const auto refusal = [&](const FederatedOptions& options) -> std::string {
    try {
      FederatedTrainer(world, model, clients, options);
    } catch (const InvalidArgument& error) {
      return error.what();
    }
    return "nothing";
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
  options.local.learning_rate = -1.0;
  EXPECT_NE(refusal(options).find("learning_rate: got -1"), std::string::npos);
}

}  // namespace
}  // namespace superstep::worker

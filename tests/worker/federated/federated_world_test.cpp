// Federated training as a whole: one rank alone is the oracle of every world, bit for bit.

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <string>
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
using testing::run_federated;
using testing::small_clients;
using testing::small_dataset;
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

SUPERSTEP_WORLD_TEST(FederatedTrainer, EveryAlgorithmGivesTheBitsOfOneRankAfterTwentyRounds) {
  const Model model = small_model();
  for (const std::string_view name : algorithm_names()) {
    const WorldDirectory directory(world);
    FederatedOptions options = small_options();
    options.algorithm.kind = algorithm_of(name);
    const FederatedOutcome oracle = run_alone(world, model, options, directory.path());
    options.client_store = directory.path() / "all";
    const FederatedOutcome outcome = run_federated(world, model, small_clients(kUneven), options);
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
      const FederatedOutcome oracle = run_alone(world, model, options, directory.path());
      options.client_store = directory.path() / "all";
      const FederatedOutcome outcome = run_federated(world, model, small_clients(kUneven), options);
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
  const auto clients = small_clients(kUneven);
  FederatedOptions options = small_options();
  options.rounds = 3;
  options.algorithm.kind = Algorithm::kQFedAvg;
  options.algorithm.q = 60.0;
  FederatedOptions uniform = small_options();
  uniform.algorithm.weighting = Weighting::kUniform;
  EXPECT_EQ(check_federated(options, *clients, model.layout()).fraction_bits,
            check_federated(uniform, *clients, model.layout()).fraction_bits);
  const FederatedOutcome oracle = run_alone(world, model, options, directory.path());
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

SUPERSTEP_WORLD_TEST(FederatedTrainer, ErrorFeedbackResumesOnAnotherNumberOfRanksWithTheSameBits) {
  const Model model = small_model();
  for (const CompressionKind kind :
       {CompressionKind::kTopK, CompressionKind::kRandomK, CompressionKind::kSign}) {
    const WorldDirectory directory(world);
    FederatedOptions options = small_options();
    options.rounds = 9;
    options.compression = {.kind = kind, .keep = 0.1, .error_feedback = ErrorFeedback::kOn};
    const FederatedOutcome oracle = run_alone(world, model, options, directory.path() / "oracle");
    options.client_store = directory.path() / "clients";
    options.checkpoint = {
        .directory = directory.path() / "checkpoints", .every_supersteps = 2, .keep = 2};
    options.rounds = 5;
    run_federated(world, model, small_clients(kUneven), options);
    options.rounds = 9;
    options.checkpoint.directory.clear();
    // Rank 0 alone, from the checkpoint before the last one: the run after it was for nothing.
    bsp::World alone = world.split(world.rank() == 0 ? 0 : 1 + world.rank(), 0);
    if (world.rank() == 0) {
      const FederatedOutcome resumed =
          run_federated(alone, model, small_clients(kUneven), options,
                        directory.path() / "checkpoints" / "step-00000004");
      EXPECT_EQ(to_text(resumed.result.parameters_hash), to_text(oracle.result.parameters_hash))
          << name_of(kind);
    }
    world.sync();  // before the directory goes
  }
}

SUPERSTEP_WORLD_TEST(FederatedTrainer, RefusesToGoOnWithoutTheStatesOfItsClients) {
  const Model model = small_model();
  for (const bool feedback : {false, true}) {
    const WorldDirectory directory(world);
    FederatedOptions options = small_options();
    options.rounds = 4;
    options.client_store = directory.path() / "clients";
    options.checkpoint = {.directory = directory.path() / "checkpoints", .every_supersteps = 2};
    if (feedback) {
      options.compression = {
          .kind = CompressionKind::kTopK, .keep = 0.1, .error_feedback = ErrorFeedback::kOn};
    } else {
      options.algorithm.kind = Algorithm::kScaffold;
    }
    const FederatedResult stopped =
        run_federated(world, model, small_clients(kUneven), options).result;
    world.sync();
    const std::filesystem::path group =
        options.client_store / (feedback ? "errors" : "states") / "000000";
    if (world.rank() == 0) {  // one client's state, the newest of its versions
      std::filesystem::path newest;
      for (const auto& file : std::filesystem::directory_iterator(group)) {
        newest = std::max(newest, file.path());
      }
      std::filesystem::remove(newest);
    }
    world.sync();
    options.rounds = 6;
    options.checkpoint.directory.clear();
    std::string refusal = "nothing";
    try {
      FederatedTrainer trainer(world, model, small_clients(kUneven), options);
      trainer.restore(paramserver::CheckpointReader(stopped.last_checkpoint));
    } catch (const DataError& error) {
      refusal = error.what();
      EXPECT_EQ(error.exit_code(), ExitCode::kBadCheckpoint);
    }
    EXPECT_NE(refusal.find("the states of clients are not those of the checkpoint"),
              std::string::npos)
        << refusal;
    EXPECT_NE(refusal.find(options.client_store.string()), std::string::npos);
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
  FederatedOptions options = private_options();
  options.rounds = 20;
  const FederatedOutcome oracle = run_alone(world, model, options, directory.path());
  options.checkpoint = {.directory = directory.path() / "checkpoints", .every_supersteps = 0};
  options.rounds = 3;
  const FederatedResult stopped =
      run_federated(world, model, small_clients(kUneven), options).result;
  options.rounds = 20;
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
    FederatedTrainer trainer(world, model, small_clients(kUneven), options);
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
  FederatedTrainer one(world, model, small_clients(kUneven), options, &first);
  one.load_parameters(parameters);
  one.fit(nullptr);
  options.checkpoint.directory.clear();
  PrivateRounds second;
  FederatedTrainer other(world, model, small_clients(kUneven), options, &second);
  other.load_parameters(parameters);
  other.fit(nullptr);
  EXPECT_NE(first.visits, second.visits);  // the same seed
  PrivateRounds resumed;
  FederatedTrainer again(world, model, small_clients(kUneven), options, &resumed);
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
  FederatedTrainer trainer(world, model, small_clients(kUneven), options, &observer);
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
      run_federated(world, model, small_clients(kUneven), options).result;
  options.rounds = 8;
  options.checkpoint.directory.clear();
  options.privacy.executed_rounds = 5;  // two more than the checkpoint has
  const FederatedResult again =
      run_federated(world, model, small_clients(kUneven), options, stopped.last_checkpoint).result;
  ASSERT_TRUE(again.privacy);
  EXPECT_EQ(again.privacy->executed_rounds, 10);
  options.rounds = 10;
  options.privacy.executed_rounds = 0;
  const FederatedResult ten = run_federated(world, model, small_clients(kUneven), options).result;
  EXPECT_NEAR(again.privacy->rdp.epsilon, ten.privacy->rdp.epsilon, 1e-9);
  EXPECT_EQ(again.privacy->pld, ten.privacy->pld);
  world.sync();  // before the directory goes
}

SUPERSTEP_WORLD_TEST(FederatedTrainer, RefusesPrivacyThatWouldNotBeWhatTheLedgerSays) {
  const Model model = small_model();
  const auto clients = small_clients(kUneven);
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
    EXPECT_EQ(run_federated(world, model, small_clients(kUneven), options).result.rounds, 3);
    options.privacy.clipping = Clipping::kAdaptive;
    options.privacy.count_noise = 0.51 * noise;  // z of the updates is five times z of both
    options.privacy.target_quantile = 0.999;
    options.privacy.clip_learning_rate = 100.0;
    const FederatedResult grown =
        run_federated(world, model, small_clients(kUneven), options).result;
    EXPECT_LE(grown.privacy->clip, options.update_bound);
  }
  FederatedOptions options = private_options();
  options.update_bound = 1e-6;
  options.privacy.clipping = Clipping::kFlat;
  EXPECT_EQ(run_federated(world, model, small_clients(kUneven), options).result.rejected, 0);
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
    options.rounds = 20;
    options.attack = {.kind = attack, .fraction = 0.3, .strength = 1.5};
    const FederatedOutcome oracle = run_alone(world, model, options, directory.path());
    const FederatedOutcome outcome = run_federated(world, model, small_clients(kUneven), options);
    EXPECT_EQ(to_text(outcome.result.parameters_hash), to_text(oracle.result.parameters_hash))
        << name_of(robust) << " " << name_of(attack);
  }
}

// Forged updates are as long as anybody's, or are rejected by name: no sum of the ring overflows.
SUPERSTEP_WORLD_TEST_ON_NODES(FederatedTrainer, RejectsColludersWhoseUpdatesAreBeyondTheBound) {
  const WorldDirectory directory(world);
  const Model model = small_model();
  for (const AttackKind attack : {AttackKind::kInnerProduct, AttackKind::kLittleIsEnough}) {
    FederatedOptions options = robust_options(RobustKind::kMean);
    options.compression = {
        .kind = CompressionKind::kTopK, .keep = 0.5, .error_feedback = ErrorFeedback::kOn};
    options.attack = {.kind = attack, .fraction = 0.3, .strength = 1e12};
    const FederatedOutcome oracle = run_alone(world, model, options, directory.path());
    options.client_store = directory.path() / name_of(attack);
    FederatedTrainer trainer(world, model, small_clients(kUneven), options);
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

SUPERSTEP_WORLD_TEST(FederatedTrainer, CompressionGivesTheBitsOfOneRankAndCountsItsBytes) {
  const Model model = small_model();
  for (const CompressionKind kind :
       {CompressionKind::kQsgd, CompressionKind::kTopK, CompressionKind::kRandomK,
        CompressionKind::kSign, CompressionKind::kRotation}) {
    const WorldDirectory directory(world);
    FederatedOptions options = small_options();
    const bool unbiased = kind == CompressionKind::kQsgd || kind == CompressionKind::kRotation;
    options.compression = {.kind = kind,
                           .keep = 0.1,
                           .error_feedback = unbiased ? ErrorFeedback::kOff : ErrorFeedback::kOn};
    const FederatedOutcome oracle = run_alone(world, model, options, directory.path());
    options.client_store = directory.path() / "all";
    const FederatedOutcome outcome = run_federated(world, model, small_clients(kUneven), options);
    EXPECT_EQ(to_text(outcome.result.parameters_hash), to_text(oracle.result.parameters_hash))
        << name_of(kind);
    EXPECT_LT(outcome.result.upload_bytes, 100 * model.layout().num_parameters());
    EXPECT_GT(outcome.result.upload_bytes, 0);
    world.sync();
  }
}

// Every client has lost so much before that its next update is beyond the bound.
SUPERSTEP_WORLD_TEST(FederatedTrainer, ARejectedClientLeavesNoErrorFeedbackBehind) {
  const WorldDirectory directory(world);
  const Model model = small_model();
  const std::filesystem::path root = directory.path() / "errors";
  const std::vector<float> large(static_cast<std::size_t>(model.layout().size()), 1000.0F);
  if (world.rank() == 0) {
    ClientStore store(root, model.layout().size(), 0);
    for (std::int64_t client = 0; client < 11; ++client) {
      store.write(client, 0, large);
    }
  }
  world.sync();
  FederatedOptions options = small_options();
  options.cohort.size = 11;
  options.client_store = directory.path();
  options.compression = {
      .kind = CompressionKind::kTopK, .keep = 0.1, .error_feedback = ErrorFeedback::kOn};
  FederatedTrainer trainer(world, model, small_clients(kUneven), options);
  EXPECT_EQ(trainer.run_round().rejected.size(), 11U);
  world.sync();
  if (world.rank() == 0) {
    for (const auto& file : std::filesystem::directory_iterator(root / "000000")) {
      const auto name = parse_client_state_name(file.path().filename().native());
      EXPECT_TRUE(name && name->version == 0) << file.path();
    }
  }
  world.sync();  // before the directory goes
}

// The server's h is the mean of the clients' h_i (Acar et al. 2021), whatever was lost on the way.
SUPERSTEP_WORLD_TEST(FederatedTrainer, FedDynKeepsItsControlTheMeanOfItsClientsUnderCompression) {
  kernels::set_team_size(1);
  const WorldDirectory directory(world);
  const Model model = small_model();
  FederatedOptions options = small_options();
  options.rounds = 3;
  options.cohort.size = 11;
  options.algorithm.kind = Algorithm::kFedDyn;
  options.compression.kind = CompressionKind::kSign;
  options.client_store = directory.path() / "clients";
  options.checkpoint = {.directory = directory.path() / "checkpoints"};
  const FederatedResult result =
      run_federated(world, model, small_clients(kUneven), options).result;
  const auto size = static_cast<std::size_t>(model.layout().size());
  std::vector<float> control(size);
  paramserver::CheckpointReader(result.last_checkpoint)
      .read("control", {0, model.layout().size()}, control);
  const ClientStore store(options.client_store / "states", model.layout().size(), 3);
  std::vector<double> mean(size, 0.0);
  std::vector<float> state(size);
  for (std::int64_t client = 0; client < 11; ++client) {
    store.read(client, state);
    for (std::size_t i = 0; i < size; ++i) {
      mean[i] += static_cast<double>(state[i]) / 11.0;
    }
  }
  double largest = 0.0;
  for (std::size_t i = 0; i < size; ++i) {
    EXPECT_NEAR(mean[i], static_cast<double>(control[i]), 1e-8);
    largest = std::max(largest, std::abs(mean[i]));
  }
  EXPECT_GT(largest, 1e-5);
  world.sync();  // before the directory goes
}

// random_k sends k elements times size / k: the ring is as wide as that, the bound is that of the
// update itself.
SUPERSTEP_WORLD_TEST(FederatedTrainer, ScalingUpForRandomKRejectsNobody) {
  const Model model = small_model();
  FederatedOptions options = small_options();
  options.rounds = 3;
  options.update_bound = 1.0;
  EXPECT_EQ(run_federated(world, model, small_clients(kUneven), options).result.rejected, 0);
  options.compression = {.kind = CompressionKind::kRandomK, .keep = 0.01};
  options.algorithm.server.learning_rate = 0.01;
  EXPECT_EQ(run_federated(world, model, small_clients(kUneven), options).result.rejected, 0);
}

SUPERSTEP_WORLD_TEST(FederatedTrainer, RefusesErrorFeedbackThatWouldDiverge) {
  const Model model = small_model();
  const auto clients = small_clients(kUneven);
  for (const CompressionKind kind : {CompressionKind::kQsgd, CompressionKind::kRotation}) {
    FederatedOptions options = small_options();
    options.client_store = "unused";
    options.compression = {.kind = kind};
    EXPECT_NO_THROW(check_federated(options, *clients, model.layout())) << name_of(kind);
    options.compression.error_feedback = ErrorFeedback::kOn;
    EXPECT_THROW(check_federated(options, *clients, model.layout()), InvalidArgument)
        << name_of(kind);
  }
}

Model normalized_model() {
  const Sequential layers{Flatten{}, Dense{.units = 12}, BatchNorm{}, Relu{}, Dense{.units = 5}};
  return Model::build(layers, {1, 8, 8}, 5);
}

SUPERSTEP_WORLD_TEST(FederatedTrainer, RefusesWhatWouldSpoilRunningStatistics) {
  const Model model = normalized_model();
  const auto clients = small_clients(kUneven);
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

SUPERSTEP_WORLD_TEST(FederatedTrainer, RefusesRobustRulesThatCannotWork) {
  const Model model = small_model();
  const auto clients = small_clients(kUneven);
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
  FederatedTrainer trainer(world, model, small_clients(kUneven), options);
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
    FederatedTrainer trainer(world, model, small_clients(kUneven), options);
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

class RoundCounter : public FederatedObserver {
 public:
  void on_round(const RoundReport&) override { ++rounds; }
  std::int64_t rounds = 0;
};

SUPERSTEP_WORLD_TEST(FederatedTrainer, EndsRunsThatOnlySeemToGoOn) {
  kernels::set_team_size(1);
  const Model model = small_model();
  const auto failure = [&](const FederatedOptions& options, RoundCounter& counter) -> std::string {
    FederatedTrainer trainer(world, model, small_clients(kUneven), options, &counter);
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
  const auto clients = small_clients(kUneven);
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

// Federated training in virtual time: identities with plain rounds, and one rank alone as the
// oracle of every world, bit for bit.

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "tests/support/error_text.h"
#include "tests/support/spmd_fixture.h"
#include "tests/support/world_directory.h"
#include "tests/worker/federated/federated_support.h"

namespace superstep::worker {
namespace {

using testing::error_text;
using testing::run_federated;
using testing::small_clients;
using testing::small_model;
using testing::small_options;
using testing::WorldDirectory;

constexpr PartitionOptions kTimedPartition{
    .kind = PartitionKind::kDirichlet, .num_clients = 13, .alpha = 0.5, .seed = 2};

DeviceOptions uneven_devices() {
  DeviceOptions devices;
  devices.speed = DeviceSpeed::kLogNormal;
  devices.seconds_per_sample = 0.1;
  devices.speed_deviation = 0.8;
  devices.dropout = 0.1;
  return devices;
}

// Clients are there for six seconds at different times of thirteen.
DeviceOptions traced_devices() {
  DeviceOptions devices = uneven_devices();
  std::string text = "client\tbegin\tend\n";
  for (int client = 0; client < 13; ++client) {
    const int begin = (client * 5) % 7;
    text += std::to_string(client) + "\t" + std::to_string(begin) + "\t" +
            std::to_string(begin + 6) + "\n";
  }
  devices.availability = {
      .kind = AvailabilityKind::kTrace,
      .trace = std::make_shared<const AvailabilityTrace>(
          AvailabilityTrace::parse(text, "trace.tsv", kTimedPartition.num_clients))};
  return devices;
}

FederatedOptions timed_rounds() {
  FederatedOptions options = small_options();
  options.device = uneven_devices();
  options.timing = {.over_selection = 1.6, .deadline_seconds = 4.0, .min_reports = 2};
  return options;
}

FederatedOptions traced_rounds() {
  FederatedOptions options = timed_rounds();
  options.device = traced_devices();
  return options;
}

FederatedOptions fedbuff() {
  FederatedOptions options = small_options();
  options.device = uneven_devices();
  options.algorithm.kind = Algorithm::kFedAdam;
  options.algorithm.weighting = Weighting::kUniform;
  options.algorithm.server.learning_rate = 0.03;
  options.asynchrony = {.kind = Asynchrony::kFedBuff, .concurrency = 8, .buffer = 3};
  return options;
}

FederatedOptions limited_fedbuff() {
  FederatedOptions options = fedbuff();
  options.device = traced_devices();
  options.algorithm.kind = Algorithm::kFedAvg;
  options.algorithm.weighting = Weighting::kSamples;
  options.algorithm.server.learning_rate = 1.0;
  options.compression.kind = CompressionKind::kQsgd;
  options.asynchrony.max_staleness = 2;
  return options;
}

FederatedOptions fedasync() {
  FederatedOptions options = fedbuff();
  options.algorithm.kind = Algorithm::kFedProx;
  options.local.epochs = 4;  // twenty updates of one client each
  options.algorithm.server.learning_rate = 1.0;
  options.asynchrony = {.kind = Asynchrony::kFedAsync,
                        .concurrency = 6,
                        .mixing = 0.5,
                        .staleness = Staleness::kHinge};
  return options;
}

const std::pair<const char*, FederatedOptions (*)()> kModes[] = {{"rounds", timed_rounds},
                                                                 {"traced rounds", traced_rounds},
                                                                 {"fedbuff", fedbuff},
                                                                 {"limited", limited_fedbuff},
                                                                 {"fedasync", fedasync}};

std::shared_ptr<const ClientData> timed_clients() {
  return small_clients(kTimedPartition, 400);
}

SUPERSTEP_WORLD_TEST_ON_NODES(FederatedTime, EveryModeGivesTheBitsOfOneRankAfterTwentyRounds) {
  const Model model = small_model();
  for (const auto& [name, options] : kModes) {
    bsp::World alone = world.split(world.rank(), 0);
    const FederatedResult oracle = run_federated(alone, model, timed_clients(), options()).result;
    const FederatedResult result = run_federated(world, model, timed_clients(), options()).result;
    EXPECT_EQ(to_text(result.parameters_hash), to_text(oracle.parameters_hash)) << name;
    EXPECT_EQ(result.rounds, 20) << name;
    // Chance is 0.2; an update of FedAsync is that of one client with few labels.
    EXPECT_GT(result.test->accuracy, 0.35) << name;
    ASSERT_TRUE(result.time && oracle.time) << name;
    EXPECT_EQ(result.time->end, oracle.time->end) << name;
    EXPECT_EQ(result.time->used, result.client_rounds) << name;
    EXPECT_GT(result.time->dropped, 0) << name;
    FederatedOptions strict = options();
    strict.data_mode = DataMode::kStrict;
    EXPECT_EQ(run_federated(world, model, timed_clients(), strict).result.parameters_hash,
              oracle.parameters_hash)
        << name;
  }
}

// Checkpoints in the middle of flights, with older models in them.
SUPERSTEP_WORLD_TEST_ON_NODES(FederatedTime, ResumesOnAnotherNumberOfRanksWithTheSameBits) {
  const Model model = small_model();
  for (const auto& [name, make] : kModes) {
    const WorldDirectory directory(world);
    FederatedOptions options = make();
    options.rounds = 14;
    bsp::World alone = world.split(world.rank(), 0);
    const FederatedResult oracle = run_federated(alone, model, timed_clients(), options).result;
    options.rounds = 9;
    options.checkpoint = {.directory = directory.path() / "checkpoints", .every_supersteps = 3};
    const FederatedResult stopped = run_federated(world, model, timed_clients(), options).result;
    const paramserver::CheckpointReader reader(stopped.last_checkpoint);
    const auto& arrays = reader.manifest().arrays;
    const bool has_versions = std::any_of(arrays.begin(), arrays.end(), [](const auto& array) {
      return array.name.starts_with("version_");
    });
    EXPECT_EQ(has_versions, options.asynchrony.kind != Asynchrony::kNone) << name;
    options.rounds = 14;
    options.checkpoint.directory.clear();
    // From all ranks to each alone, and to all again.
    for (bsp::World* on : {&alone, &world}) {
      const FederatedResult resumed =
          run_federated(*on, model, timed_clients(), options, stopped.last_checkpoint).result;
      EXPECT_EQ(to_text(resumed.parameters_hash), to_text(oracle.parameters_hash)) << name;
      EXPECT_EQ(resumed.time->end, oracle.time->end) << name;
      EXPECT_EQ(resumed.time->used, oracle.time->used) << name;
      EXPECT_EQ(resumed.time->dropped, oracle.time->dropped) << name;
      EXPECT_EQ(resumed.time->staleness_mean(), oracle.time->staleness_mean()) << name;
    }
    world.sync();  // before the directory goes
  }
}

DeviceOptions equal_devices() {
  DeviceOptions devices;
  devices.speed = DeviceSpeed::kLogNormal;
  devices.speed_deviation = 0.0;
  return devices;
}

// Clients of equal size and speed.
std::shared_ptr<const ClientData> even_clients() {
  return small_clients({.kind = PartitionKind::kIid, .num_clients = 10, .seed = 2});
}

SUPERSTEP_WORLD_TEST(FederatedTime, FedBuffOfFullBuffersAndOneSpeedIsUnweightedFedAvg) {
  const Model model = small_model();
  FederatedOptions fedavg = small_options();
  fedavg.rounds = 6;
  fedavg.algorithm.weighting = Weighting::kUniform;
  const std::vector<float> expected =
      run_federated(world, model, even_clients(), fedavg).parameters;
  FederatedOptions buffered = fedavg;
  buffered.device = equal_devices();
  buffered.asynchrony = {.kind = Asynchrony::kFedBuff, .concurrency = 5, .buffer = 5};
  EXPECT_EQ(run_federated(world, model, even_clients(), buffered).parameters, expected);
  // With stale reports it is something else.
  buffered.asynchrony.buffer = 4;
  EXPECT_NE(run_federated(world, model, even_clients(), buffered).parameters, expected);
}

SUPERSTEP_WORLD_TEST(FederatedTime, FedAsyncOfOneClientThatReplacesTheModelIsFedAvgOfOneClient) {
  const Model model = small_model();
  FederatedOptions fedavg = small_options();
  fedavg.rounds = 12;
  fedavg.cohort.size = 1;
  const std::vector<float> expected =
      run_federated(world, model, timed_clients(), fedavg).parameters;
  FederatedOptions sequential = fedavg;
  sequential.device = uneven_devices();
  sequential.device.dropout = 0.0;
  sequential.asynchrony = {.kind = Asynchrony::kFedAsync,
                           .concurrency = 1,
                           .mixing = 1.0,
                           .staleness = Staleness::kConstant};
  EXPECT_EQ(run_federated(world, model, timed_clients(), sequential).parameters, expected);
  sequential.asynchrony.mixing = 0.5;
  EXPECT_NE(run_federated(world, model, timed_clients(), sequential).parameters, expected);
}

// Without losses, over-selection and deadline, time changes nothing.
SUPERSTEP_WORLD_TEST(FederatedTime, RoundsThatWaitForEverybodyAreRoundsWithoutTime) {
  const Model model = small_model();
  for (const Sampling sampling : {Sampling::kFixed, Sampling::kPoisson, Sampling::kWeighted}) {
    FederatedOptions options = small_options();
    options.rounds = 5;
    options.cohort.sampling = sampling;
    options.algorithm.weighting = Weighting::kUniform;
    const std::vector<float> expected =
        run_federated(world, model, timed_clients(), options).parameters;
    options.device = uneven_devices();
    options.device.dropout = 0.0;
    EXPECT_EQ(run_federated(world, model, timed_clients(), options).parameters, expected)
        << name_of(sampling);
  }
}

SUPERSTEP_WORLD_TEST(FederatedTime, RoundsOfTooFewReportsLeaveTheModelAsItIs) {
  kernels::set_team_size(1);
  const Model model = small_model();
  FederatedOptions options = timed_rounds();
  options.timing = {.deadline_seconds = 0.001, .min_reports = 2};
  FederatedTrainer trainer(world, model, timed_clients(), options);
  std::vector<float> parameters(static_cast<std::size_t>(model.layout().size()));
  model.initialize(1, parameters);
  trainer.load_parameters(parameters);
  for (int round = 1; round <= 2; ++round) {
    const RoundReport report = trainer.run_round();
    EXPECT_EQ(report.cohort, 0);
    ASSERT_TRUE(report.timing.has_value());
    EXPECT_EQ(report.timing->selected, 5);
    EXPECT_EQ(report.timing->late + report.timing->dropped, 5);
    EXPECT_EQ(report.timing->end, std::chrono::milliseconds(round));
  }
  EXPECT_TRUE(std::equal(parameters.begin(), parameters.end(), trainer.parameters().begin()));
}

SUPERSTEP_WORLD_TEST(FederatedTime, RefusesWhatCannotWork) {
  const auto clients = timed_clients();
  const auto refusal = [&](FederatedOptions options) {
    options.client_store = "unused";
    return error_text<InvalidArgument>(
        [&] { check_federated(options, *clients, small_model().layout()); });
  };
  const auto expect_refusal = [&](const FederatedOptions& base,
                                  const std::function<void(FederatedOptions&)>& change,
                                  const std::string& expected) {
    FederatedOptions options = base;
    change(options);
    const std::string message = refusal(options);
    EXPECT_NE(message.find(expected), std::string::npos) << expected << "\n" << message;
  };
  using Options = FederatedOptions;
  for (const auto& [name, options] : kModes) {
    EXPECT_EQ(refusal(options()), "") << name;
  }
  expect_refusal(
      fedbuff(), [](Options& o) { o.asynchrony.concurrency = 14; },
      "concurrency: got 14, expected 1 to 13");
  expect_refusal(
      fedbuff(), [](Options& o) { o.asynchrony.buffer = 9; }, "buffer: got 9, expected 1 to 8");
  expect_refusal(
      fedbuff(), [](Options& o) { o.asynchrony.max_staleness = -1; }, "max_staleness: got -1");
  expect_refusal(
      fedbuff(), [](Options& o) { o.device = {}; }, "need virtual time");
  expect_refusal(
      fedbuff(), [](Options& o) { o.algorithm.kind = Algorithm::kScaffold; }, "not with scaffold");
  expect_refusal(
      fedbuff(), [](Options& o) { o.algorithm.kind = Algorithm::kFedDyn; }, "not with feddyn");
  expect_refusal(
      fedbuff(), [](Options& o) { o.personalization.kind = PersonalizationKind::kDitto; },
      "not with personalization \"ditto\"");
  expect_refusal(
      fedbuff(), [](Options& o) { o.robust.kind = RobustKind::kMedian; },
      "compare the updates of one round");
  expect_refusal(
      fedbuff(), [](Options& o) { o.cohort.sampling = Sampling::kWeighted; },
      "got sampling \"weighted\"");
  expect_refusal(
      limited_fedbuff(),
      [](Options& o) {
        o.compression = {.kind = CompressionKind::kTopK, .error_feedback = ErrorFeedback::kOn};
      },
      "not with error feedback");
  expect_refusal(
      fedasync(), [](Options& o) { o.asynchrony.mixing = 0.0; }, "mixing: got 0");
  expect_refusal(
      fedasync(), [](Options& o) { o.algorithm.kind = Algorithm::kFedAvgM; },
      "mixing is the server's step");
  expect_refusal(
      fedasync(), [](Options& o) { o.compression.kind = CompressionKind::kSign; },
      "models are mixed");
  expect_refusal(
      timed_rounds(), [](Options& o) { o.timing.over_selection = 0.9; }, "over_selection: got 0.9");
  expect_refusal(
      timed_rounds(), [](Options& o) { o.timing.deadline_seconds = -1.0; },
      "deadline_seconds: got -1");
  expect_refusal(
      timed_rounds(), [](Options& o) { o.timing.min_reports = 6; },
      "min_reports: got 6, expected at most 5");
  expect_refusal(
      timed_rounds(), [](Options& o) { o.cohort.sampling = Sampling::kPoisson; },
      "a Poisson cohort wants none");
  expect_refusal(
      timed_rounds(), [](Options& o) { o.device.dropout = 1.0; }, "dropout: got 1");
  expect_refusal(
      small_options(), [](Options& o) { o.device.dropout = 0.5; }, "need virtual time");
}

SUPERSTEP_WORLD_TEST(FederatedTime, RefusesPrivacyWhereClientsDependOnEachOther) {
  const auto clients = timed_clients();
  const auto refusal = [&](const FederatedOptions& options) {
    return error_text<InvalidArgument>(
        [&] { check_federated(options, *clients, small_model().layout()); });
  };
  FederatedOptions options = small_options();
  options.cohort.sampling = Sampling::kPoisson;
  options.algorithm.weighting = Weighting::kUniform;
  options.privacy = {.kind = PrivacyKind::kDpFedAvg, .noise_source = NoiseSource::kTest};
  options.device = uneven_devices();
  options.timing.deadline_seconds = 3.0;
  EXPECT_EQ(refusal(options), "");
  options.timing.min_reports = 1;
  EXPECT_NE(refusal(options).find("with min_reports 1"), std::string::npos);
  options.timing.min_reports = 0;
  options.device = traced_devices();
  EXPECT_NE(refusal(options).find("with availability \"trace\""), std::string::npos);
  options.device = uneven_devices();
  options.timing.over_selection = 1.5;
  EXPECT_NE(refusal(options).find("a Poisson cohort wants none"), std::string::npos);
  options.timing = {};
  options.asynchrony = fedbuff().asynchrony;
  EXPECT_NE(refusal(options).find("asynchrony \"fedbuff\""), std::string::npos);
}

}  // namespace
}  // namespace superstep::worker

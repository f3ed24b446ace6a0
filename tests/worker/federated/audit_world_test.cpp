// The audit: a whole run passes it and is written down, and a sample that leaves ends the call.

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "tests/support/error_text.h"
#include "tests/support/spmd_fixture.h"
#include "tests/support/world_directory.h"
#include "tests/worker/federated/federated_support.h"
#include "worker/data/byte_dataset.h"
#include "worker/federated/audit.h"
#include "worker/federated/client_division.h"

namespace superstep::worker {
namespace {

using testing::error_text;
using testing::run_federated;
using testing::small_clients;
using testing::small_model;
using testing::small_options;
using testing::WorldDirectory;

constexpr PartitionOptions kNineClients{
    .kind = PartitionKind::kDirichlet, .num_clients = 9, .alpha = 0.5, .seed = 2};

class Entries : public FederatedObserver {
 public:
  void on_audit(std::int64_t round, std::span<const AuditEntry> entries) override {
    last_round = round;
    for (const AuditEntry& entry : entries) {
      bytes[entry.type] += entry.bytes;
    }
  }
  std::int64_t last_round = 0;
  std::map<std::string, std::int64_t> bytes;  // by type, of all ranks
};

// Every float of a sample whose normalised bits are those of this number.
constexpr float kMark = 77.0F;

std::shared_ptr<const ClientData> marked_clients() {
  const std::vector<std::uint8_t> pixels(std::size_t{20} * 64, static_cast<std::uint8_t>(kMark));
  std::vector<std::uint8_t> labels(20);
  for (std::size_t i = 0; i < labels.size(); ++i) {
    labels[i] = static_cast<std::uint8_t>(i % 5);
  }
  const auto dataset = std::make_shared<ByteDataset>(ByteSamples{.source = "marked",
                                                                 .sample_shape = {1, 8, 8},
                                                                 .num_classes = 5,
                                                                 .samples = pixels,
                                                                 .labels = labels});
  return partitioned_clients(dataset, make_partition(dataset->labels(), 5, {.num_clients = 4}));
}

FederatedResult run_audited(bsp::World& world, Audit& audit, FederatedOptions options,
                            FederatedObserver* observer,
                            const std::shared_ptr<const ClientData>& clients,
                            const std::shared_ptr<const ClientData>& tests = nullptr) {
  kernels::set_team_size(1);
  const Model model = small_model();
  options.audit = &audit;
  FederatedTrainer trainer(world, model, clients, options, observer);
  std::vector<float> parameters(static_cast<std::size_t>(model.layout().size()));
  model.initialize(options.local.seed, parameters);
  trainer.load_parameters(parameters);
  return trainer.fit(testing::small_dataset(50, 2), nullptr, tests);
}

SUPERSTEP_WORLD_TEST_ON_NODES(Audit, LetsEveryKindOfRunPassAndWritesDownWhatLeft) {
  const Model model = small_model();
  for (const Algorithm kind : {Algorithm::kFedAvg, Algorithm::kScaffold}) {
    const WorldDirectory directory(world);
    FederatedOptions options = small_options();
    options.rounds = 4;
    options.algorithm.kind = kind;
    options.evaluate_every_rounds = 2;
    options.evaluate_clients_every_rounds = 2;
    options.client_store = directory.path() / "clients";
    options.checkpoint = {
        .directory = directory.path() / "checkpoints", .every_supersteps = 1, .asynchronous = true};
    const FederatedResult plain =
        run_federated(world, model, small_clients(kNineClients), options).result;
    if (world.rank() == 0) {
      std::filesystem::remove_all(directory.path() / "checkpoints");
      std::filesystem::remove_all(directory.path() / "clients");
    }
    world.sync();
    Entries entries;
    Audit audit(world);
    const FederatedResult audited =
        run_audited(world, audit, options, &entries, small_clients(kNineClients));
    EXPECT_EQ(audited.parameters_hash, plain.parameters_hash);
    EXPECT_EQ(entries.last_round, 4);
    const bool alone = world.size() == 1;
    EXPECT_EQ(entries.bytes["client_records"] == 0, alone);
    EXPECT_EQ(entries.bytes["client_accuracies"] == 0, alone);
    EXPECT_EQ(entries.bytes["published_parameters"] == 0, alone);
    // Parameters are written once by every checkpoint, whoever writes them.
    EXPECT_GE(entries.bytes["checkpoint"], 5 * model.layout().size() * 4);
    EXPECT_EQ(entries.bytes["client_state"] > 0, kind == Algorithm::kScaffold);
    world.sync();
  }
}

SUPERSTEP_WORLD_TEST(Audit, PrivateAndRobustRunsDeclareAllThatTheySend) {
  FederatedOptions options = small_options();
  options.rounds = 2;
  options.cohort = {.sampling = Sampling::kPoisson, .size = 5, .seed = 3};
  options.algorithm.weighting = Weighting::kUniform;
  options.privacy = {.kind = PrivacyKind::kDpFedAvg,
                     .noise_multiplier = 1.0,
                     .clipping = Clipping::kAdaptive,
                     .count_noise = 4.0,
                     .noise_source = NoiseSource::kTest};
  Audit audit(world);
  EXPECT_EQ(run_audited(world, audit, options, nullptr, small_clients(kNineClients)).rounds, 2);
  options.privacy = {};
  options.cohort.sampling = Sampling::kFixed;
  options.robust = {.kind = RobustKind::kKrum, .byzantine = 1};
  EXPECT_EQ(run_audited(world, audit, options, nullptr, small_clients(kNineClients)).rounds, 2);
}

SUPERSTEP_WORLD_TEST_ON_NODES(Audit, PersonalAndAsynchronousRunsDeclareAllThatTheySend) {
  const WorldDirectory directory(world);
  const std::int64_t model_bytes = small_model().layout().size() * 4;
  const DividedClients parts = divide_clients(small_clients(kNineClients), {.test_fraction = 0.3});
  FederatedOptions options = small_options();
  options.rounds = 4;
  options.evaluate_clients_every_rounds = 2;
  options.client_store = directory.path() / "clients";
  options.personalization.kind = PersonalizationKind::kDitto;
  Audit audit(world);
  Entries personal;
  EXPECT_EQ(run_audited(world, audit, options, &personal, parts.train, parts.test).rejected, 0);
  EXPECT_EQ(personal.bytes["client_state"], 4 * 5 * model_bytes);
  options.personalization = {};
  options.device.speed = DeviceSpeed::kLogNormal;
  options.checkpoint = {
      .directory = directory.path() / "checkpoints", .every_supersteps = 1, .asynchronous = true};
  for (const Asynchrony kind : {Asynchrony::kFedBuff, Asynchrony::kFedAsync}) {
    options.asynchrony = {.kind = kind, .concurrency = 6, .buffer = 3};
    Entries asynchronous;
    const FederatedResult result =
        run_audited(world, audit, options, &asynchronous, parts.train, parts.test);
    ASSERT_TRUE(result.time.has_value());
    EXPECT_GT(result.time->versions, 0);
    EXPECT_GT(asynchronous.bytes["checkpoint"], 5 * model_bytes);  // older models are in it
    world.sync();
    if (world.rank() == 0) {
      std::filesystem::remove_all(directory.path() / "checkpoints");
    }
    world.sync();
  }
}

SUPERSTEP_WORLD_TEST(Audit, EndsACallThatWouldSendASample) {
  if (world.size() == 1) {
    return;  // nothing leaves
  }
  const auto clients = small_clients(kNineClients);
  const auto memory = clients->sample_memory();
  ASSERT_EQ(memory.size(), 2U);
  const auto* pixels = reinterpret_cast<const std::uint8_t*>(memory[0].data());
  std::vector<std::uint8_t> all(64 * static_cast<std::size_t>(world.size()));
  const std::vector<std::int64_t> counts(static_cast<std::size_t>(world.size()), 64);
  const auto outgoing = [&](int to) {
    return bsp::Outgoing{to, std::as_bytes(std::span<const std::uint8_t>(pixels, 64))};
  };
  Audit audit(world);
  audit.protect(memory);
  world.set_phase("share records");
  // All ranks fail alike, here and below, so that nobody waits for the others.
  const std::string sent = error_text<CommunicationError>([&] {
    const bsp::Outgoing message = outgoing(world.next_rank());
    world.exchange({&message, 1}, {});
  });
  EXPECT_NE(sent.find("samples leave the rank: 64 bytes to rank"), std::string::npos) << sent;
  EXPECT_NE(sent.find("[Audit] rank " + std::to_string(world.rank()) + ", superstep "),
            std::string::npos)
      << sent;
  EXPECT_NE(sent.find("audit_world_test.cpp"), std::string::npos) << sent;
  EXPECT_NE(sent.find("type client_records"), std::string::npos) << sent;
}

SUPERSTEP_WORLD_TEST(Audit, EndsACallThatNobodyDeclared) {
  if (world.size() == 1) {
    return;
  }
  Audit audit(world);
  world.set_phase("compute");
  const double number = 1.0;
  const std::string undeclared = error_text<CommunicationError>([&] {
    const bsp::Outgoing message{world.next_rank(), std::as_bytes(std::span(&number, 1))};
    world.exchange({&message, 1}, {});
  });
  EXPECT_NE(undeclared.find("bytes of no declared type leave the rank: 8 bytes"), std::string::npos)
      << undeclared;
}

SUPERSTEP_WORLD_TEST(Audit, FindsCopiesOfSamplesByTheirCanary) {
  if (world.size() == 1) {
    return;
  }
  Audit audit(world);
  std::vector<std::byte> canary;
  for (int i = 0; i < 4; ++i) {  // four equal pixels in a row, as floats
    const auto bytes = std::as_bytes(std::span(&kMark, 1));
    canary.insert(canary.end(), bytes.begin(), bytes.end());
  }
  audit.set_canary(canary);
  // Training on marked samples sends none of them ...
  FederatedOptions options = small_options();
  options.rounds = 2;
  options.cohort.size = 3;
  options.local.normalization = Normalization::none();
  options.local.learning_rate = 1e-6;
  EXPECT_EQ(run_audited(world, audit, options, nullptr, marked_clients()).rounds, 2);
  // ... and a copy of one is found.
  std::vector<float> copy(64, kMark);
  world.set_phase("share records");
  const std::string found = error_text<CommunicationError>([&] {
    const bsp::Outgoing message{world.next_rank(), std::as_bytes(std::span<const float>(copy))};
    world.exchange({&message, 1}, {});
  });
  EXPECT_NE(found.find("a copy of a sample leaves the rank"), std::string::npos) << found;
}

// A rule that nobody would write: it sends what it trained on.
SUPERSTEP_WORLD_TEST(Audit, WatchesTheMemoryThatSamplesAreReadInto) {
  if (world.size() == 1) {
    return;
  }
  kernels::set_team_size(1);
  const Model model = small_model();
  const auto clients = small_clients(kNineClients);
  LocalTrainer local(model, clients, small_options().local);
  Audit audit(world);
  std::vector<Audit::Memory> watched;
  local.set_sample_watch([&](Audit::Memory samples) {
    audit.protect(samples);
    watched.push_back(samples);
  });
  std::vector<float> parameters(static_cast<std::size_t>(model.layout().size()));
  model.initialize(1, parameters);
  local.train(parameters, world.rank() % 9, 0, {});
  ASSERT_FALSE(watched.empty());
  world.set_phase("share records");
  const std::string sent = error_text<CommunicationError>([&] {
    const bsp::Outgoing message{world.next_rank(), watched.front().subspan(8, 16)};
    world.exchange({&message, 1}, {});
  });
  EXPECT_NE(sent.find("samples leave the rank: 16 bytes"), std::string::npos) << sent;
}

}  // namespace
}  // namespace superstep::worker

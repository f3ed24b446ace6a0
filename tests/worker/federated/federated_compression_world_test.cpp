// Compressed updates in federated training, on every world.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <vector>

#include "base/error.h"
#include "tests/support/spmd_fixture.h"
#include "tests/support/world_directory.h"
#include "tests/worker/federated/federated_support.h"
#include "worker/federated/client_store.h"
#include "worker/federated/federated_trainer.h"

namespace superstep::worker {
namespace {

using testing::FederatedOutcome;
using testing::kElevenUneven;
using testing::run_federated;
using testing::run_federated_alone;
using testing::small_clients;
using testing::small_model;
using testing::small_options;
using testing::WorldDirectory;

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
    const FederatedOutcome oracle = run_federated_alone(world, model, options, directory.path());
    options.client_store = directory.path() / "all";
    const FederatedOutcome outcome =
        run_federated(world, model, small_clients(kElevenUneven), options);
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
  FederatedTrainer trainer(world, model, small_clients(kElevenUneven), options);
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
      run_federated(world, model, small_clients(kElevenUneven), options).result;
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
  EXPECT_EQ(run_federated(world, model, small_clients(kElevenUneven), options).result.rejected, 0);
  options.compression = {.kind = CompressionKind::kRandomK, .keep = 0.01};
  options.algorithm.server.learning_rate = 0.01;
  EXPECT_EQ(run_federated(world, model, small_clients(kElevenUneven), options).result.rejected, 0);
}

SUPERSTEP_WORLD_TEST(FederatedTrainer, RefusesErrorFeedbackThatWouldDiverge) {
  const Model model = small_model();
  const auto clients = small_clients(kElevenUneven);
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

}  // namespace
}  // namespace superstep::worker

// Federated runs that go on from their checkpoints, with states of clients and without.

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "base/error.h"
#include "tests/support/spmd_fixture.h"
#include "tests/support/world_directory.h"
#include "tests/worker/federated/federated_support.h"
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

SUPERSTEP_WORLD_TEST(FederatedTrainer, ResumesOnAnotherNumberOfRanksWithTheSameBits) {
  const Model model = small_model();
  for (const Algorithm kind : {Algorithm::kFedAdam, Algorithm::kScaffold, Algorithm::kFedDyn}) {
    const WorldDirectory directory(world);
    FederatedOptions options = small_options();
    options.rounds = 7;
    options.algorithm.kind = kind;
    const FederatedOutcome oracle =
        run_federated_alone(world, model, options, directory.path() / "oracle");
    options.client_store = directory.path() / "clients";
    options.checkpoint = {
        .directory = directory.path() / "checkpoints", .every_supersteps = 2, .keep = 2};
    options.rounds = 5;
    const FederatedResult stopped =
        run_federated(world, model, small_clients(kElevenUneven), options).result;
    // States newer than the checkpoint are left from a run that went on and was killed.
    const std::filesystem::path older = directory.path() / "checkpoints" / "step-00000004";
    options.rounds = 7;
    options.checkpoint.directory.clear();
    EXPECT_EQ(
        run_federated(world, model, small_clients(kElevenUneven), options, stopped.last_checkpoint)
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
      EXPECT_EQ(run_federated(alone, model, small_clients(kElevenUneven), options, older)
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
    const FederatedOutcome oracle =
        run_federated_alone(world, model, options, directory.path() / "oracle");
    options.client_store = directory.path() / "clients";
    options.checkpoint = {
        .directory = directory.path() / "checkpoints", .every_supersteps = 2, .keep = 2};
    options.rounds = 5;
    run_federated(world, model, small_clients(kElevenUneven), options);
    options.rounds = 9;
    options.checkpoint.directory.clear();
    // Rank 0 alone, from the checkpoint before the last one: the run after it was for nothing.
    bsp::World alone = world.split(world.rank() == 0 ? 0 : 1 + world.rank(), 0);
    if (world.rank() == 0) {
      const FederatedOutcome resumed =
          run_federated(alone, model, small_clients(kElevenUneven), options,
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
        run_federated(world, model, small_clients(kElevenUneven), options).result;
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
      FederatedTrainer trainer(world, model, small_clients(kElevenUneven), options);
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
      run_federated(world, model, small_clients(kElevenUneven), options);
      const std::map<std::int64_t, std::string> hashes =
          state_hashes_in(options.checkpoint.directory);
      EXPECT_EQ(hashes.size(), 5U) << name_of(kind);
      if (asynchronous) {
        EXPECT_EQ(hashes, waiting) << name_of(kind);
        EXPECT_EQ(run_federated(world, model, small_clients(kElevenUneven), options,
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

}  // namespace
}  // namespace superstep::worker

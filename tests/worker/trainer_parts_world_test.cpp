// A training loop written by hand from the parts of fit() has the bits of fit().

#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "kernels/threads.h"
#include "tests/support/spmd_fixture.h"
#include "tests/support/world_directory.h"
#include "tests/worker/tiny_training.h"

namespace superstep::worker {
namespace {

using testing::WorldDirectory;
using namespace tiny;  // NOLINT(google-build-using-namespace)

// A model, its server and its trainer.
struct Session {
  Session(bsp::World& world, const TrainOptions& options,
          const paramserver::CollocatedOptions& for_server)
      : model(tiny_model()),
        server(world, model.layout(), for_server),
        recorder(losses),
        trainer(world, model, server, options, &recorder) {
    kernels::set_team_size(1);
    std::vector<float> parameters(static_cast<std::size_t>(model.layout().size()));
    model.initialize(options.batch.seed, parameters);
    server.load_parameters(parameters);
  }

  std::string hash() { return to_text(model.layout().parameters_hash(server.pull().buffer())); }

  Model model;
  paramserver::CollocatedServer server;
  std::vector<double> losses;
  LossRecorder recorder;
  Trainer trainer;
};

SUPERSTEP_WORLD_TEST_ON_NODES(TrainerParts, TheLoopByHandHasTheBitsOfFit) {
  const TrainingOutcome oracle = train_alone(world, tiny_options());
  for (const auto dealing :
       {paramserver::SlotDealing::kAsPlaced, paramserver::SlotDealing::kStealing}) {
    paramserver::CollocatedOptions for_server = server_options();
    for_server.dealing = dealing;
    Session session(world, tiny_options(), for_server);
    Trainer& trainer = session.trainer;
    trainer.open(tiny_data());
    std::vector<std::int64_t> steps;
    while (trainer.has_next()) {
      trainer.compute_gradients(trainer.next_batch());
      steps.push_back(trainer.apply_gradients().step_in_epoch);
    }
    EXPECT_EQ(session.hash(), to_text(oracle.result.parameters_hash));
    EXPECT_EQ(session.losses, oracle.losses);
    EXPECT_EQ(steps, (std::vector<std::int64_t>{0, 1, 2, 0, 1, 2, 0, 1, 2}));
  }
}

SUPERSTEP_WORLD_TEST(TrainerParts, ACheckpointBetweenTheHalvesDoesNotContainTheStep) {
  const TrainingOutcome oracle = train_alone(world, tiny_options());
  const WorldDirectory directory(world);
  TrainOptions options = tiny_options();
  options.checkpoint = {.directory = directory.path() / "checkpoints"};
  std::filesystem::path saved;
  {
    Session session(world, options, server_options());
    session.trainer.open(tiny_data());
    for (int i = 0; i < 4; ++i) {
      session.trainer.compute_gradients(session.trainer.next_batch());
      session.trainer.apply_gradients();
    }
    session.trainer.compute_gradients(session.trainer.next_batch());
    saved = session.trainer.save_checkpoint();
    session.trainer.apply_gradients();  // what was pushed is still there
    EXPECT_EQ(session.losses.back(), oracle.losses[4]);
  }
  const TrainingOutcome resumed = train(world, options, saved);
  EXPECT_EQ(to_text(resumed.result.parameters_hash), to_text(oracle.result.parameters_hash));
  EXPECT_EQ(resumed.losses.size(), 5U);
  world.sync();
}

SUPERSTEP_WORLD_TEST(TrainerParts, AMaskedEntryKeepsItsValue) {
  Session session(world, tiny_options(), server_options());
  session.trainer.open(tiny_data());
  const paramserver::ParameterLayout& layout = session.model.layout();
  std::vector<bool> mask(layout.entries().size(), true);
  mask[0] = false;
  const auto values_of = [&](std::size_t i) {
    const paramserver::LayoutEntry& entry = layout.entries()[i];
    const std::span<const float> part = session.server.pull().buffer().subspan(
        static_cast<std::size_t>(entry.offset), static_cast<std::size_t>(entry.num_elements()));
    return std::vector<float>(part.begin(), part.end());
  };
  const std::vector<float> masked = values_of(0);
  const std::vector<float> free = values_of(layout.entries().size() - 1);
  for (int i = 0; i < 3; ++i) {
    session.trainer.compute_gradients(session.trainer.next_batch());
    session.trainer.apply_gradients({.mask = mask});
  }
  EXPECT_EQ(values_of(0), masked);
  EXPECT_NE(values_of(layout.entries().size() - 1), free);
}

SUPERSTEP_WORLD_TEST(TrainerParts, AGradientThatIsNoNumberIsLeftOutByHandToo) {
  TrainOptions options = tiny_options();
  options.numbers.on_bad = NumberOptions::OnBad::kSkip;
  Session session(world, options, server_options());
  std::vector<float> parameters(session.server.pull().buffer().begin(),
                                session.server.pull().buffer().end());
  world.sync();
  parameters[0] = std::numeric_limits<float>::quiet_NaN();
  session.server.load_parameters(parameters);
  session.trainer.open(tiny_data());
  session.trainer.compute_gradients(session.trainer.next_batch());
  EXPECT_TRUE(session.trainer.apply_gradients().result.skipped);
  EXPECT_TRUE(session.losses.empty());
}

SUPERSTEP_WORLD_TEST(TrainerParts, RefusesAStepBeforeOpen) {
  Session session(world, tiny_options(), server_options());
  EXPECT_THROW(session.trainer.next_batch(), std::exception);
  EXPECT_THROW(session.trainer.apply_gradients(), std::exception);
}

}  // namespace
}  // namespace superstep::worker

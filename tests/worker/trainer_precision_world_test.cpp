// Training in bf16: other bits than in float32, the same for every world.

#include <string>

#include "tests/support/spmd_fixture.h"
#include "tests/support/world_directory.h"
#include "tests/worker/tiny_training.h"
#include "worker/trainer.h"

namespace superstep::worker {
namespace {

using testing::WorldDirectory;
using namespace tiny;  // NOLINT(google-build-using-namespace)

TrainOptions bf16_options() {
  TrainOptions options = tiny_options();
  options.precision = kernels::Precision::kBfloat16;
  return options;
}

SUPERSTEP_WORLD_TEST_ON_NODES(TrainerPrecision, EveryWorldGivesTheBitsOfOneRankInBf16) {
  const TrainingOutcome oracle = train_alone(world, bf16_options());
  const TrainingOutcome outcome = train(world, bf16_options());
  expect_same_bits(outcome, oracle);
}

SUPERSTEP_WORLD_TEST_ON_NODES(TrainerPrecision, PlacementKeepsTheBitsInBf16) {
  TrainOptions options = bf16_options();
  const TrainingOutcome oracle = train_alone(world, options);
  options.placement = SlotPlacement::kRandom;
  EXPECT_EQ(train(world, options).result.parameters_hash, oracle.result.parameters_hash);
  paramserver::CollocatedOptions for_server = server_options();
  for_server.dealing = paramserver::SlotDealing::kStealing;
  options.placement = SlotPlacement::kContiguous;
  EXPECT_EQ(train_with(world, options, for_server).result.parameters_hash,
            oracle.result.parameters_hash);
}

SUPERSTEP_WORLD_TEST(TrainerPrecision, ResumesInBf16WithTheBitsOfTheUninterruptedRun) {
  const TrainingOutcome oracle = train_alone(world, bf16_options());
  const WorldDirectory directory(world);
  TrainOptions options = bf16_options();
  options.checkpoint = {
      .directory = directory.path() / "checkpoints", .every_supersteps = 2, .keep = 3};
  options.max_supersteps = 4;
  const TrainResult stopped = train(world, options).result;
  options.max_supersteps = 0;
  options.checkpoint.directory.clear();
  bsp::World alone = world.split(world.rank(), 0);
  const TrainingOutcome resumed = train(alone, options, stopped.last_checkpoint);
  EXPECT_EQ(to_text(resumed.result.parameters_hash), to_text(oracle.result.parameters_hash));
  world.sync();  // before the directory goes
}

SUPERSTEP_WORLD_TEST(TrainerPrecision, OfBf16IsNotThatOfFloat32) {
  const TrainResult rounded = train(world, bf16_options()).result;
  const TrainResult exact = train(world, tiny_options()).result;
  EXPECT_NE(to_text(rounded.parameters_hash), to_text(exact.parameters_hash));
  ASSERT_TRUE(rounded.test.has_value() && exact.test.has_value());
  EXPECT_NE(rounded.test->loss, exact.test->loss);
}

SUPERSTEP_WORLD_TEST(TrainerPrecision, LearnsTheSyntheticClassesInBf16) {
  TrainOptions options = bf16_options();
  options.epochs = 12;
  const TrainResult result = train(world, options).result;
  ASSERT_TRUE(result.test.has_value());
  EXPECT_GT(result.test->accuracy, 0.8);
}

}  // namespace
}  // namespace superstep::worker

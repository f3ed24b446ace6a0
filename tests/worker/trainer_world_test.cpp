// Training as a whole: one rank alone is the oracle of every world, bit for bit.

#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "kernels/threads.h"
#include "tests/support/spmd_fixture.h"
#include "tests/support/world_directory.h"
#include "tests/worker/tiny_training.h"
#include "worker/trainer.h"

namespace superstep::worker {
namespace {

using testing::WorldDirectory;
using namespace tiny;  // NOLINT(google-build-using-namespace)

constexpr float kSomeLimit = 7.0F;

SUPERSTEP_WORLD_TEST_ON_NODES(Trainer, EveryWorldGivesTheBitsOfOneRank) {
  const TrainingOutcome oracle = train_alone(world, tiny_options());
  const TrainingOutcome outcome = train(world, tiny_options());
  expect_same_bits(outcome, oracle);
  EXPECT_EQ(outcome.result.supersteps, 9);
}

SUPERSTEP_WORLD_TEST_ON_NODES(Trainer, RandomPlacementGivesTheSameBits) {
  TrainOptions options = tiny_options();
  const TrainingOutcome oracle = train_alone(world, options);
  options.placement = SlotPlacement::kRandom;
  EXPECT_EQ(train(world, options).result.parameters_hash, oracle.result.parameters_hash);
}

SUPERSTEP_WORLD_TEST_ON_NODES(Trainer, MeasuredPlacementGivesTheSameBits) {
  TrainOptions options = tiny_options();
  options.epochs = 12;  // two decisions
  const TrainingOutcome oracle = train_alone(world, options);
  options.placement = SlotPlacement::kMeasured;
  EXPECT_EQ(train(world, options).result.parameters_hash, oracle.result.parameters_hash);
}

SUPERSTEP_WORLD_TEST_ON_NODES(Trainer, StealingGivesTheSameBits) {
  const TrainingOutcome oracle = train_alone(world, tiny_options());
  paramserver::CollocatedOptions for_server = server_options();
  for_server.dealing = paramserver::SlotDealing::kStealing;
  const TrainingOutcome stealing = train_with(world, tiny_options(), for_server);
  EXPECT_EQ(stealing.result.parameters_hash, oracle.result.parameters_hash);
  EXPECT_EQ(stealing.losses, oracle.losses);
}

SUPERSTEP_WORLD_TEST(Trainer, LearnsTheSyntheticClasses) {
  TrainOptions options = tiny_options();
  options.epochs = 12;
  const TrainResult result = train(world, options).result;
  ASSERT_TRUE(result.test.has_value());
  EXPECT_GT(result.test->accuracy, 0.8);
}

SUPERSTEP_WORLD_TEST_ON_NODES(Trainer, ResumesAtEverySuperstepWithTheBitsOfTheUninterruptedRun) {
  const TrainingOutcome oracle = train_alone(world, tiny_options());
  for (const std::int64_t stop_at : {1, 2, 3, 5, 8}) {
    const WorldDirectory directory(world);
    TrainOptions options = tiny_options();
    options.checkpoint = {
        .directory = directory.path() / "checkpoints", .every_supersteps = 1, .keep = 2};
    options.max_supersteps = stop_at;
    const TrainResult stopped = train(world, options).result;
    EXPECT_EQ(stopped.supersteps, stop_at);
    options.max_supersteps = 0;
    const TrainingOutcome resumed = train(world, options, stopped.last_checkpoint);
    EXPECT_EQ(to_text(resumed.result.parameters_hash), to_text(oracle.result.parameters_hash))
        << "stopped at " << stop_at;
    EXPECT_EQ(static_cast<std::int64_t>(resumed.losses.size()), 9 - stop_at);
  }
}

SUPERSTEP_WORLD_TEST_ON_NODES(Trainer, CheckpointsWrittenMeanwhileChangeNothing) {
  const TrainingOutcome oracle = train_alone(world, tiny_options());
  const WorldDirectory directory(world);
  TrainOptions options = tiny_options();
  options.checkpoint = {.directory = directory.path() / "checkpoints",
                        .every_supersteps = 2,
                        .keep = 20,
                        .keep_best = false,
                        .asynchronous = true};
  const TrainingOutcome outcome = train(world, options);
  EXPECT_EQ(to_text(outcome.result.parameters_hash), to_text(oracle.result.parameters_hash));
  world.sync();
  std::vector<std::string> names;
  for (const auto& path : paramserver::list_checkpoints(options.checkpoint.directory)) {
    paramserver::CheckpointReader(path).verify();
    names.push_back(path.filename().string().substr(12));
  }
  EXPECT_EQ(names, (std::vector<std::string>{"0", "2", "4", "6", "8", "9"}));  // none left out
  for (const char* name : {"step-00000002", "step-00000006"}) {
    TrainOptions alone = tiny_options();
    const TrainingOutcome resumed = train(world, alone, options.checkpoint.directory / name);
    EXPECT_EQ(to_text(resumed.result.parameters_hash), to_text(oracle.result.parameters_hash));
  }
  world.sync();
}

SUPERSTEP_WORLD_TEST(Trainer, ResumesOnAnotherNumberOfRanksWithTheSameBits) {
  const TrainingOutcome oracle = train_alone(world, tiny_options());
  const WorldDirectory directory(world);
  TrainOptions options = tiny_options();
  options.checkpoint = {
      .directory = directory.path() / "checkpoints", .every_supersteps = 2, .keep = 3};
  options.max_supersteps = 4;
  const TrainResult stopped = train(world, options).result;  // on all ranks
  options.max_supersteps = 0;
  options.checkpoint.directory.clear();
  bsp::World alone = world.split(world.rank(), 0);  // on one rank each
  const TrainingOutcome resumed = train(alone, options, stopped.last_checkpoint);
  EXPECT_EQ(to_text(resumed.result.parameters_hash), to_text(oracle.result.parameters_hash));
  world.sync();  // before the directory goes
}

SUPERSTEP_WORLD_TEST(Trainer, StopsEverywhereAtTheSameSuperstepWhenOneRankIsAsked) {
  const WorldDirectory directory(world);
  TrainOptions options = tiny_options();
  options.checkpoint = {.directory = directory.path() / "checkpoints"};
  if (world.rank() == world.size() - 1) {
    request_stop();
  }
  const TrainingOutcome stopped = train(world, options);
  world.sync();
  clear_stop_request();
  EXPECT_EQ(stopped.result.reason, StopReason::kSignal);
  EXPECT_EQ(stopped.result.supersteps, 1);
  EXPECT_TRUE(std::filesystem::exists(stopped.result.last_checkpoint / "MANIFEST"));
  world.sync();
  const TrainingOutcome resumed = train(world, options, stopped.result.last_checkpoint);
  EXPECT_EQ(resumed.result.reason, StopReason::kFinished);
}

SUPERSTEP_WORLD_TEST(Trainer, StopsEarlyWithoutImprovement) {
  TrainOptions options = tiny_options();
  options.epochs = 50;
  options.early_stopping = {.patience_epochs = 2,
                            .min_delta = 1e9};  // nothing ever counts as better
  const TrainResult result = train(world, options).result;
  EXPECT_EQ(result.reason, StopReason::kEarlyStopping);
  EXPECT_EQ(result.epochs, 3);  // the first epoch is better than none
}

SUPERSTEP_WORLD_TEST(Trainer, KeepsTheNewestCheckpointsAndTheBest) {
  const WorldDirectory directory(world);
  TrainOptions options = tiny_options();
  options.checkpoint = {
      .directory = directory.path() / "checkpoints", .every_supersteps = 1, .keep = 2};
  const TrainResult result = train(world, options).result;
  world.sync();
  const auto kept = paramserver::list_checkpoints(options.checkpoint.directory);
  EXPECT_GE(kept.size(), 2U);
  EXPECT_LE(kept.size(), 3U);
  EXPECT_EQ(kept.back(), result.last_checkpoint);
  world.sync();
}

// Counts what was left out, on this rank.
class SkipRecorder : public TrainObserver {
 public:
  void on_step(const StepReport& report) override { good_.push_back(report.superstep); }
  void on_skipped(const StepReport& report, const std::string& why) override {
    skipped_.push_back(report.superstep);
    why_ = why;
  }
  const std::vector<std::int64_t>& good() const { return good_; }
  const std::vector<std::int64_t>& skipped() const { return skipped_; }
  const std::string& why() const { return why_; }

 private:
  std::vector<std::int64_t> good_;
  std::vector<std::int64_t> skipped_;
  std::string why_;
};

struct GuardedOutcome {
  TrainResult result;
  SkipRecorder recorder;
  std::string error;  // empty: none
};

GuardedOutcome train_guarded(bsp::World& world, const TrainOptions& options, float first_parameter,
                             const std::filesystem::path& resume_from = {}) {
  kernels::set_team_size(1);
  const Model model = tiny_model();
  paramserver::CollocatedServer server(world, model.layout(), server_options());
  std::vector<float> parameters(static_cast<std::size_t>(model.layout().size()));
  model.initialize(options.batch.seed, parameters);
  if (first_parameter != 0.0F) {
    parameters[0] = first_parameter;
  }
  server.load_parameters(parameters);
  GuardedOutcome outcome;
  Trainer trainer(world, model, server, options, &outcome.recorder);
  if (!resume_from.empty()) {
    trainer.restore(paramserver::CheckpointReader(resume_from));
  }
  try {
    outcome.result = trainer.fit(tiny_data());
  } catch (const DataError& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kNumbers);
    outcome.error = error.what();
  }
  return outcome;
}

// A limit that some supersteps of the tiny training exceed and others do not.
TrainOptions options_that_skip_some() {
  TrainOptions options = tiny_options();
  options.numbers = {.on_bad = NumberOptions::OnBad::kSkip, .gradient_limit = kSomeLimit};
  return options;
}

SUPERSTEP_WORLD_TEST_ON_NODES(Trainer, LeavesTheSameSuperstepsOutOnEveryWorld) {
  bsp::World alone = world.split(world.rank(), 0);
  const GuardedOutcome oracle = train_guarded(alone, options_that_skip_some(), 0.0F);
  const GuardedOutcome outcome = train_guarded(world, options_that_skip_some(), 0.0F);
  EXPECT_EQ(oracle.error, "");
  EXPECT_FALSE(oracle.recorder.skipped().empty());
  EXPECT_FALSE(oracle.recorder.good().empty());
  EXPECT_EQ(outcome.recorder.skipped(), oracle.recorder.skipped());
  EXPECT_EQ(outcome.recorder.good(), oracle.recorder.good());
  EXPECT_EQ(to_text(outcome.result.parameters_hash), to_text(oracle.result.parameters_hash));
  EXPECT_NE(outcome.recorder.why().find("gradient of "), std::string::npos);
  EXPECT_NE(outcome.recorder.why().find("(samples "), std::string::npos);
}

SUPERSTEP_WORLD_TEST(Trainer, ResumesBetweenSuperstepsThatWereLeftOut) {
  const GuardedOutcome oracle = train_guarded(world, options_that_skip_some(), 0.0F);
  for (const std::int64_t stop_at : {1, 4, 6}) {
    const WorldDirectory directory(world);
    TrainOptions options = options_that_skip_some();
    options.checkpoint = {
        .directory = directory.path() / "checkpoints", .every_supersteps = 1, .keep = 2};
    options.max_supersteps = stop_at;
    const TrainResult stopped = train_guarded(world, options, 0.0F).result;
    options.max_supersteps = 0;
    const GuardedOutcome resumed = train_guarded(world, options, 0.0F, stopped.last_checkpoint);
    EXPECT_EQ(to_text(resumed.result.parameters_hash), to_text(oracle.result.parameters_hash))
        << "stopped at " << stop_at;
  }
}

SUPERSTEP_WORLD_TEST_ON_NODES(Trainer, StopsOnEveryRankWhenALossIsNoNumber) {
  const GuardedOutcome outcome =
      train_guarded(world, tiny_options(), std::numeric_limits<float>::quiet_NaN());
  EXPECT_NE(outcome.error.find("is no number at superstep 1 (epoch 1): rank 0, slot 0: "),
            std::string::npos)
      << outcome.error;
}

SUPERSTEP_WORLD_TEST(Trainer, StopsAfterTooManySuperstepsWereLeftOut) {
  TrainOptions options = tiny_options();
  options.numbers = {
      .on_bad = NumberOptions::OnBad::kSkip, .max_skipped = 2, .gradient_limit = 1e-30};
  const GuardedOutcome outcome = train_guarded(world, options, 0.0F);
  EXPECT_EQ(outcome.recorder.skipped(), (std::vector<std::int64_t>{1, 2}));
  EXPECT_NE(outcome.error.find("3 supersteps in a row could not be used"), std::string::npos)
      << outcome.error;
}

}  // namespace
}  // namespace superstep::worker

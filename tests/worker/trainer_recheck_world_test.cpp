// Training with gradients that are computed again: nothing changes, and a rank whose data are not
// what the others read is found.

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "kernels/threads.h"
#include "tests/support/spmd_fixture.h"
#include "tests/worker/tiny_training.h"
#include "worker/gradient_recheck.h"
#include "worker/trainer.h"

namespace superstep::worker {
namespace {

using namespace tiny;  // NOLINT(google-build-using-namespace)

TrainOptions options_with(double share) {
  TrainOptions options = tiny_options();
  options.epochs = 1;
  options.recompute_gradients = share;
  return options;
}

SUPERSTEP_WORLD_TEST_ON_NODES(TrainerRecheck, GivesTheBitsOfATrainingWithoutIt) {
  const TrainingOutcome oracle = train_alone(world, options_with(0.0));
  expect_same_bits(train(world, options_with(1.0)), oracle);
  TrainOptions random = options_with(1.0);
  random.placement = SlotPlacement::kRandom;
  expect_same_bits(train(world, random), oracle);
  paramserver::CollocatedOptions stealing = server_options();
  stealing.dealing = paramserver::SlotDealing::kStealing;
  expect_same_bits(train_with(world, options_with(1.0), stealing), oracle);
}

// Slots of eight samples, which go together.
SUPERSTEP_WORLD_TEST_ON_NODES(TrainerRecheck, GivesTheSameBitsWhereSlotsAreComputedInOnePass) {
  const auto train_even = [](bsp::World& in, double share) {
    TrainOptions options = options_with(share);
    options.batch.global_batch = 8 * kSlots;
    return train_with(in, options, server_options(), {},
                      {.train = data(2 * 8 * kSlots + 31, 1), .validation = {}, .test = {}});
  };
  bsp::World alone = world.split(world.rank(), 0);
  const TrainingOutcome oracle = train_even(alone, 0.0);
  const TrainingOutcome outcome = train_even(world, 1.0);
  EXPECT_EQ(outcome.result.parameters_hash, oracle.result.parameters_hash);
  EXPECT_EQ(outcome.losses, oracle.losses);
}

SUPERSTEP_WORLD_TEST(TrainerRecheck, IsDoneInTheSuperstepsDrawnForIt) {
  TrainOptions options = options_with(0.5);
  options.epochs = 3;
  kernels::set_team_size(1);
  const Model model = tiny_model();
  paramserver::CollocatedServer server(world, model.layout(), server_options());
  Trainer trainer(world, model, server, options);
  trainer.open(tiny_data());
  int checked = 0;
  while (trainer.has_next()) {
    trainer.compute_gradients(trainer.next_batch());
    const StepReport report = trainer.apply_gradients();
    const bool is_drawn =
        is_rechecked({.share = 0.5, .seed = options.batch.seed}, report.superstep);
    EXPECT_EQ(report.record.check_seconds > 0.0, is_drawn) << report.superstep;
    checked += is_drawn ? 1 : 0;
  }
  EXPECT_GT(checked, 0);
  EXPECT_LT(checked, 9);
}

enum class Lies : std::uint8_t { kNever, kOnce, kAlways };

// Adds one to a value of the first sample of a read.
class LyingDataset final : public Dataset {
 public:
  LyingDataset(std::shared_ptr<const Dataset> truth, Lies lies)
      : truth_(std::move(truth)), lies_(lies) {}
  std::int64_t size() const override { return truth_->size(); }
  kernels::Shape sample_shape() const override { return truth_->sample_shape(); }
  int num_classes() const override { return truth_->num_classes(); }
  std::string fingerprint() const override { return truth_->fingerprint(); }
  void read(std::span<const std::int64_t> indices, const Normalization& normalization,
            std::span<float> out, std::span<std::int64_t> labels) const override {
    truth_->read(indices, normalization, out, labels);
    const bool is_first = !indices.empty() && !was_read_.exchange(true);
    if (!indices.empty() && (lies_ == Lies::kAlways || (lies_ == Lies::kOnce && is_first))) {
      out[0] += 1.0F;
    }
  }

 private:
  std::shared_ptr<const Dataset> truth_;
  Lies lies_;
  mutable std::atomic<bool> was_read_{false};
};

// What a training says in which one rank reads something else.
std::string finding(bsp::World& world, int liar, Lies lies, double share) {
  TrainingData read = tiny_data();
  read.train =
      std::make_shared<LyingDataset>(read.train, world.rank() == liar ? lies : Lies::kNever);
  try {
    static_cast<void>(train_with(world, options_with(share), server_options(), {}, read));
  } catch (const DataError& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kCorruption);
    return error.what();
  }
  return {};
}

SUPERSTEP_WORLD_TEST_ON_NODES(TrainerRecheck, FindsTheRankThatReadSomethingElseOnce) {
  const int liar = world.size() - 1;
  const std::string said = finding(world, liar, Lies::kOnce, 1.0);
  const std::string expected =
      fmt::format("gradients of superstep 1: rank {} on {} computed a wrong gradient: slot", liar,
                  world.host_of(liar));
  EXPECT_NE(said.find(expected), std::string::npos) << said;
  EXPECT_NE(said.find("It was wrong once"), std::string::npos) << said;
  EXPECT_EQ(finding(world, liar, Lies::kOnce, 0.0), "");
}

SUPERSTEP_WORLD_TEST_ON_NODES(TrainerRecheck, FindsTheRankThatAlwaysReadsSomethingElse) {
  const std::string said = finding(world, 0, Lies::kAlways, 1.0);
  if (world.size() == 1) {
    EXPECT_EQ(said, "");
    return;
  }
  const std::string found =
      fmt::format("rank 0 on {}{} computed a wrong gradient", world.host_of(0),
                  world.size() == 2 ? " or rank 1 on " + world.host_of(1) : "");
  EXPECT_NE(said.find(found), std::string::npos) << said;
}

}  // namespace
}  // namespace superstep::worker

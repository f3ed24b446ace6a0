// Policies as whole trainings: one hash for every world, another one for another clock, and the
// same after a resume.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "tests/support/spmd_fixture.h"
#include "tests/support/world_directory.h"
#include "tests/worker/tiny_training.h"
#include "worker/trainer.h"

namespace superstep::worker {
namespace {

using testing::WorldDirectory;
using namespace tiny;  // NOLINT(google-build-using-namespace)

constexpr int kWorkers = 8;  // of 12 slots: shares of one and of two; at least as many as ranks

struct Setting {
  std::string name;
  TrainOptions options;
  paramserver::CollocatedOptions server;
};

Setting with_policy(PolicyKind kind, std::uint64_t seed = 1) {
  Setting setting{
      .name = std::string(name_of(kind)), .options = tiny_options(), .server = server_options()};
  PolicyOptions& policy = setting.options.policy;
  policy.kind = kind;
  policy.workers = kWorkers;
  policy.staleness = 2;
  policy.warm_start = 2;
  policy.backup = 2;
  policy.local_steps = 2;
  policy.local_after = 1;
  policy.delay = {.seconds_per_sample = 0.01,
                  .speed_deviation = 0.3,
                  .jitter_deviation = 0.6,
                  .bytes_per_second = 1e7,
                  .seed = seed};
  if (kind == PolicyKind::kLocal) {  // DiLoCo
    setting.options.inner.optimizer = {
        .kind = paramserver::OptimizerKind::kAdamW, .learning_rate = 0.01, .weight_decay = 1e-3};
    setting.server.optimizer = {
        .kind = paramserver::OptimizerKind::kNesterov, .learning_rate = 0.7, .momentum = 0.9};
    setting.server.num_slots = kWorkers;
  }
  return setting;
}

TrainingOutcome run(bsp::World& world, const Setting& setting,
                    const std::filesystem::path& resume_from = {}) {
  return train_with(world, setting.options, setting.server, resume_from);
}

TrainingOutcome run_alone(bsp::World& world, Setting setting) {
  setting.server.num_servers = 0;
  bsp::World alone = world.split(world.rank(), 0);
  return run(alone, setting);
}

// Whose order of messages decides the bits.
std::vector<Setting> asynchronous(std::uint64_t seed = 1) {
  Setting downpour = with_policy(PolicyKind::kAsync, seed);
  downpour.name = "async of intervals";
  downpour.options.policy.workers = 3;  // nine supersteps have three of each
  downpour.options.policy.n_push = 2;
  downpour.options.policy.n_fetch = 3;
  downpour.options.policy.warm_start = 0;
  downpour.server.optimizer.kind = paramserver::OptimizerKind::kAdagrad;
  return {with_policy(PolicyKind::kSsp, seed), with_policy(PolicyKind::kAsync, seed), downpour,
          with_policy(PolicyKind::kBackup, seed)};
}

std::vector<Setting> simulated() {
  std::vector<Setting> all = asynchronous();
  all.push_back(with_policy(PolicyKind::kLocal));
  return all;
}

SUPERSTEP_WORLD_TEST_ON_NODES(Policy, DedicatedServersGiveTheBitsOfCollocatedOnes) {
  const TrainingOutcome oracle = train_alone(world, tiny_options());
  for (int servers = 1; servers < world.size(); ++servers) {
    paramserver::CollocatedOptions for_server = server_options();
    for_server.num_servers = servers;
    expect_same_bits(train_with(world, tiny_options(), for_server), oracle);
  }
}

SUPERSTEP_WORLD_TEST_ON_NODES(Policy, SspOfStalenessZeroHasTheBitsOfBsp) {
  const TrainingOutcome oracle = train_alone(world, tiny_options());
  Setting setting = with_policy(PolicyKind::kSsp);
  setting.options.policy.staleness = 0;
  expect_same_bits(run(world, setting), oracle);
  setting.server.num_servers = world.size() - 1;
  expect_same_bits(run(world, setting), oracle);
  setting.options.policy.kind = PolicyKind::kBsp;  // with a clock
  expect_same_bits(run(world, setting), oracle);
}

SUPERSTEP_WORLD_TEST_ON_NODES(Policy, EveryWorldGivesTheBitsOfOneRank) {
  for (Setting setting : simulated()) {
    SCOPED_TRACE(setting.name);
    const TrainingOutcome oracle = run_alone(world, setting);
    expect_same_bits(run(world, setting), oracle);
    setting.server.num_servers = world.size() / 2;
    const TrainingOutcome dedicated = run(world, setting);
    expect_same_bits(dedicated, oracle);
    ASSERT_TRUE(dedicated.result.policy.has_value());
    EXPECT_EQ(dedicated.result.policy->by_staleness, oracle.result.policy->by_staleness);
    EXPECT_EQ(dedicated.result.policy->end, oracle.result.policy->end);
  }
}

SUPERSTEP_WORLD_TEST(Policy, AnotherSeedOfTheClockIsAnotherRun) {
  const TrainingOutcome bsp = train_alone(world, tiny_options());
  const std::vector<Setting> settings = asynchronous(1);
  const std::vector<Setting> others = asynchronous(2);
  for (std::size_t i = 0; i < settings.size(); ++i) {
    SCOPED_TRACE(settings[i].name);
    const Hash128 once = run(world, settings[i]).result.parameters_hash;
    EXPECT_EQ(run(world, settings[i]).result.parameters_hash, once);
    EXPECT_NE(run(world, others[i]).result.parameters_hash, once);
    EXPECT_NE(bsp.result.parameters_hash, once);
  }
}

// Nothing waits for a local worker's clock but the average, which is of all.
SUPERSTEP_WORLD_TEST(Policy, TheClockChangesNothingOfLocalSteps) {
  const TrainingOutcome once = run(world, with_policy(PolicyKind::kLocal, 1));
  const TrainingOutcome other = run(world, with_policy(PolicyKind::kLocal, 2));
  EXPECT_EQ(once.result.parameters_hash, other.result.parameters_hash);
  EXPECT_NE(once.result.policy->end, other.result.policy->end);
}

SUPERSTEP_WORLD_TEST(Policy, ResumesWithTheBitsOfTheUninterruptedRun) {
  for (const Setting& setting : simulated()) {
    SCOPED_TRACE(setting.name);
    const TrainingOutcome oracle = run_alone(world, setting);
    for (const std::int64_t stop_at : {4, 8}) {
      const WorldDirectory directory(world);
      Setting stopping = setting;
      stopping.options.checkpoint = {
          .directory = directory.path() / "checkpoints", .every_supersteps = 100, .keep = 2};
      stopping.options.checkpoint.keep_best = false;
      stopping.options.checkpoint.asynchronous = stop_at == 4;
      stopping.options.max_supersteps = stop_at;
      stopping.server.num_servers = world.size() - 1;
      const TrainResult stopped = run(world, stopping).result;
      // All ranks serve and compute.
      const TrainingOutcome resumed = run(world, setting, stopped.last_checkpoint);
      EXPECT_EQ(to_text(resumed.result.parameters_hash), to_text(oracle.result.parameters_hash))
          << "stopped at " << stop_at;
      EXPECT_EQ(resumed.result.policy->end, oracle.result.policy->end);
      EXPECT_EQ(resumed.result.policy->by_staleness, oracle.result.policy->by_staleness);
      if (stop_at == 4) {
        bsp::World alone = world.split(world.rank(), 0);
        const TrainResult one = run(alone, setting, stopped.last_checkpoint).result;
        EXPECT_EQ(to_text(one.parameters_hash), to_text(oracle.result.parameters_hash));
      }
      world.sync();  // before the directory goes
    }
  }
}

// Equal shares and the plain average of single steps of SGD: a step of SGD, but for rounding.
SUPERSTEP_WORLD_TEST(Policy, AveragesOfSingleStepsAreSgd) {
  const paramserver::OptimizerSpec sgd{.kind = paramserver::OptimizerKind::kSgd,
                                       .learning_rate = 0.05};
  TrainOptions options = tiny_options();
  options.batch.microbatches = kWorkers;
  paramserver::CollocatedOptions for_server = server_options();
  for_server.optimizer = sgd;
  for_server.num_slots = kWorkers;
  const TrainingData full{.train = data(96, 1), .validation = nullptr, .test = data(50, 3)};
  const TrainingOutcome bsp = train_with(world, options, for_server, {}, full);
  options.policy = {.kind = PolicyKind::kLocal, .workers = kWorkers, .local_steps = 1};
  options.inner.optimizer = sgd;
  for_server.optimizer = {.kind = paramserver::OptimizerKind::kSgd, .learning_rate = 1.0};
  const TrainingOutcome local = train_with(world, options, for_server, {}, full);
  ASSERT_EQ(local.losses.size(), bsp.losses.size());
  for (std::size_t i = 0; i < bsp.losses.size(); ++i) {
    // Nine steps of rounding errors in float32, of a loss of about 50.
    EXPECT_NEAR(local.losses[i], bsp.losses[i], 1e-3 * bsp.losses[i]) << "step " << i;
  }
  EXPECT_NEAR(local.result.test->loss, bsp.result.test->loss, 1e-3 * bsp.result.test->loss);
}

SUPERSTEP_WORLD_TEST(Policy, AllLearnTheSyntheticClasses) {
  if (world.size() > 1) {
    return;  // every world has the bits of one rank
  }
  for (Setting setting : simulated()) {
    SCOPED_TRACE(setting.name);
    setting.options.epochs = 30;
    // Asynchrony acts like momentum (Mitliagkas et al. 2016): with more of it nothing is learnt.
    const bool is_local = setting.options.policy.kind == PolicyKind::kLocal;
    setting.server.optimizer = {.kind = paramserver::OptimizerKind::kSgd,
                                .learning_rate = is_local ? 1.0 : 0.03};
    const TrainResult result = run(world, setting).result;
    ASSERT_TRUE(result.test.has_value());
    EXPECT_GT(result.test->accuracy, 0.5);  // of five classes
  }
}

// A batch that is left out leaves its worker where it was.
SUPERSTEP_WORLD_TEST_ON_NODES(Policy, SkipsBadNumbersWithTheBitsOfOneRank) {
  for (Setting setting : asynchronous()) {
    SCOPED_TRACE(setting.name);
    setting.options.numbers = {.on_bad = NumberOptions::OnBad::kSkip, .max_skipped = 100};
    TrainingOutcome oracle;
    for (double limit = 3.0; limit < 1e6 && oracle.losses.empty(); limit *= 1.25) {
      setting.options.numbers.gradient_limit = limit;  // the first that lets some pass
      oracle = run_alone(world, setting);
    }
    EXPECT_LT(oracle.losses.size(), 9U);
    EXPECT_GT(oracle.losses.size(), 0U);
    expect_same_bits(run(world, setting), oracle);
  }
}

SUPERSTEP_WORLD_TEST(Policy, RefusesWhatCannotBe) {
  Setting setting = with_policy(PolicyKind::kLocal);
  setting.server.num_slots = kSlots;
  EXPECT_THROW(run(world, setting), InvalidArgument);
  setting = with_policy(PolicyKind::kAsync);
  setting.options.recompute_gradients = 0.5;
  EXPECT_THROW(run(world, setting), InvalidArgument);
  setting = with_policy(PolicyKind::kSsp);
  setting.options.policy.staleness = -1;
  EXPECT_THROW(run(world, setting), InvalidArgument);
}

}  // namespace
}  // namespace superstep::worker

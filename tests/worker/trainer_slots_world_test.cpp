// Training with a rank's slots in one pass: the same bits, and the same findings of bad numbers, as
// with one slot after the other.

#include <algorithm>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "kernels/threads.h"
#include "tests/support/spmd_fixture.h"
#include "tests/worker/tiny_training.h"
#include "worker/trainer.h"

namespace superstep::worker {
namespace {

using namespace tiny;  // NOLINT(google-build-using-namespace)

// 8 samples a slot, and an uneven last batch.
TrainOptions even_options(SlotPasses passes, kernels::Precision precision) {
  TrainOptions options = tiny_options();
  options.epochs = 2;
  options.batch.global_batch = 8 * kSlots;
  options.slot_passes = passes;
  options.precision = precision;
  return options;
}

TrainingOutcome train_even(bsp::World& world, const TrainOptions& options,
                           paramserver::SlotDealing dealing = paramserver::SlotDealing::kAsPlaced) {
  paramserver::CollocatedOptions for_server = server_options();
  for_server.dealing = dealing;
  return train_with(
      world, options, for_server, {},
      {.train = data(2 * 8 * kSlots + 31, 1), .validation = nullptr, .test = nullptr});
}

void expect_same_bits_in_one_pass(bsp::World& world, kernels::Precision precision) {
  bsp::World alone = world.split(world.rank(), 0);
  const TrainingOutcome oracle = train_even(alone, even_options(SlotPasses::kOneByOne, precision));
  for (const SlotPlacement placement : {SlotPlacement::kContiguous, SlotPlacement::kRandom}) {
    TrainOptions options = even_options(SlotPasses::kTogether, precision);
    options.placement = placement;
    const TrainingOutcome outcome = train_even(world, options);
    EXPECT_EQ(to_text(outcome.result.parameters_hash), to_text(oracle.result.parameters_hash));
    EXPECT_EQ(outcome.losses, oracle.losses);
  }
  const TrainingOutcome stealing = train_even(world, even_options(SlotPasses::kTogether, precision),
                                              paramserver::SlotDealing::kStealing);
  EXPECT_EQ(to_text(stealing.result.parameters_hash), to_text(oracle.result.parameters_hash));
}

SUPERSTEP_WORLD_TEST_ON_NODES(TrainerSlots, InOnePassGiveTheBitsOfOneAfterTheOther) {
  expect_same_bits_in_one_pass(world, kernels::Precision::kFloat32);
}

SUPERSTEP_WORLD_TEST_ON_NODES(TrainerSlots, InOnePassGiveTheBitsOfOneAfterTheOtherInBf16) {
  expect_same_bits_in_one_pass(world, kernels::Precision::kBfloat16);
}

constexpr std::int64_t kSamplesPerSlot = 8;
constexpr std::int64_t kValues = 16;  // of a sample
constexpr float kHuge = 3e38F;

// Samples of small numbers; value 0 of the samples in `huge` is close to the largest float. With
// weights of zero the loss is finite, and half of that number is the gradient of one such sample;
// a sum of three is infinite.
class HugeDataset final : public Dataset {
 public:
  explicit HugeDataset(std::vector<std::int64_t> huge) : huge_(std::move(huge)) {}
  std::int64_t size() const override { return kSamplesPerSlot * kSlots; }
  kernels::Shape sample_shape() const override { return {kValues}; }
  int num_classes() const override { return 2; }
  std::string fingerprint() const override { return "huge"; }
  void read(std::span<const std::int64_t> indices, const Normalization& /*normalization*/,
            std::span<float> out, std::span<std::int64_t> labels) const override {
    std::fill(out.begin(), out.end(), 0.5F);
    std::fill(labels.begin(), labels.end(), 1);
    for (std::size_t i = 0; i < indices.size(); ++i) {
      const bool is_huge = std::find(huge_.begin(), huge_.end(), indices[i]) != huge_.end();
      out[i * kValues] = is_huge ? kHuge : 0.0F;
    }
  }

 private:
  std::vector<std::int64_t> huge_;
};

// What one step over all samples says of its numbers; empty: nothing.
std::string finding(bsp::World& world, const std::vector<std::int64_t>& huge, SlotPasses passes) {
  kernels::set_team_size(1);
  const Model model = Model::build(Sequential{Dense{.units = 2}}, {kValues}, 2);
  paramserver::CollocatedServer server(world, model.layout(), server_options());
  const std::vector<float> zeros(static_cast<std::size_t>(model.layout().size()), 0.0F);
  server.load_parameters(zeros);
  TrainOptions options;
  options.batch = {.global_batch = kSamplesPerSlot * kSlots, .microbatches = kSlots, .seed = 3};
  options.slot_passes = passes;
  Trainer trainer(world, model, server, options);
  try {
    static_cast<void>(trainer.fit(
        {.train = std::make_shared<HugeDataset>(huge), .validation = nullptr, .test = nullptr}));
  } catch (const DataError& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kNumbers);
    return error.what();
  }
  return {};
}

std::vector<std::int64_t> first(std::int64_t count) {
  std::vector<std::int64_t> samples(static_cast<std::size_t>(count));
  std::iota(samples.begin(), samples.end(), 0);
  return samples;
}

SUPERSTEP_WORLD_TEST_ON_NODES(TrainerSlots, InOnePassNameTheSlotAndTheSamplesOfABadGradient) {
  // With half of the samples some slot has four of them, wherever the shuffle puts them.
  const std::vector<std::int64_t> huge = first(kSamplesPerSlot * kSlots / 2);
  const std::string expected = finding(world, huge, SlotPasses::kOneByOne);
  EXPECT_NE(expected.find("slot "), std::string::npos) << expected;
  EXPECT_NE(expected.find("(samples "), std::string::npos) << expected;
  EXPECT_EQ(finding(world, huge, SlotPasses::kTogether), expected);
}

SUPERSTEP_WORLD_TEST_ON_NODES(TrainerSlots, InOnePassBlameNoSlotForWhatOnlyTheirSumIs) {
  for (const std::int64_t count : {1, 3, 6}) {
    const std::string expected = finding(world, first(count), SlotPasses::kOneByOne);
    EXPECT_EQ(finding(world, first(count), SlotPasses::kTogether), expected) << count;
  }
  EXPECT_EQ(finding(world, first(1), SlotPasses::kTogether), "");
}

}  // namespace
}  // namespace superstep::worker

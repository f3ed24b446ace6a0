// Several slots in one pass have the bits of one slot after the other.
#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/aligned.h"
#include "base/philox.h"
#include "bsp/slot_tree.h"
#include "kernels/threads.h"
#include "worker/step_programs.h"

namespace superstep::worker {
namespace {

using kernels::DType;
using kernels::Shape;
using kernels::Tensor;

SlotBatch random_batch(const Model& model, int slot, std::int64_t num_samples) {
  std::vector<std::int64_t> sizes{num_samples};
  const std::span<const std::int64_t> sample = model.sample_shape().sizes();
  sizes.insert(sizes.end(), sample.begin(), sample.end());
  SlotBatch batch{.slot = slot,
                  .images = Tensor::zeros(Shape(std::move(sizes)), DType::kFloat32),
                  .labels = Tensor::zeros(Shape{num_samples}, DType::kInt64),
                  .sample_ids = Tensor::zeros(Shape{num_samples}, DType::kInt64)};
  PhiloxStream numbers(11, slot);
  for (float& value : batch.images.mutable_data<float>()) {
    value = numbers.uniform() - 0.3F;
  }
  for (std::int64_t& label : batch.labels.mutable_data<std::int64_t>()) {
    label =
        static_cast<std::int64_t>(numbers.below(static_cast<std::uint64_t>(model.num_classes())));
  }
  std::int64_t id = 1000 * slot;
  for (std::int64_t& sample_id : batch.sample_ids.mutable_data<std::int64_t>()) {
    sample_id = ++id;
  }
  return batch;
}

// Gradients and summaries of slots [begin, end), by the plain loop.
class PlainLoop {
 public:
  PlainLoop(StepPrograms& programs, std::span<const SlotBatch> batches, std::int64_t size)
      : programs_(programs), batches_(batches), size_(size) {}

  std::vector<float> sum(bsp::SlotRange range) {
    if (range.length() == 1) {
      AlignedBuffer<float> gradient(size_);
      std::fill(gradient.span().begin(), gradient.span().end(), 0.0F);
      summaries_.push_back(
          programs_.train(batches_[static_cast<std::size_t>(range.begin)], 3, gradient.span()));
      return {gradient.span().begin(), gradient.span().end()};
    }
    const int middle = bsp::split_point(range);
    std::vector<float> left = sum({range.begin, middle});
    const std::vector<float> right = sum({middle, range.end});
    std::transform(left.begin(), left.end(), right.begin(), left.begin(),
                   [](float a, float b) { return a + b; });
    return left;
  }
  const std::vector<paramserver::SlotSummary>& summaries() const { return summaries_; }

 private:
  StepPrograms& programs_;
  std::span<const SlotBatch> batches_;
  std::int64_t size_;
  std::vector<paramserver::SlotSummary> summaries_;
};

void expect_equal_bits(const Sequential& layers, const Shape& sample, int num_slots,
                       std::int64_t num_samples,
                       kernels::Precision precision = kernels::Precision::kFloat32) {
  SCOPED_TRACE(std::to_string(num_slots) + " slots of " + std::to_string(num_samples));
  kernels::set_team_size(1);
  const Model model = Model::build(layers, sample, 10);
  const std::int64_t size = model.layout().size();
  AlignedBuffer<float> parameters(size);
  model.initialize(5, parameters.span());
  std::vector<SlotBatch> batches;
  batches.reserve(static_cast<std::size_t>(num_slots));
  for (int slot = 0; slot < num_slots; ++slot) {
    batches.push_back(random_batch(model, slot, num_samples));
  }
  StepPrograms programs(model, parameters.span(), {.seed = 7, .precision = precision});
  PlainLoop plain(programs, batches, size);
  const std::vector<float> expected = plain.sum({0, num_slots});

  ASSERT_TRUE(programs.can_train_together(batches));
  AlignedBuffer<float> sum(size);
  std::vector<paramserver::SlotSummary> summaries(batches.size());
  for (int repetition = 0; repetition < 2; ++repetition) {
    std::fill(sum.span().begin(), sum.span().end(), 0.0F);  // padding
    programs.train_together(batches, 3, sum.span(), summaries);
    for (std::size_t i = 0; i < batches.size(); ++i) {
      EXPECT_EQ(summaries[i].loss_sum, plain.summaries()[i].loss_sum);
      EXPECT_EQ(summaries[i].num_correct, plain.summaries()[i].num_correct);
      EXPECT_EQ(summaries[i].num_samples, num_samples);
    }
    for (const paramserver::LayoutEntry& entry : model.layout().entries()) {
      EXPECT_EQ(std::memcmp(sum.span().data() + entry.offset, expected.data() + entry.offset,
                            static_cast<std::size_t>(entry.num_elements()) * sizeof(float)),
                0)
          << entry.name;
    }
  }
}

TEST(SlotsTogether, OfTheTwoLayerNetworkHaveTheBitsOfThePlainLoop) {
  for (const int num_slots : {2, 3, 5, 8}) {
    expect_equal_bits(mlp_2nn(10), {1, 28, 28}, num_slots, 16);
  }
  expect_equal_bits(mlp_2nn(10), {1, 28, 28}, 8, 8);
  expect_equal_bits(mlp_2nn(10), {1, 28, 28}, 6, 64);  // more samples than one product takes
}

TEST(SlotsTogether, OfTheConvolutionalNetworkHaveTheBitsOfThePlainLoop) {
  expect_equal_bits(mcmahan_cnn(10), {1, 28, 28}, 4, 8);
  expect_equal_bits(mcmahan_cnn(10), {1, 28, 28}, 3, 16);
}

TEST(SlotsTogether, OfResNet20HaveTheBitsOfThePlainLoop) {
  expect_equal_bits(resnet20(10), {3, 32, 32}, 3, 8);
}

TEST(SlotsTogether, HaveTheBitsOfThePlainLoopInBf16) {
  constexpr kernels::Precision kBf16 = kernels::Precision::kBfloat16;
  expect_equal_bits(mlp_2nn(10), {1, 28, 28}, 5, 16, kBf16);
  expect_equal_bits(mlp_2nn(10), {1, 28, 28}, 6, 64, kBf16);
  expect_equal_bits(mcmahan_cnn(10), {1, 28, 28}, 3, 16, kBf16);
  expect_equal_bits(resnet20(10), {3, 32, 32}, 3, 8, kBf16);
}

TEST(SlotsTogether, KeepStatisticsDropoutAndActivationsOfEachSlotApart) {
  const Sequential layers{
      Conv2d{.filters = 16, .bias = false},
      BatchNorm{},
      Relu{},
      Residual{{Conv2d{.filters = 16, .stride = 2, .bias = false}, BatchNorm{}}},
      Flatten{},
      Dropout{.rate = 0.25},
      Dense{.units = 48},
      BatchNorm{},
      Tanh{},
      Dense{.units = 32},
      Sigmoid{},
      Dropout{.rate = 0.5},
      Dense{.units = 10}};
  expect_equal_bits(layers, {1, 8, 8}, 4, 8);
  expect_equal_bits(layers, {1, 8, 8}, 7, 16);
}

TEST(SlotsTogether, MustBeOfEqualSize) {
  const Model model = Model::build(mlp_2nn(10), {1, 28, 28}, 10);
  AlignedBuffer<float> parameters(model.layout().size());
  model.initialize(5, parameters.span());
  StepPrograms programs(model, parameters.span(), {.seed = 7});
  std::vector<SlotBatch> batches{random_batch(model, 0, 8), random_batch(model, 1, 9)};
  EXPECT_FALSE(programs.can_train_together(batches));
  batches = {random_batch(model, 0, 0), random_batch(model, 1, 0)};
  EXPECT_FALSE(programs.can_train_together(batches));
}

}  // namespace
}  // namespace superstep::worker

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "kernels/program.h"
#include "tests/support/error_text.h"
#include "tests/worker/model_support.h"
#include "worker/model.h"

namespace superstep::worker {
namespace {

using kernels::Shape;
using kernels::Tensor;
using superstep::testing::batch_shape;
using superstep::testing::error_text;
using superstep::testing::initial_parameters;
using superstep::testing::int64_tensor;
using superstep::testing::random_tensor;
using superstep::testing::tensor_of;
using superstep::testing::values_of;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::FloatNear;
using ::testing::HasSubstr;
using ::testing::Pointwise;

template <typename T>
std::vector<T> counting(std::size_t count) {
  std::vector<T> values(count);
  for (std::size_t i = 0; i < count; ++i) {
    values[i] = static_cast<T>(i + 1);
  }
  return values;
}

// What layers without parameters make of x (N, sample...): a model of theirs and a last dense layer
// whose weight is the identity, which changes no bit.
Model identity_model(std::vector<Layer> layers, const Shape& sample, int outputs) {
  layers.emplace_back(Flatten{});
  layers.emplace_back(Dense{.units = outputs, .bias = false});
  return Model::build(Sequential(std::move(layers)), sample, outputs);
}

template <typename T>
std::vector<Tensor> identity_parameters(int outputs) {
  const auto size = static_cast<std::size_t>(outputs);
  std::vector<T> weight(size * size, T{0});
  for (std::size_t i = 0; i < size; ++i) {
    weight[i * size + i] = T{1};
  }
  return {tensor_of<T>({outputs, outputs}, weight)};
}

template <typename T>
std::vector<T> outputs_of(std::vector<Layer> layers, const Tensor& x, int outputs) {
  const Shape sample(
      std::vector<std::int64_t>(x.shape().sizes().begin() + 1, x.shape().sizes().end()));
  const Model model = identity_model(std::move(layers), sample, outputs);
  return values_of<T>(
      model.forward({.parameters = identity_parameters<T>(outputs), .images = x}, Mode::kTraining)
          .logits);
}

template <typename T>
class ModelForward : public ::testing::Test {};
using Precisions = ::testing::Types<float, double>;
TYPED_TEST_SUITE(ModelForward, Precisions);

TYPED_TEST(ModelForward, MatchesAConvolutionByHand) {
  using T = TypeParam;
  const Model model = Model::build({Conv2d{.filters = 1, .kernel = 2, .padding = Padding::kValid},
                                    Relu{}, Flatten{}, Dense{.units = 2}},
                                   {1, 3, 3}, 2);
  const std::vector<Tensor> parameters = {
      tensor_of<T>({1, 1, 2, 2}, {0, 1, 1, 0}), tensor_of<T>({1}, {-8}),
      tensor_of<T>({4, 2}, {1, 2, 3, 4, 5, 6, 7, 8}), tensor_of<T>({2}, {0.5, -0.5})};
  const Tensor images = tensor_of<T>({1, 1, 3, 3}, counting<T>(9));
  // The other diagonal: 6, 8, 12, 14; minus 8 and rectified: 0, 0, 4, 6.
  for (const Mode mode : {Mode::kTraining, Mode::kEvaluation}) {
    const ForwardOutputs outputs =
        model.forward({.parameters = parameters, .images = images}, mode);
    EXPECT_EQ(outputs.logits.shape(), (Shape{1, 2}));
    EXPECT_THAT(values_of<T>(outputs.logits), ElementsAre(62.5, 71.5));
    EXPECT_TRUE(outputs.statistics.empty());
  }
}

TYPED_TEST(ModelForward, PadsSameConvolutionsMoreAfterThanBefore) {
  using T = TypeParam;
  const Model model =
      Model::build({Conv2d{.filters = 1, .kernel = 2, .bias = false}, Flatten{}}, {1, 2, 2}, 4);
  const std::vector<Tensor> parameters = {tensor_of<T>({1, 1, 2, 2}, {1, 10, 100, 1000})};
  const Tensor images = tensor_of<T>({1, 1, 2, 2}, {1, 2, 3, 4});
  EXPECT_THAT(
      values_of<T>(
          model.forward({.parameters = parameters, .images = images}, Mode::kEvaluation).logits),
      ElementsAre(4321, 402, 43, 4));
}

TYPED_TEST(ModelForward, PoolsByHand) {
  using T = TypeParam;
  const Tensor x = tensor_of<T>({1, 1, 3, 4}, counting<T>(12));
  EXPECT_THAT(outputs_of<T>({MaxPool{}}, x, 2), ElementsAre(6, 8));
  EXPECT_THAT(outputs_of<T>({MaxPool{.kernel = 2, .stride = 1}}, x, 6),
              ElementsAre(6, 7, 8, 10, 11, 12));
  EXPECT_THAT(outputs_of<T>({AveragePool{}}, x, 2), ElementsAre(3.5, 5.5));
  EXPECT_THAT(outputs_of<T>({GlobalAveragePool{}}, x, 1), ElementsAre(6.5));
}

TYPED_TEST(ModelForward, ShortcutTakesEverySecondPixelAndPadsChannels) {
  using T = TypeParam;
  const Model model = Model::build(
      {Residual{{Conv2d{.filters = 5, .stride = 2, .bias = false}}}, Flatten{}}, {2, 3, 3}, 20);
  const std::vector<Tensor> parameters = {Tensor::zeros({5, 2, 3, 3}, kernels::dtype_of<T>())};
  const Tensor images = tensor_of<T>({1, 2, 3, 3}, counting<T>(18));
  // Body zero: one channel of zeros before, two after.
  EXPECT_THAT(
      values_of<T>(
          model.forward({.parameters = parameters, .images = images}, Mode::kTraining).logits),
      ElementsAre(0, 0, 0, 0, 1, 3, 7, 9, 10, 12, 16, 18, 0, 0, 0, 0, 0, 0, 0, 0));
}

TYPED_TEST(ModelForward, ResidualAddsItsInput) {
  using T = TypeParam;
  const Tensor x = tensor_of<T>({2, 3}, {1, -2, 3, -4, 5, -6});
  EXPECT_THAT(outputs_of<T>({Residual{{Relu{}}}}, x, 3), ElementsAre(2, -2, 6, -4, 10, -6));
}

TYPED_TEST(ModelForward, ActivatesByHand) {
  using T = TypeParam;
  const Tensor x = tensor_of<T>({1, 2}, {0, 2});
  constexpr double kTolerance = 4 * std::numeric_limits<T>::epsilon();
  const std::vector<T> hyperbolic = outputs_of<T>({Tanh{}}, x, 2);
  EXPECT_EQ(hyperbolic[0], 0);
  EXPECT_NEAR(hyperbolic[1], std::tanh(2.0), kTolerance);
  const std::vector<T> logistic = outputs_of<T>({Sigmoid{}}, x, 2);
  EXPECT_EQ(logistic[0], T{0.5});
  EXPECT_NEAR(logistic[1], 1.0 / (1.0 + std::exp(-2.0)), kTolerance);
}

TYPED_TEST(ModelForward, BatchNormNormalisesBySlotAndReportsUnbiasedVariance) {
  using T = TypeParam;
  const Model model = Model::build(Sequential{BatchNorm{.epsilon = 1e-9}}, {2}, 2);
  const std::vector<Tensor> parameters = {tensor_of<T>({2}, {2, 1}), tensor_of<T>({2}, {0, 10}),
                                          tensor_of<T>({2}, {5, 5}), tensor_of<T>({2}, {4, 4})};
  const Tensor x = tensor_of<T>({4, 2}, {1, 0, 2, 0, 3, 0, 4, 8});
  const ForwardOutputs outputs =
      model.forward({.parameters = parameters, .images = x}, Mode::kTraining);
  // Column 0: mean 2.5, squares 2.25 + 0.25 + 0.25 + 2.25 = 5. Column 1: mean 2, squares 48.
  const double deviation0 = std::sqrt(5.0 / 4.0);
  const double deviation1 = std::sqrt(12.0);
  const std::vector<double> expected = {
      -3 / deviation0, 10 - 2 / deviation1, -1 / deviation0, 10 - 2 / deviation1,
      1 / deviation0,  10 - 2 / deviation1, 3 / deviation0,  10 + 6 / deviation1};
  const std::vector<T> logits = values_of<T>(outputs.logits);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(logits[i], expected[i], 1e-5) << i;
  }
  ASSERT_EQ(outputs.statistics.size(), 2U);
  EXPECT_EQ(outputs.statistics[0].first, 2);
  EXPECT_THAT(values_of<T>(outputs.statistics[0].second), ElementsAre(2.5, 2));
  EXPECT_EQ(outputs.statistics[1].first, 3);
  const std::vector<T> variance = values_of<T>(outputs.statistics[1].second);
  EXPECT_NEAR(variance[0], 5.0 / 3.0, 1e-6);
  EXPECT_NEAR(variance[1], 16.0, 1e-5);
}

TYPED_TEST(ModelForward, BatchNormOfImagesCountsEveryPixel) {
  using T = TypeParam;
  const Model model = Model::build({BatchNorm{}, Flatten{}}, {1, 1, 2}, 2);
  const Tensor x = tensor_of<T>({2, 1, 1, 2}, {1, 2, 3, 6});
  const ForwardOutputs outputs =
      model.forward({.parameters = initial_parameters<T>(model, 1), .images = x}, Mode::kTraining);
  EXPECT_THAT(values_of<T>(outputs.statistics[0].second), ElementsAre(3));
  EXPECT_NEAR(values_of<T>(outputs.statistics[1].second)[0], 14.0 / 3.0, 1e-6);
}

TYPED_TEST(ModelForward, OneValueHasNoVariance) {
  using T = TypeParam;
  const Model model = Model::build(Sequential{BatchNorm{}}, {2}, 2);
  const ForwardOutputs outputs = model.forward(
      {.parameters = initial_parameters<T>(model, 1), .images = tensor_of<T>({1, 2}, {3, -4})},
      Mode::kTraining);
  EXPECT_THAT(values_of<T>(outputs.logits), ElementsAre(0, 0));
  EXPECT_THAT(values_of<T>(outputs.statistics[0].second), ElementsAre(3, -4));
  EXPECT_THAT(values_of<T>(outputs.statistics[1].second), ElementsAre(0, 0));
}

TYPED_TEST(ModelForward, EvaluationUsesRunningStatistics) {
  using T = TypeParam;
  const Model model = Model::build(Sequential{BatchNorm{.epsilon = 0.25}}, {2}, 2);
  const std::vector<Tensor> parameters = {tensor_of<T>({2}, {2, 1}), tensor_of<T>({2}, {0, 10}),
                                          tensor_of<T>({2}, {5, -5}),
                                          tensor_of<T>({2}, {0.75, 3.75})};
  const ForwardOutputs outputs = model.forward(
      {.parameters = parameters, .images = tensor_of<T>({1, 2}, {6, 7})}, Mode::kEvaluation);
  EXPECT_THAT(values_of<T>(outputs.logits), ElementsAre(2, 16));
  EXPECT_TRUE(outputs.statistics.empty());
}

class DropoutForward : public ::testing::Test {
 protected:
  std::vector<float> logits(const Model& model, const std::vector<std::int64_t>& ids,
                            std::int64_t seed, std::int64_t epoch, Mode mode) const {
    const auto samples = static_cast<std::int64_t>(ids.size());
    const Tensor ones = Tensor::full({samples, kWidth}, kernels::DType::kFloat32, 1.0);
    return values_of<float>(model
                                .forward({.parameters = identity_parameters<float>(kWidth),
                                          .images = ones,
                                          .sample_ids = int64_tensor(ids),
                                          .random_key = int64_tensor({seed, epoch})},
                                         mode)
                                .logits);
  }
  static std::vector<float> row(const std::vector<float>& values, std::size_t index) {
    const auto begin = values.begin() + static_cast<std::ptrdiff_t>(index) * kWidth;
    return {begin, begin + kWidth};
  }

  static constexpr int kWidth = 400;
  const Model model_ = identity_model({Dropout{.rate = 0.25}}, {kWidth}, kWidth);
};

TEST_F(DropoutForward, KeepsEverythingInEvaluationAndAtRateZero) {
  EXPECT_THAT(logits(model_, {1, 2}, 1, 0, Mode::kEvaluation), ::testing::Each(1.0F));
  const Model none = identity_model({Dropout{.rate = 0.0}}, {kWidth}, kWidth);
  EXPECT_THAT(logits(none, {1, 2}, 1, 0, Mode::kTraining), ::testing::Each(1.0F));
}

TEST_F(DropoutForward, DropsTheStatedShareAndScalesTheRest) {
  const std::vector<float> values = logits(model_, {1, 2, 3, 4, 5}, 1, 0, Mode::kTraining);
  int dropped = 0;
  for (const float value : values) {
    EXPECT_TRUE(value == 0.0F || std::abs(value - 4.0F / 3.0F) < 1e-6F) << value;
    dropped += value == 0.0F ? 1 : 0;
  }
  // 2,000 draws at 0.25: standard deviation 19.4.
  EXPECT_NEAR(dropped, 500, 5 * 19.4);
}

TEST_F(DropoutForward, IsKeyedBySampleSeedEpochAndLayerNotByPlace) {
  const std::vector<float> base = logits(model_, {7, 8, 9}, 1, 0, Mode::kTraining);
  const std::vector<float> moved = logits(model_, {9, 5, 6, 7}, 1, 0, Mode::kTraining);
  EXPECT_EQ(row(moved, 0), row(base, 2));
  EXPECT_EQ(row(moved, 3), row(base, 0));
  EXPECT_NE(row(base, 0), row(base, 1));
  EXPECT_NE(logits(model_, {7, 8, 9}, 2, 0, Mode::kTraining), base);
  EXPECT_NE(logits(model_, {7, 8, 9}, 1, 1, Mode::kTraining), base);
  // Every layer of a model, nested ones too, drops elements of its own. With x = 1 the first layer
  // makes 0 or 2, the residual one 2 + (0 or 4), the last one doubles or drops: 4 and 12 are
  // equally likely and stay with probability 1/8 each.
  const Model three =
      identity_model({Dropout{.rate = 0.5}, Residual{{Dropout{.rate = 0.5}}}, Dropout{.rate = 0.5}},
                     {kWidth}, kWidth);
  const std::vector<float> values = logits(three, {1, 2, 3, 4, 5}, 1, 0, Mode::kTraining);
  // 2,000 draws at 1/8: standard deviation 14.8.
  EXPECT_NEAR(std::count(values.begin(), values.end(), 4.0F), 250, 5 * 14.8);
  EXPECT_NEAR(std::count(values.begin(), values.end(), 12.0F), 250, 5 * 14.8);
  EXPECT_NEAR(std::count(values.begin(), values.end(), 0.0F), 1'500, 5 * 19.4);
}

TEST(ModelForwardErrors, NameWhatDoesNotFit) {
  const Model model = Model::build({Flatten{}, Dropout{}, Dense{.units = 2}}, {1, 2, 2}, 2);
  const std::vector<Tensor> parameters = initial_parameters<float>(model, 1);
  const auto error_of = [&](const ForwardInputs& inputs, Mode mode) {
    return error_text<InvalidArgument>([&] { model.forward(inputs, mode); });
  };
  const Tensor images = random_tensor<float>({3, 1, 2, 2}, "images", 0, 1);
  const Tensor ids = int64_tensor({0, 1, 2});
  const Tensor key = int64_tensor({0, 0});
  EXPECT_EQ(error_of({.parameters = parameters, .images = images}, Mode::kEvaluation), "");
  EXPECT_EQ(error_of({.parameters = {}, .images = images}, Mode::kEvaluation),
            "[Model::forward] parameters: got 0 tensors, expected 2, one per entry");
  EXPECT_EQ(error_of({.parameters = parameters, .images = images}, Mode::kTraining),
            "[Model::forward] sample_ids: got nothing, expected int64 (3)");
  EXPECT_EQ(
      error_of({.parameters = parameters, .images = images, .sample_ids = ids}, Mode::kTraining),
      "[Model::forward] random_key: got nothing, expected int64 (2)");
  EXPECT_EQ(
      error_of({.parameters = parameters, .images = images, .sample_ids = key, .random_key = key},
               Mode::kTraining),
      "[Model::forward] sample_ids: got int64 (2), expected int64 (3)");
  EXPECT_EQ(error_of({.parameters = parameters, .images = random_tensor<float>({3, 4}, "i", 0, 1)},
                     Mode::kEvaluation),
            "[Model::forward] images: got float32 (3, 4), expected float32 (3, 1, 2, 2)");
  EXPECT_EQ(error_of({.parameters = parameters}, Mode::kEvaluation),
            "[Model::forward] images: got nothing, expected float32 (0, 1, 2, 2)");
  EXPECT_EQ(error_of({.parameters = parameters,
                      .images = random_tensor<double>({3, 1, 2, 2}, "images", 0, 1)},
                     Mode::kEvaluation),
            "[Model::forward] dense1/weight: got float32 (4, 2), expected float64 (4, 2)");
}

// What a recorded step gives must be what the eager one gives, bit for bit.
TEST(ModelProgram, RecordedForwardHasTheBitsOfTheEagerOne) {
  const Model model = Model::build(
      {Conv2d{.filters = 4}, BatchNorm{}, Relu{},
       Residual{{Conv2d{.filters = 6, .stride = 2, .bias = false}, BatchNorm{}, Dropout{}}},
       MaxPool{}, Flatten{}, Dense{.units = 5}},
      {2, 9, 8}, 5);
  std::vector<Tensor> inputs = initial_parameters<float>(model, 3);
  const std::size_t count = inputs.size();
  inputs.push_back(random_tensor<float>({3, 2, 9, 8}, "images", -1, 1));
  inputs.push_back(int64_tensor({4, 9, 2}));
  inputs.push_back(int64_tensor({1, 6}));
  for (const Mode mode : {Mode::kTraining, Mode::kEvaluation}) {
    const kernels::Program::Function step = [&](std::span<const Tensor> in) {
      const ForwardOutputs outputs = model.forward({.parameters = in.first(count),
                                                    .images = in[count],
                                                    .sample_ids = in[count + 1],
                                                    .random_key = in[count + 2]},
                                                   mode);
      std::vector<Tensor> all{outputs.logits};
      for (const auto& [entry, statistic] : outputs.statistics) {
        all.push_back(statistic);
      }
      return all;
    };
    std::vector<kernels::TensorType> types;
    for (const Tensor& input : inputs) {
      types.push_back({input.dtype(), input.shape()});
    }
    kernels::Program program = kernels::Program::record(types, step);
    const std::vector<Tensor> eager = step(inputs);
    ASSERT_EQ(eager.size(), mode == Mode::kTraining ? 5U : 1U);
    std::vector<Tensor> replayed;
    for (const Tensor& tensor : eager) {
      replayed.push_back(Tensor::zeros(tensor.shape(), tensor.dtype()));
    }
    program.run(inputs, replayed);
    for (std::size_t i = 0; i < eager.size(); ++i) {
      EXPECT_EQ(values_of<float>(replayed[i]), values_of<float>(eager[i])) << i;
    }
  }
}

TEST(ModelForward, EmbeddingsAreRowsOfTheirTable) {
  const Model model = Model::build(
      {Embedding{.vocabulary = 3, .units = 2}, Flatten{}, Dense{.units = 4, .bias = false}}, {2},
      4);
  std::vector<Tensor> parameters = {tensor_of<float>({3, 2}, {1, 2, 3, 4, 5, 6})};
  parameters.push_back(identity_parameters<float>(4).front());
  const auto logits = [&](const std::vector<float>& numbers) {
    return model
        .forward({.parameters = parameters, .images = tensor_of<float>({2, 2}, numbers)},
                 Mode::kEvaluation)
        .logits;
  };
  EXPECT_THAT(values_of<float>(logits({2, 0, 1, 1})), ElementsAre(5, 6, 1, 2, 3, 4, 3, 4));
  EXPECT_THROW(logits({2, 0, 1, 3}), InvalidArgument);
  EXPECT_THROW(logits({2, 0, 1, -1}), InvalidArgument);
}

}  // namespace
}  // namespace superstep::worker

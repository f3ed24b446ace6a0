// Gradients of whole models against central differences, in double precision.

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/ops.h"
#include "kernels/tape.h"
#include "tests/worker/model_support.h"
#include "worker/model.h"

namespace superstep::worker {
namespace {

using kernels::Tensor;
using paramserver::EntryRole;
using superstep::testing::batch_shape;
using superstep::testing::initial_parameters;
using superstep::testing::int64_tensor;
using superstep::testing::random_tensor;
using superstep::testing::values_of;

constexpr std::int64_t kBatchSize = 3;
constexpr double kStep = 1e-5;
// Truncation (kStep squared times a third derivative) plus rounding (epsilon / kStep), on losses
// and gradients of order one.
constexpr double kTolerance = 1e-7;

template <typename T>
class LossOfModel {
 public:
  LossOfModel(const Model& model, Mode mode)
      : model_(model),
        mode_(mode),
        images_(random_tensor<T>(batch_shape(kBatchSize, model.sample_shape()), "images", -1, 1)),
        sample_ids_(int64_tensor({11, 3, 7})),
        random_key_(int64_tensor({5, 2})) {
    std::vector<std::int64_t> labels;
    for (std::int64_t i = 0; i < kBatchSize; ++i) {
      labels.push_back((2 * i + 1) % model.num_classes());
    }
    labels_ = int64_tensor(labels);
  }

  // Numbers of things instead of pixels: 0 to vocabulary - 1.
  void read_numbers(std::int64_t vocabulary) {
    std::span<T> values = images_.template mutable_data<T>();
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<T>((3 * static_cast<std::int64_t>(i) + 1) % vocabulary);
    }
  }

  Tensor operator()(std::span<const Tensor> parameters) const {
    const ForwardOutputs outputs = model_.forward({.parameters = parameters,
                                                   .images = images_,
                                                   .sample_ids = sample_ids_,
                                                   .random_key = random_key_},
                                                  mode_);
    return kernels::sum(kernels::cross_entropy(outputs.logits, labels_));
  }

  // One gradient per trainable entry, undefined for statistics.
  std::vector<Tensor> gradient(std::vector<Tensor> parameters) const {
    kernels::Tape tape;
    std::vector<std::size_t> trainable;
    std::vector<Tensor> sources;
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      if (model_.layout().entries()[i].role == EntryRole::kTrainable) {
        parameters[i] = tape.watch(parameters[i]);
        trainable.push_back(i);
        sources.push_back(parameters[i]);
      }
    }
    const std::vector<Tensor> found = tape.gradient((*this)(parameters), sources);
    std::vector<Tensor> gradients(parameters.size());
    for (std::size_t i = 0; i < trainable.size(); ++i) {
      gradients[trainable[i]] = found[i];
    }
    return gradients;
  }

 private:
  const Model& model_;
  Mode mode_;
  Tensor images_;
  Tensor labels_;
  Tensor sample_ids_;
  Tensor random_key_;
};

// Initial values with everything that starts at a constant moved away from it.
template <typename T>
std::vector<Tensor> scattered_parameters(const Model& model) {
  std::vector<Tensor> parameters = initial_parameters<T>(model, 1);
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const std::string& name = model.layout().entries()[i].name;
    if (!name.ends_with("/weight")) {
      const bool around_one = name.ends_with("/gamma") || name.ends_with("/running_variance");
      const double middle = around_one ? 1.0 : 0.0;
      parameters[i] = random_tensor<T>(parameters[i].shape(), name, middle - 0.4, middle + 0.4);
    }
  }
  return parameters;
}

double central_difference(const LossOfModel<double>& loss, std::vector<Tensor>& parameters,
                          std::size_t entry, std::size_t element) {
  double& value = parameters[entry].mutable_data<double>()[element];
  const double before = value;
  value = before + kStep;
  const double above = loss(parameters).template item<double>();
  value = before - kStep;
  const double below = loss(parameters).template item<double>();
  value = before;
  return (above - below) / (2 * kStep);
}

void expect_gradients_match(const Model& model, Mode mode, std::int64_t vocabulary = 0) {
  LossOfModel<double> loss(model, mode);
  if (vocabulary > 0) {
    loss.read_numbers(vocabulary);
  }
  std::vector<Tensor> parameters = scattered_parameters<double>(model);
  const std::vector<Tensor> gradients = loss.gradient(parameters);
  double largest = 0.0;
  for (std::size_t entry = 0; entry < parameters.size(); ++entry) {
    if (!gradients[entry].defined()) {
      continue;
    }
    const std::vector<double> gradient = values_of<double>(gradients[entry]);
    for (std::size_t element = 0; element < gradient.size(); ++element) {
      const double numeric = central_difference(loss, parameters, entry, element);
      ASSERT_NEAR(gradient[element], numeric, kTolerance * std::max(1.0, std::abs(numeric)))
          << model.layout().entries()[entry].name << "[" << element << "]";
      largest = std::max(largest, std::abs(numeric));
    }
  }
  EXPECT_GT(largest, 0.01) << "the loss does not depend on the parameters";
}

Model residual_model() {
  return Model::build(
      {Conv2d{.filters = 3, .bias = false}, BatchNorm{}, Relu{},
       Residual{{Conv2d{.filters = 4, .stride = 2}, BatchNorm{}, Tanh{}, Dropout{.rate = 0.25},
                 Conv2d{.filters = 4, .kernel = 2, .bias = false}, BatchNorm{}}},
       Relu{}, MaxPool{}, Flatten{}, Dropout{.rate = 0.5}, Dense{.units = 4}},
      {2, 7, 6}, 4);
}

Model plain_model() {
  return Model::build(
      {Conv2d{.filters = 3, .kernel = 2, .dilation = 2, .padding = Padding::kValid}, Sigmoid{},
       AveragePool{.kernel = 2, .stride = 1}, Residual{{Conv2d{.filters = 3}, Tanh{}}},
       GlobalAveragePool{}, Dense{.units = 6}, BatchNorm{}, Tanh{}, Dense{.units = 3}},
      {1, 6, 5}, 3);
}

TEST(ModelGradient, MatchesCentralDifferencesWithBatchNormResidualAndDropout) {
  expect_gradients_match(residual_model(), Mode::kTraining);
}

TEST(ModelGradient, MatchesCentralDifferencesInEvaluationMode) {
  expect_gradients_match(residual_model(), Mode::kEvaluation);
}

TEST(ModelGradient, MatchesCentralDifferencesOfTheOtherLayers) {
  expect_gradients_match(plain_model(), Mode::kTraining);
}

TEST(ModelGradient, MatchesCentralDifferencesOfTheDensePresets) {
  expect_gradients_match(Model::build(softmax_regression(3), {2, 2, 1}, 3), Mode::kTraining);
  expect_gradients_match(Model::build({Flatten{}, Dense{.units = 5}, Relu{}, Dense{.units = 4},
                                       Relu{}, Dense{.units = 3}},
                                      {2, 2, 1}, 3),
                         Mode::kTraining);
}

// Nine numbers of a vocabulary of 7, some of them several times.
TEST(ModelGradient, MatchesCentralDifferencesOfEmbeddings) {
  expect_gradients_match(Model::build({Embedding{.vocabulary = 7, .units = 2}, Flatten{},
                                       Dense{.units = 4}, Tanh{}, Dense{.units = 5}},
                                      {3}, 5),
                         Mode::kTraining, 7);
}

TEST(ModelGradient, SinglePrecisionAgreesWithDouble) {
  for (const Model& model : {residual_model(), plain_model()}) {
    const std::vector<Tensor> exact =
        LossOfModel<double>(model, Mode::kTraining).gradient(scattered_parameters<double>(model));
    const std::vector<Tensor> single =
        LossOfModel<float>(model, Mode::kTraining).gradient(scattered_parameters<float>(model));
    for (std::size_t entry = 0; entry < exact.size(); ++entry) {
      if (!exact[entry].defined()) {
        continue;
      }
      const std::vector<double> expected = values_of<double>(exact[entry]);
      const std::vector<float> got = values_of<float>(single[entry]);
      for (std::size_t i = 0; i < expected.size(); ++i) {
        // A thousand epsilons: a chain of some ten layers, normalisation amplifying.
        ASSERT_NEAR(got[i], expected[i], 1'000 * 1.2e-7 * std::max(1.0, std::abs(expected[i])))
            << model.layout().entries()[entry].name << "[" << i << "]";
      }
    }
  }
}

}  // namespace
}  // namespace superstep::worker

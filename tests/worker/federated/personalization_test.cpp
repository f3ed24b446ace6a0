// Which layers stay with clients.
#include "worker/federated/personalization.h"

#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/error_text.h"
#include "tests/worker/federated/federated_support.h"

namespace superstep::worker {
namespace {

using Names = std::vector<std::string>;
using testing::error_text;

Names names_of(const std::vector<paramserver::LayoutEntry>& entries) {
  Names names;
  for (const paramserver::LayoutEntry& entry : entries) {
    names.push_back(entry.name);
  }
  return names;
}

PersonalizationOptions fedper(std::int64_t layers, Names names = {}) {
  return {.kind = PersonalizationKind::kFedPer, .layers = layers, .layer_names = std::move(names)};
}

Model model_with_blocks() {
  const Sequential layers{Conv2d{.filters = 2}, BatchNorm{},
                          Residual{.body = {Conv2d{.filters = 2}, BatchNorm{}}}, Flatten{},
                          Dense{.units = 5}};
  return Model::build(layers, {1, 4, 4}, 5);
}

std::string refusal(const paramserver::ParameterLayout& layout,
                    const PersonalizationOptions& options) {
  return error_text<InvalidArgument>([&] { personal_entries(layout, options); });
}

TEST(Personalization, TheLastLayersWithParametersStayAndTheOthersAreShared) {
  const Model model = testing::small_model();
  EXPECT_EQ(names_of(personal_entries(model.layout(), fedper(1))),
            (Names{"dense2/weight", "dense2/bias"}));
  EXPECT_EQ(names_of(shared_entries(model.layout(), fedper(1))),
            (Names{"dense1/weight", "dense1/bias"}));
  EXPECT_TRUE(personal_entries(model.layout(), fedper(0)).empty());
  const PersonalizationOptions ditto{.kind = PersonalizationKind::kDitto};
  EXPECT_TRUE(personal_entries(model.layout(), ditto).empty());
  EXPECT_EQ(shared_entries(model.layout(), ditto).size(), 4U);
}

TEST(Personalization, ANameStandsForEverythingBelowIt) {
  const Model model = model_with_blocks();
  EXPECT_EQ(names_of(personal_entries(model.layout(), fedper(1, {"batch_norm1"}))),
            (Names{"batch_norm1/gamma", "batch_norm1/beta", "batch_norm1/running_mean",
                   "batch_norm1/running_variance"}));
  EXPECT_EQ(personal_entries(model.layout(), fedper(1, {"residual1"})).size(), 6U);
  EXPECT_EQ(personal_entries(model.layout(), fedper(1, {"residual1/conv1", "dense1"})).size(), 4U);
  EXPECT_EQ(names_of(personal_entries(model.layout(), fedper(2))).front(),
            "residual1/batch_norm1/gamma");
}

TEST(Personalization, RefusesLayersThatAreNotThereOrAllOfThem) {
  const Model model = testing::small_model();
  EXPECT_NE(refusal(model.layout(), fedper(2)).find("got 2 of 2 layers with parameters"),
            std::string::npos);
  EXPECT_NE(refusal(model.layout(), fedper(7)).find("none would be averaged"), std::string::npos);
  EXPECT_NE(refusal(model.layout(), fedper(1, {"dense1", "dense2"})).find("none would be averaged"),
            std::string::npos);
  EXPECT_NE(refusal(model.layout(), fedper(1, {"dens2"})).find("did you mean \"dense2\"?"),
            std::string::npos);
  EXPECT_NE(refusal(model.layout(), fedper(1, {"dense"})).find("is called \"dense\""),
            std::string::npos);
  EXPECT_NE(refusal(model.layout(), fedper(1, {"dense2", "dense2"})).find("named twice"),
            std::string::npos);
}

// Statistics alone cannot be averaged into a model that learns.
TEST(Personalization, RunningStatisticsAreNoTrainableLayer) {
  const Model model = model_with_blocks();
  const std::string all = refusal(
      model.layout(),
      fedper(1, {"conv1", "batch_norm1", "residual1/conv1", "residual1/batch_norm1", "dense1"}));
  EXPECT_NE(all.find("got 5 of 5 layers"), std::string::npos) << all;
}

TEST(Personalization, RefusesNumbersOutOfRange) {
  const auto refused = [](const PersonalizationOptions& options) {
    EXPECT_THROW(validate(options), InvalidArgument);
  };
  refused({.lambda = -0.1});
  refused({.lambda = std::numeric_limits<double>::quiet_NaN()});
  refused({.epochs = 0});
  refused({.learning_rate = -1.0});
  refused({.layers = -1});
  EXPECT_NO_THROW(validate({.lambda = 0.0}));
}

}  // namespace
}  // namespace superstep::worker

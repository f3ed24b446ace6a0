#include "worker/model.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/error_text.h"

namespace superstep::worker {
namespace {

using kernels::Shape;
using paramserver::EntryRole;
using paramserver::LayoutEntry;
using ::testing::Each;
using ::testing::ElementsAre;
using testing::error_text;
using ::testing::HasSubstr;

std::string build_error(const Sequential& layers, const Shape& sample, int num_classes) {
  return error_text<InvalidArgument>([&] { Model::build(layers, sample, num_classes); });
}

std::vector<std::string> entry_names(const Model& model) {
  std::vector<std::string> names;
  for (const LayoutEntry& entry : model.layout().entries()) {
    names.push_back(entry.name);
  }
  return names;
}

TEST(Presets, HaveTheParameterCountsTheyAreKnownBy) {
  const auto count = [](const Sequential& layers, const Shape& sample) {
    return Model::build(layers, sample, 10).layout().num_parameters();
  };
  EXPECT_EQ(count(softmax_regression(10), {1, 28, 28}), 7'850);
  EXPECT_EQ(count(mlp_2nn(10), {1, 28, 28}), 199'210);
  EXPECT_EQ(count(mcmahan_cnn(10), {1, 28, 28}), 1'663'370);
  EXPECT_EQ(count(resnet20(10), {3, 32, 32}), 269'722);
}

TEST(Presets, BuildOnOtherSamplesAndClasses) {
  EXPECT_EQ(Model::build(softmax_regression(3), {5}, 3).layout().num_parameters(), 18);
  EXPECT_EQ(Model::build(mlp_2nn(2), {17}, 2).layout().num_parameters(),
            17 * 200 + 200 + 200 * 200 + 200 + 200 * 2 + 2);
  // 3x32x32: 8x8x64 features before the dense layer.
  EXPECT_EQ(Model::build(mcmahan_cnn(100), {3, 32, 32}, 100).layout().num_parameters(),
            (75 * 32 + 32) + (800 * 64 + 64) + (4096 * 512 + 512) + (512 * 100 + 100));
  // Odd sizes, one channel: 144 fewer than 432 weights in the first convolution.
  EXPECT_EQ(Model::build(resnet20(10), {1, 29, 31}, 10).layout().num_parameters(), 269'722 - 288);
}

TEST(Presets, AreFoundByName) {
  for (const std::string_view name : preset_names()) {
    EXPECT_FALSE(preset(name, 10).layers.empty()) << name;
  }
  EXPECT_EQ(preset("resnet20", 7), resnet20(7));
  try {
    preset("resnet21", 10);
    FAIL() << "resnet21 is no preset";
  } catch (const InvalidArgument& error) {
    EXPECT_STREQ(error.what(),
                 "[preset] unknown model \"resnet21\"; did you mean \"resnet20\"? (known: "
                 "softmax_regression, mlp_2nn, mcmahan_cnn, resnet20)");
  }
}

TEST(ModelBuild, NamesEntriesByKindAndNumberInOrderOfAppearance) {
  const Model model = Model::build(
      {Conv2d{.filters = 2}, BatchNorm{}, Residual{{Conv2d{.filters = 2, .bias = false}}}, Relu{},
       Residual{{Conv2d{.filters = 2}, Residual{{BatchNorm{}}}}}, Conv2d{.filters = 1}, Flatten{},
       Dense{.units = 3, .bias = false}, Dense{.units = 4}},
      {1, 4, 4}, 4);
  EXPECT_THAT(
      entry_names(model),
      ElementsAre("conv1/weight", "conv1/bias", "batch_norm1/gamma", "batch_norm1/beta",
                  "batch_norm1/running_mean", "batch_norm1/running_variance",
                  "residual1/conv1/weight", "residual2/conv1/weight", "residual2/conv1/bias",
                  "residual2/residual1/batch_norm1/gamma", "residual2/residual1/batch_norm1/beta",
                  "residual2/residual1/batch_norm1/running_mean",
                  "residual2/residual1/batch_norm1/running_variance", "conv2/weight", "conv2/bias",
                  "dense1/weight", "dense2/weight", "dense2/bias"));
  EXPECT_EQ(model.layout().entry("conv1/weight").shape, (Shape{2, 1, 3, 3}));
  EXPECT_EQ(model.layout().entry("dense1/weight").shape, (Shape{16, 3}));
  EXPECT_EQ(model.layout().entry("dense2/bias").shape, (Shape{4}));
}

TEST(ModelBuild, DecaysWeightsOnlyAndMarksStatistics) {
  const Model model =
      Model::build({Dense{.units = 3}, BatchNorm{.momentum = 0.25}, Dense{.units = 2}}, {4}, 2);
  for (const LayoutEntry& entry : model.layout().entries()) {
    EXPECT_EQ(entry.decayed, entry.name.ends_with("/weight")) << entry.name;
    const bool statistic = entry.name.find("/running_") != std::string::npos;
    EXPECT_EQ(entry.role, statistic ? EntryRole::kStatistic : EntryRole::kTrainable) << entry.name;
    if (statistic) {
      EXPECT_EQ(entry.fold, 0.25F);
    }
  }
  EXPECT_EQ(model.layout().num_parameters(), 4 * 3 + 3 + 3 + 3 + 3 * 2 + 2);
  EXPECT_TRUE(model.has_statistics());
  EXPECT_FALSE(model.has_dropout());
  const Model other = Model::build({Residual{{Dropout{}}}, Dense{.units = 2}}, {4}, 2);
  EXPECT_FALSE(other.has_statistics());
  EXPECT_TRUE(other.has_dropout());
}

TEST(ModelBuild, InfersShapesOfConvolutionsAndPools) {
  const auto output = [](Layer layer, const Shape& sample) {
    const std::string summary =
        Model::build({std::move(layer), Flatten{}, Dense{.units = 1}}, sample, 1).summary();
    // Third line: the layer under test.
    const std::size_t begin = summary.find('(', summary.find('\n', summary.find("input")));
    return summary.substr(begin, summary.find(')', begin) + 1 - begin);
  };
  EXPECT_EQ(output(Conv2d{.filters = 4, .kernel = 3}, {2, 7, 5}), "(4, 7, 5)");
  EXPECT_EQ(output(Conv2d{.filters = 4, .kernel = 4}, {2, 7, 5}), "(4, 7, 5)");
  EXPECT_EQ(output(Conv2d{.filters = 4, .kernel = 3, .dilation = 2}, {2, 7, 5}), "(4, 7, 5)");
  EXPECT_EQ(output(Conv2d{.filters = 4, .kernel = 3, .stride = 2}, {2, 7, 6}), "(4, 4, 3)");
  EXPECT_EQ(output(Conv2d{.filters = 4, .kernel = 3, .padding = Padding::kValid}, {2, 7, 5}),
            "(4, 5, 3)");
  EXPECT_EQ(
      output(
          Conv2d{.filters = 4, .kernel = 2, .stride = 2, .dilation = 3, .padding = Padding::kValid},
          {2, 7, 5}),
      "(4, 2, 1)");
  EXPECT_EQ(output(MaxPool{}, {2, 7, 5}), "(2, 3, 2)");
  EXPECT_EQ(output(MaxPool{.kernel = 3, .stride = 1}, {2, 7, 5}), "(2, 5, 3)");
  EXPECT_EQ(output(AveragePool{.kernel = 5}, {2, 7, 5}), "(2, 1, 1)");
  EXPECT_EQ(output(GlobalAveragePool{}, {2, 7, 5}), "(2)");
}

TEST(ModelBuild, NamesTheLayerThatDoesNotFit) {
  EXPECT_EQ(build_error({Conv2d{.filters = 2}, Relu{}, Dense{.units = 10}}, {1, 4, 4}, 10),
            "[Model::build] layer 3 (dense1): shape of its input: got (2, 4, 4), expected "
            "(features); put a Flatten layer before");
  EXPECT_EQ(build_error({Flatten{}, Conv2d{.filters = 2}}, {1, 4, 4}, 10),
            "[Model::build] layer 2 (conv1): shape of its input: got (16), expected an image (C, "
            "H, W)");
  EXPECT_THAT(build_error({MaxPool{}}, {16}, 10), HasSubstr("expected an image"));
  EXPECT_THAT(build_error({GlobalAveragePool{}}, {16}, 10), HasSubstr("expected an image"));
  EXPECT_EQ(build_error({MaxPool{}, MaxPool{}}, {1, 3, 8}, 10),
            "[Model::build] layer 2 (max_pool2): window larger than its (padded) input: got 2 of "
            "(1, 1, 4), expected at most 1");
  EXPECT_THAT(
      build_error({Conv2d{.filters = 1, .kernel = 3, .dilation = 2, .padding = Padding::kValid}},
                  {1, 4, 8}, 10),
      HasSubstr("layer 1 (conv1): window larger than its (padded) input: got 5"));
  EXPECT_THAT(
      build_error({BatchNorm{}}, {3, 4}, 10),
      HasSubstr("layer 1 (batch_norm1): shape of its input: got (3, 4), expected (features) "
                "or (C, H, W)"));
}

TEST(ModelBuild, NamesLayersInsideResidualBodies) {
  EXPECT_EQ(build_error({Relu{}, Residual{{Relu{}, Dense{.units = 3}}}}, {1, 4, 4}, 10),
            "[Model::build] layer 2 (residual1), layer 2 (dense1): shape of its input: got (1, 4, "
            "4), expected (features); put a Flatten layer before");
  EXPECT_EQ(build_error({Residual{{Conv2d{.filters = 2}}}, Residual{{Flatten{}}}}, {1, 4, 4}, 10),
            "[Model::build] layer 2 (residual2): no shortcut without parameters from (2, 4, 4) to "
            "(32): expected the same shape, or images with height and width divided by one stride "
            "and no fewer channels");
  EXPECT_THAT(build_error({Residual{{Conv2d{.filters = 1}}}}, {2, 4, 4}, 10),
              HasSubstr("no shortcut without parameters from (2, 4, 4) to (1, 4, 4)"));
  EXPECT_THAT(build_error({Residual{{Dense{.units = 3}}}}, {4}, 3),
              HasSubstr("no shortcut without parameters from (4) to (3)"));
  EXPECT_THAT(build_error({Residual{}}, {4}, 4),
              HasSubstr("layer 1 (residual1): body: got no layers, expected at least 1"));
  Layer deep = Relu{};
  for (int i = 0; i < 18; ++i) {
    deep = Residual{{deep}};
  }
  EXPECT_THAT(build_error(Sequential{deep}, {4}, 4), HasSubstr("nested more than 16 deep"));
}

TEST(ModelBuild, RefusesImpossibleLayerValues) {
  EXPECT_EQ(build_error({Dense{}}, {4}, 4),
            "[Model::build] layer 1 (dense1): units: got 0, expected at least 1");
  const std::vector<std::pair<Layer, std::string>> cases = {
      {Conv2d{}, "filters: got 0"},
      {Conv2d{.filters = 1, .kernel = 0}, "kernel: got 0"},
      {Conv2d{.filters = 1, .stride = 0}, "stride: got 0"},
      {Conv2d{.filters = 1, .dilation = -1}, "dilation: got -1"},
      {MaxPool{.kernel = 0}, "kernel: got 0"},
      {AveragePool{.stride = -1}, "stride: got -1"},
      {BatchNorm{.epsilon = 0.0}, "epsilon: got 0"},
      {BatchNorm{.momentum = 1.5}, "momentum: got 1.5"},
      {BatchNorm{.momentum = std::nan("")}, "momentum: got nan"},
      {Dropout{.rate = 1.0}, "rate: got 1"},
      {Dropout{.rate = -0.1}, "rate: got -0.1"}};
  for (const auto& [layer, message] : cases) {
    EXPECT_THAT(build_error(Sequential(std::vector<Layer>{layer}), {1, 8, 8}, 10),
                HasSubstr(message));
  }
}

TEST(ModelBuild, TakesAnEmbeddingAsTheFirstLayerOnly) {
  const Embedding embedding{.vocabulary = 7, .units = 2};
  const Model model = Model::build({embedding, Flatten{}, Dense{.units = 3}}, {4}, 3);
  EXPECT_EQ(model.layout().entry("embedding1/weight").shape, (kernels::Shape{7, 2}));
  EXPECT_EQ(model.layout().entry("dense1/weight").shape, (kernels::Shape{8, 3}));
  const auto refusal = [](const Sequential& layers, const kernels::Shape& shape) {
    return error_text<InvalidArgument>([&] { Model::build(layers, shape, 3); });
  };
  EXPECT_THAT(refusal({Relu{}, embedding}, {4}), HasSubstr("only the first layer"));
  EXPECT_THAT(refusal({embedding, Flatten{}}, {1, 2, 2}), HasSubstr("expected (length)"));
  EXPECT_THAT(refusal({Embedding{.vocabulary = 7}, Flatten{}}, {4}), HasSubstr("units: got 0"));
  EXPECT_THAT(refusal({Embedding{.units = 7}, Flatten{}}, {4}), HasSubstr("vocabulary: got 0"));
}

TEST(ModelBuild, RefusesAnOutputThatIsNotOneValuePerClass) {
  EXPECT_EQ(build_error({Flatten{}, Dense{.units = 9}}, {1, 4, 4}, 10),
            "[Model::build] output of the last layer: got (9), expected (10), one value per class");
  EXPECT_THAT(build_error({}, {4}, 10), HasSubstr("got (4), expected (10)"));
  EXPECT_THAT(build_error({Dense{.units = 1}}, {}, 1), HasSubstr("shape of a sample: got ()"));
  EXPECT_THAT(build_error({Dense{.units = 1}}, {0}, 1), HasSubstr("shape of a sample: got (0)"));
  EXPECT_EQ(build_error({Relu{}}, {4}, 4),
            "[Model::build] no layer has parameters: there is nothing to train");
  EXPECT_THAT(build_error({Dense{.units = 1}}, {4}, 0), HasSubstr("num_classes: got 0"));
}

TEST(ModelSummary, ListsLayersShapesAndParameters) {
  const Model model = Model::build({Conv2d{.filters = 8}, Residual{{BatchNorm{}, Relu{}}},
                                    MaxPool{}, Flatten{}, Dense{.units = 10}},
                                   {1, 28, 28}, 10);
  EXPECT_EQ(model.summary(),
            "layer          output       parameters\n"
            "input          (1, 28, 28)\n"
            "conv1          (8, 28, 28)          80\n"
            "residual1      (8, 28, 28)\n"
            "  batch_norm1  (8, 28, 28)          16\n"
            "  relu1        (8, 28, 28)\n"
            "max_pool1      (8, 14, 14)\n"
            "flatten1       (1568)\n"
            "dense1         (10)             15,690\n"
            "total                           15,786\n");
}

class ModelInitialize : public ::testing::Test {
 protected:
  static std::vector<float> values_of(const Model& model, const std::string& name,
                                      std::uint64_t seed = 1) {
    std::vector<float> buffer(static_cast<std::size_t>(model.layout().size()), 9.0F);
    model.initialize(seed, buffer);
    const LayoutEntry& entry = model.layout().entry(name);
    return {buffer.begin() + entry.offset, buffer.begin() + entry.offset + entry.num_elements()};
  }
  static double mean_square(const std::vector<float>& values) {
    double sum = 0.0;
    for (const float value : values) {
      sum += static_cast<double>(value) * value;
    }
    return sum / static_cast<double>(values.size());
  }

  Model model_ =
      Model::build({Conv2d{.filters = 64, .kernel = 5}, BatchNorm{}, Flatten{},
                    Dense{.units = 300, .initializer = Initializer::kHeNormal}, Dense{.units = 100},
                    Dense{.units = 9, .initializer = Initializer::kZeros}},
                   {3, 6, 6}, 9);
};

TEST_F(ModelInitialize, DrawsWithTheStatedVariances) {
  // The relative error of a variance of n normal (uniform) values is sqrt(2 / n) (sqrt(0.8 / n));
  // five of those are allowed.
  const std::vector<float> conv = values_of(model_, "conv1/weight");
  const double conv_variance = 2.0 / 75.0;
  EXPECT_NEAR(mean_square(conv), conv_variance, conv_variance * 5 * std::sqrt(2.0 / 4800.0));
  const std::vector<float> hidden = values_of(model_, "dense1/weight");
  const double hidden_variance = 2.0 / (64 * 36);
  EXPECT_NEAR(mean_square(hidden), hidden_variance, hidden_variance * 5 * std::sqrt(2.0 / 691'200));
  const std::vector<float> glorot = values_of(model_, "dense2/weight");
  const double half_width = std::sqrt(6.0 / 400.0);
  const double glorot_variance = half_width * half_width / 3.0;
  EXPECT_NEAR(mean_square(glorot), glorot_variance, glorot_variance * 5 * std::sqrt(0.8 / 30'000));
  EXPECT_LE(*std::max_element(glorot.begin(), glorot.end()), half_width);
  EXPECT_GE(*std::min_element(glorot.begin(), glorot.end()), -half_width);
}

TEST_F(ModelInitialize, SetsConstants) {
  EXPECT_THAT(values_of(model_, "dense3/weight"), Each(0.0F));
  EXPECT_THAT(values_of(model_, "conv1/bias"), Each(0.0F));
  EXPECT_THAT(values_of(model_, "batch_norm1/gamma"), Each(1.0F));
  EXPECT_THAT(values_of(model_, "batch_norm1/beta"), Each(0.0F));
  EXPECT_THAT(values_of(model_, "batch_norm1/running_mean"), Each(0.0F));
  EXPECT_THAT(values_of(model_, "batch_norm1/running_variance"), Each(1.0F));
}

TEST_F(ModelInitialize, DependsOnSeedEntryAndElementOnly) {
  EXPECT_EQ(values_of(model_, "dense1/weight", 1), values_of(model_, "dense1/weight", 1));
  EXPECT_NE(values_of(model_, "dense1/weight", 1), values_of(model_, "dense1/weight", 2));
  // Two entries of one shape and initialiser differ.
  const Model twins = Model::build({Dense{.units = 5}, Dense{.units = 5}}, {5}, 5);
  EXPECT_NE(values_of(twins, "dense1/weight"), values_of(twins, "dense2/weight"));
  // A part alone has the bits of the whole.
  const std::vector<float> whole = values_of(model_, "dense2/weight", 4);
  std::vector<float> part(1'000);
  fill_entry(weight_initializer(Initializer::kGlorotUniform, {.in = 300, .out = 100}), 4, 8, part,
             777);
  EXPECT_EQ(part, std::vector<float>(whole.begin() + 777, whole.begin() + 1'777));
}

TEST_F(ModelInitialize, LeavesZerosInThePadding) {
  std::vector<float> buffer(static_cast<std::size_t>(model_.layout().size()), 9.0F);
  model_.initialize(1, buffer);
  for (const LayoutEntry& entry : model_.layout().entries()) {
    std::fill_n(buffer.begin() + entry.offset, entry.num_elements(), 0.0F);
  }
  EXPECT_THAT(buffer, Each(0.0F));
}

}  // namespace
}  // namespace superstep::worker

#include "worker/model_toml.h"

#include <sstream>
#include <string>
#include <string_view>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/error_text.h"
#include "worker/model.h"

namespace superstep::worker {
namespace {

using testing::error_text;
using ::testing::HasSubstr;

Sequential read(std::string_view text, std::string_view path = "model.toml") {
  const toml::table config = toml::parse(text, path);
  return layers_from_toml(*config["model"].as_table(), 10);
}

std::string error_of(std::string_view text, std::string_view path = "model.toml") {
  return error_text<InvalidArgument>([&] { read(text, path); });
}

// Every kind, every member away from its default.
Sequential every_layer() {
  return {Conv2d{.filters = 4,
                 .kernel = 5,
                 .stride = 2,
                 .dilation = 3,
                 .padding = Padding::kValid,
                 .bias = false,
                 .initializer = Initializer::kGlorotUniform},
          BatchNorm{.epsilon = 1e-3, .momentum = 0.25},
          Residual{{Conv2d{.filters = 8, .stride = 2}, Residual{{Relu{}, Dropout{.rate = 0.125}}}}},
          MaxPool{.kernel = 3, .stride = 1},
          AveragePool{.kernel = 4, .stride = 2},
          Tanh{},
          GlobalAveragePool{},
          Flatten{},
          Dense{.units = 7, .bias = false, .initializer = Initializer::kZeros},
          Sigmoid{},
          Dense{.units = 10},
          Embedding{.vocabulary = 9, .units = 2}};
}

TEST(LayersFromToml, ReadsPresets) {
  EXPECT_EQ(read("[model]\npreset = \"mcmahan_cnn\"\n"), mcmahan_cnn(10));
}

TEST(LayersFromToml, ReadsLayersOneByOneWithDefaults) {
  EXPECT_EQ(read(R"(
    [[model.layers]]
    kind = "conv2d"
    filters = 8
    padding = "valid"
    [[model.layers]]
    kind = "relu"
    [[model.layers]]
    kind = "residual"
    body = [{kind = "batch_norm", epsilon = 1e-4}, {kind = "dropout", rate = 0}]
    [[model.layers]]
    kind = "flatten"
    [[model.layers]]
    kind = "dense"
    units = 10
    initializer = "zeros"
  )"),
            (Sequential{Conv2d{.filters = 8, .padding = Padding::kValid}, Relu{},
                        Residual{{BatchNorm{.epsilon = 1e-4}, Dropout{.rate = 0.0}}}, Flatten{},
                        Dense{.units = 10, .initializer = Initializer::kZeros}}));
}

TEST(LayersFromToml, ReadsBodiesWrittenAsTables) {
  EXPECT_EQ(read(R"(
    [[model.layers]]
    kind = "residual"
    [[model.layers.body]]
    kind = "relu"
    [[model.layers.body]]
    kind = "tanh"
  )"),
            (Sequential{Residual{{Relu{}, Tanh{}}}}));
}

TEST(LayersFromToml, ReadsBackWhatIsWritten) {
  std::ostringstream text;
  text << toml::table{{"model", layers_to_toml(every_layer())}};
  EXPECT_EQ(read(text.str()), every_layer()) << text.str();
  for (const std::string_view name : preset_names()) {
    EXPECT_EQ(layers_from_toml(layers_to_toml(preset(name, 10)), 10), preset(name, 10)) << name;
  }
}

TEST(LayersToToml, WritesDefaultsToo) {
  std::ostringstream text;
  text << layers_to_toml({MaxPool{}});
  EXPECT_THAT(text.str(), HasSubstr("kind = 'max_pool'"));
  EXPECT_THAT(text.str(), HasSubstr("kernel = 2"));
  EXPECT_THAT(text.str(), HasSubstr("stride = 0"));
}

TEST(LayersFromToml, NamesUnknownKinds) {
  EXPECT_EQ(
      error_of("[[model.layers]]\nkind = \"relu\"\n[[model.layers]]\nkind = \"conv2\"\n"),
      "[layers_from_toml] model.toml:4: model.layers[1]: unknown kind of layer \"conv2\"; did "
      "you mean \"conv2d\"? (known: dense, conv2d, max_pool, average_pool, "
      "global_average_pool, batch_norm, relu, tanh, sigmoid, flatten, dropout, residual, "
      "embedding)");
}

TEST(LayersFromToml, NamesUnknownKeys) {
  EXPECT_EQ(error_of("[[model.layers]]\nkind = \"max_pool\"\nkernal = 3\n"),
            "[layers_from_toml] model.toml:3: model.layers[0] (max_pool): unknown key \"kernal\"; "
            "did you mean \"kernel\"? (known: kind, kernel, stride)");
  EXPECT_THAT(error_of("[model]\npresets = \"resnet20\"\n"),
              HasSubstr("model.toml:2: model: unknown key \"presets\"; did you mean \"preset\"?"));
}

TEST(LayersFromToml, NamesUnknownPresetsAndNames) {
  EXPECT_THAT(error_of("[model]\npreset = \"resnet2\"\n"),
              HasSubstr("model.toml:2: model.preset: unknown preset \"resnet2\"; did you mean "
                        "\"resnet20\"?"));
  EXPECT_THAT(
      error_of("[[model.layers]]\nkind = \"conv2d\"\nfilters = 1\npadding = \"sane\"\n"),
      HasSubstr("model.toml:4: model.layers[0] (conv2d): unknown padding \"sane\"; did you mean "
                "\"same\"? (known: valid, same)"));
  EXPECT_THAT(error_of("[[model.layers]]\nkind = \"dense\"\nunits = 1\ninitializer = \"he\"\n"),
              HasSubstr("unknown initializer \"he\""));
}

TEST(LayersFromToml, NamesWrongTypes) {
  EXPECT_THAT(error_of("[[model.layers]]\nkind = \"dense\"\nunits = 3.0\n"),
              HasSubstr("model.toml:3: model.layers[0] (dense): units: got a float, expected an "
                        "integer"));
  EXPECT_THAT(error_of("[[model.layers]]\nkind = \"dense\"\nunits = 3\nbias = 1\n"),
              HasSubstr("bias: got an integer, expected true or false"));
  EXPECT_THAT(error_of("[[model.layers]]\nkind = \"dropout\"\nrate = \"much\"\n"),
              HasSubstr("rate: got a string, expected a number"));
  EXPECT_THAT(error_of("[[model.layers]]\nkind = \"conv2d\"\nfilters = 1\npadding = true\n"),
              HasSubstr("padding: got a boolean, expected a string"));
  EXPECT_THAT(error_of("[[model.layers]]\nkind = 7\n"),
              HasSubstr("kind: got an integer, expected a string"));
  EXPECT_THAT(error_of("[model]\nlayers = 3\n"),
              HasSubstr("model.layers: got an integer, expected an array of layers"));
  EXPECT_THAT(error_of("[model]\nlayers = [\"relu\"]\n"),
              HasSubstr("model.layers[0]: got a string, expected a table"));
  EXPECT_THAT(error_of("[model]\npreset = []\n"),
              HasSubstr("model.preset: got an array, expected a string"));
}

TEST(LayersFromToml, NamesImpossibleAndMissingValues) {
  EXPECT_EQ(error_of("\n[[model.layers]]\nkind = \"dense\"\n"),
            "[layers_from_toml] model.toml:2: model.layers[0] (dense): missing key \"units\"");
  EXPECT_EQ(error_of("\n[[model.layers]]\nkind = \"dense\"\nunits = 0\n"),
            "[layers_from_toml] model.toml:2: model.layers[0] (dense): units: got 0, expected at "
            "least 1");
  EXPECT_EQ(error_of("[[model.layers]]\nunits = 3\n"),
            "[layers_from_toml] model.toml:1: model.layers[0]: missing key \"kind\"");
  EXPECT_THAT(error_of("[model]\n"),
              HasSubstr("got neither of \"preset\" and \"layers\", expected one of them"));
  EXPECT_THAT(error_of("[model]\npreset = \"resnet20\"\nlayers = []\n"),
              HasSubstr("got both of \"preset\" and \"layers\", expected one of them"));
}

TEST(LayersFromToml, NamesThePathInsideBodies) {
  EXPECT_THAT(
      error_of("[model]\nlayers = [\n {kind = \"relu\"},\n {kind = \"residual\", body = [\n  {kind "
               "= \"dropout\", rate = 2}]}\n]\n"),
      HasSubstr("model.toml:5: model.layers[1] (residual).body[0] (dropout): rate: got 2, expected "
                "at least 0 and less than 1"));
  std::string deep = "{kind = \"relu\"}";
  for (int i = 0; i < 18; ++i) {
    deep = "{kind = \"residual\", body = [" + deep + "]}";
  }
  EXPECT_THAT(error_of("[model]\nlayers = [" + deep + "]\n"),
              HasSubstr("nested more than 16 deep"));
}

TEST(LayersFromToml, GivesTheLineAloneWithoutAFile) {
  EXPECT_THAT(error_of("[[model.layers]]\nkind = \"x\"\n", ""),
              HasSubstr("[layers_from_toml] line 2: model.layers[0]: unknown kind of layer"));
}

TEST(LayersFromToml, NamesTheKeyThatALayerLacks) {
  const auto error_of_layer = [](const std::string& layer) {
    return error_of("[model]\nlayers = [" + layer + "]\n");
  };
  EXPECT_THAT(error_of_layer(R"({kind = "dense"})"),
              HasSubstr("model.toml:2: model.layers[0] (dense): missing key \"units\""));
  EXPECT_THAT(error_of_layer(R"({kind = "conv2d", kernel = 5})"),
              HasSubstr("missing key \"filters\""));
  EXPECT_THAT(error_of_layer(R"({kind = "residual"})"), HasSubstr("missing key \"body\""));
  EXPECT_THAT(error_of_layer(R"({kind = "dense", units = 0})"),
              HasSubstr("units: got 0, expected at least 1"));
}

TEST(LayersFromToml, RefusesWindowsThatNoKernelCanHave) {
  for (const std::string member : {"kernel", "stride", "dilation"}) {
    EXPECT_THAT(error_of("[[model.layers]]\nkind = \"conv2d\"\nfilters = 2\n" + member +
                         " = 9223372036854775807\n"),
                HasSubstr(member + ": got 9223372036854775807, expected 1 to 1073741824"));
  }
  EXPECT_THAT(error_of("[[model.layers]]\nkind = \"max_pool\"\nstride = 9223372036854775807\n"),
              HasSubstr("stride: got 9223372036854775807, expected 0 to 1073741824"));
  EXPECT_THAT(error_of("[[model.layers]]\nkind = \"conv2d\"\nfilters = 2\nkernel = 1000000\n"
                       "dilation = 1000000\n"),
              HasSubstr("dilation * (kernel - 1) + 1: got 999999000001"));
}

TEST(ModelBuild, RefusesMoreWeightsThanCanBeCounted) {
  const auto problem = [](const Layer& layer) {
    return error_text<InvalidArgument>([&] {
      Model::build(Sequential{layer, Flatten{}, Dense{.units = 10}}, {3, 4, 4}, 10);
    });
  };
  EXPECT_THAT(problem(Conv2d{.filters = 2, .kernel = 1 << 30}),
              HasSubstr("layer 1 (conv1): weights of shape (2, 3, 1073741824, 1073741824)"));
  EXPECT_THAT(problem(Conv2d{.filters = std::int64_t{1} << 62, .kernel = 3}),
              HasSubstr("layer 1 (conv1): weights of shape"));
}

}  // namespace
}  // namespace superstep::worker

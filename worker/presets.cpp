#include <array>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "base/text.h"
#include "worker/model.h"

namespace superstep::worker {

namespace {

constexpr std::array<std::string_view, 4> kPresetNames = {"softmax_regression", "mlp_2nn",
                                                          "mcmahan_cnn", "resnet20"};

// Convolutions before batch normalisation have no bias: the mean takes it away again.
Conv2d plain_convolution(std::int64_t filters, std::int64_t stride) {
  return {.filters = filters, .kernel = 3, .stride = stride, .bias = false};
}

Residual basic_block(std::int64_t filters, std::int64_t stride) {
  return {.body = {plain_convolution(filters, stride), BatchNorm{}, Relu{},
                   plain_convolution(filters, 1), BatchNorm{}}};
}

Dense hidden(std::int64_t units) {
  return {.units = units, .initializer = Initializer::kHeNormal};
}

}  // namespace

Sequential softmax_regression(int num_classes) {
  return {Flatten{}, Dense{.units = num_classes}};
}

Sequential mlp_2nn(int num_classes) {
  return {Flatten{}, hidden(200), Relu{}, hidden(200), Relu{}, Dense{.units = num_classes}};
}

Sequential mcmahan_cnn(int num_classes) {
  return {Conv2d{.filters = 32, .kernel = 5},
          Relu{},
          MaxPool{},
          Conv2d{.filters = 64, .kernel = 5},
          Relu{},
          MaxPool{},
          Flatten{},
          hidden(512),
          Relu{},
          Dense{.units = num_classes}};
}

Sequential resnet20(int num_classes) {
  Sequential model{plain_convolution(16, 1), BatchNorm{}, Relu{}};
  constexpr int kBlocksPerStage = 3;
  for (const std::int64_t filters : {16, 32, 64}) {
    for (int block = 0; block < kBlocksPerStage; ++block) {
      model.layers.emplace_back(basic_block(filters, filters > 16 && block == 0 ? 2 : 1));
      model.layers.emplace_back(Relu{});
    }
  }
  model.layers.emplace_back(GlobalAveragePool{});
  model.layers.emplace_back(Dense{.units = num_classes});
  return model;
}

Sequential preset(std::string_view name, int num_classes) {
  constexpr std::array kMakers = {softmax_regression, mlp_2nn, mcmahan_cnn, resnet20};
  static_assert(kMakers.size() == kPresetNames.size());
  for (std::size_t i = 0; i < kPresetNames.size(); ++i) {
    if (kPresetNames[i] == name) {
      return kMakers[i](num_classes);
    }
  }
  const std::vector<std::string> names(kPresetNames.begin(), kPresetNames.end());
  throw InvalidArgument("preset", fmt::format("unknown model \"{}\"{} (known: {})", name,
                                              did_you_mean(name, names), join(names)));
}

std::span<const std::string_view> preset_names() {
  return kPresetNames;
}

}  // namespace superstep::worker

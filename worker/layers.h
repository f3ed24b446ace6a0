// Layers: a model is a list of values that describe functions of (parameters, activations).
//
//   Sequential model{Conv2d{.filters = 32, .kernel = 5}, Relu{}, MaxPool{.kernel = 2}, Flatten{},
//                    Dense{.units = 10}};
//
// Layers are plain values (no pointers to parameters): Model (worker/model.h) walks the list once
// to infer shapes and lay out parameters, and again to apply it. Shapes are those of one sample:
// images (C, H, W), features (F).
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace superstep::worker {

// Initialisers, stated: fan_in and fan_out as usual; biases are zero unless said otherwise.
enum class Initializer : std::uint8_t {
  kHeNormal,       // N(0, 2 / fan_in)                                He et al. 2015
  kGlorotUniform,  // U(-a, a), a = sqrt(6 / (fan_in + fan_out))      Glorot and Bengio 2010
  kZeros,
};

// kSame keeps the spatial size at stride 1 and gives ceil(size / stride) else: the total padding is
// dilation * (kernel - 1), the larger half after.
enum class Padding : std::uint8_t { kValid, kSame };

// (F) -> (units): x W + b, W (F, units). Glorot's default suits tanh, sigmoid and the last layer.
struct Dense {
  std::int64_t units = 0;
  bool bias = true;
  Initializer initializer = Initializer::kGlorotUniform;
  friend bool operator==(const Dense&, const Dense&) = default;
};
// (C, H, W) -> (filters, OH, OW), square kernels: W (filters, C, kernel, kernel).
struct Conv2d {
  std::int64_t filters = 0;
  std::int64_t kernel = 3;
  std::int64_t stride = 1;
  std::int64_t dilation = 1;
  Padding padding = Padding::kSame;
  bool bias = true;
  Initializer initializer = Initializer::kHeNormal;
  friend bool operator==(const Conv2d&, const Conv2d&) = default;
};
// (C, H, W) -> (C, OH, OW) without padding: what does not fill a window is left out.
struct MaxPool {
  std::int64_t kernel = 2;
  std::int64_t stride = 0;  // 0: kernel
  friend bool operator==(const MaxPool&, const MaxPool&) = default;
};
struct AveragePool {
  std::int64_t kernel = 2;
  std::int64_t stride = 0;
  friend bool operator==(const AveragePool&, const AveragePool&) = default;
};
// (C, H, W) -> (C)
struct GlobalAveragePool {
  friend bool operator==(const GlobalAveragePool&, const GlobalAveragePool&) = default;
};
// Over (F) or, per channel, over (C, H, W). Training uses the statistics of the slot (ghost batch
// normalisation, Hoffer et al. 2017), evaluation the running ones.
struct BatchNorm {
  double epsilon = 1e-5;
  double momentum = 0.1;  // running = (1 - momentum) running + momentum batch
  friend bool operator==(const BatchNorm&, const BatchNorm&) = default;
};
struct Relu {
  friend bool operator==(const Relu&, const Relu&) = default;
};
struct Tanh {
  friend bool operator==(const Tanh&, const Tanh&) = default;
};
struct Sigmoid {
  friend bool operator==(const Sigmoid&, const Sigmoid&) = default;
};
// Any shape -> (F), row-major; (F) stays as it is.
struct Flatten {
  friend bool operator==(const Flatten&, const Flatten&) = default;
};
// Training: elements are zero with probability `rate`, the others scaled by 1 / (1 - rate).
struct Dropout {
  double rate = 0.5;
  friend bool operator==(const Dropout&, const Dropout&) = default;
};
// (T) numbers 0 to vocabulary - 1 -> (T, units), the rows of a table (vocabulary, units) that
// begins as N(0, 1). The first layer of a model only: what a sample holds are numbers of things
// there. With Flatten and Dense behind it a neural language model of a fixed window (Bengio et al.
// 2003).
struct Embedding {
  std::int64_t vocabulary = 0;
  std::int64_t units = 0;
  friend bool operator==(const Embedding&, const Embedding&) = default;
};
// y = body(x) + shortcut(x). Option A (He et al. 2015): where body changes the shape, the shortcut
// takes every stride-th pixel and pads the channels with zeros (half before, the larger half
// after), without parameters.
struct Residual;

// Of residual layers in each other.
inline constexpr int kMaxNesting = 16;

using Layer = std::variant<Dense, Conv2d, MaxPool, AveragePool, GlobalAveragePool, BatchNorm, Relu,
                           Tanh, Sigmoid, Flatten, Dropout, Residual, Embedding>;

struct Residual {
  std::vector<Layer> body;
};
bool operator==(const Residual& a, const Residual& b);

struct Sequential {
  std::vector<Layer> layers;
  Sequential() = default;
  Sequential(std::initializer_list<Layer> list) : layers(list) {}
  explicit Sequential(std::vector<Layer> list) : layers(std::move(list)) {}
  friend bool operator==(const Sequential&, const Sequential&) = default;
};

// "dense", "conv2d", "max_pool", ...: the names used in configuration files and messages.
std::string_view kind_of(const Layer& layer);
std::string_view name_of(Initializer initializer);  // "he_normal", "glorot_uniform", "zeros"
std::string_view name_of(Padding padding);          // "valid", "same"

// What is wrong with the layer's own values, whatever its input: "units: got 0, expected at least
// 1". Empty when nothing is. Bodies of residual layers are not visited.
std::string problem_with(const Layer& layer);

}  // namespace superstep::worker

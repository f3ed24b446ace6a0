// Layers: a model is a list of values that describe functions of (parameters, activations).
//
//   Sequential model{Conv2d{.filters = 32, .kernel = 5}, Relu{}, MaxPool{.kernel = 2}, Flatten{}, Dense{.units = 10}};
//
// Layers are plain values (no pointers to parameters): Model (worker/model.h) walks the list once to
// infer shapes and lay out parameters, and again to apply it. "same" padding keeps the spatial size at
// stride 1 (odd kernels; total padding kernel - 1, the larger half after).
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace superstep::worker {

// Initialisers, stated: fan_in and fan_out as usual; biases are zero unless said otherwise.
enum class Initializer : std::uint8_t {
  kHeNormal,       // N(0, 2 / fan_in)                                He et al. 2015
  kGlorotUniform,  // U(-a, a), a = sqrt(6 / (fan_in + fan_out))      Glorot and Bengio 2010
  kZeros,
};

enum class Padding : std::uint8_t { kValid, kSame };

struct Dense {
  std::int64_t units = 0;
  bool bias = true;
  Initializer initializer = Initializer::kGlorotUniform;
};
struct Conv2d {
  std::int64_t filters = 0;
  std::int64_t kernel = 3;
  std::int64_t stride = 1;
  std::int64_t dilation = 1;
  Padding padding = Padding::kSame;
  bool bias = true;
  Initializer initializer = Initializer::kHeNormal;
};
struct MaxPool {
  std::int64_t kernel = 2;
  std::int64_t stride = 0;  // 0: kernel
};
struct AveragePool {
  std::int64_t kernel = 2;
  std::int64_t stride = 0;
};
struct GlobalAveragePool {};
struct BatchNorm {
  double epsilon = 1e-5;
  double momentum = 0.1;    // running = (1 - momentum) running + momentum batch
};
struct Relu {};
struct Tanh {};
struct Sigmoid {};
struct Flatten {};
struct Dropout {
  double rate = 0.5;
};
// y = body(x) + shortcut(x). Option A (He et al. 2015): where body changes the shape, the shortcut takes
// every stride-th pixel and pads the channels with zeros, without parameters.
struct Residual;

using Layer = std::variant<Dense, Conv2d, MaxPool, AveragePool, GlobalAveragePool, BatchNorm, Relu, Tanh, Sigmoid, Flatten,
                           Dropout, Residual>;

struct Residual {
  std::vector<Layer> body;
};

}  // namespace superstep::worker

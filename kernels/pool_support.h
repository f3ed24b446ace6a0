// What the files of the pooling ops share: their kernels' shape, their attributes, their examples.
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/op.h"
#include "kernels/window.h"

namespace superstep::kernels {

using Sizes = std::vector<std::int64_t>;

inline std::int64_t planes_of(const Tensor& images) {
  return images.shape()[0] * images.shape()[1];
}
inline std::int64_t plane_of(const Shape& images) {
  return images[2] * images[3];
}

// The window's attributes with their defaults and, where input is given, the attribute input_shape.
Attributes pool_attributes(const Attributes& attributes, const Shape* input = nullptr);
Attributes input_shape_attribute(const Shape& input);

template <KernelFunction kFunction>
std::vector<KernelEntry> plain_kernel() {
  return {{Backend::kReference, nullptr, [](const OpSignature& signature) {
             return make_function_kernel(kFunction, signature.attributes);
           }}};
}

// One operation per tap of each window. The images are input 0, or the attribute input_shape.
double pool_flops(const OpSignature& signature);

struct PoolExample {
  Shape x;
  Attributes window;
};
std::vector<PoolExample> pool_examples();
Shape pooled_shape(const PoolExample& example);
std::vector<ExampleCall> pool_forward_examples();

OpInfo make_pool_op(std::string_view name, std::vector<TensorType> (*infer)(const OpSignature&),
                    std::vector<KernelEntry> kernels, GradientFunction gradient,
                    std::vector<ExampleCall> (*examples)());

}  // namespace superstep::kernels

#include "kernels/pool_support.h"

#include <utility>

namespace superstep::kernels {
namespace {

Sizes sizes_of(const Shape& shape) {
  return {shape.sizes().begin(), shape.sizes().end()};
}

}  // namespace

Attributes pool_attributes(const Attributes& attributes, const Shape* input) {
  const auto value = [&](std::string_view name, Sizes otherwise) {
    return attributes.contains(name) ? attributes.integers(name) : std::move(otherwise);
  };
  const Sizes kernel = attributes.integers("kernel");
  const Sizes stride = value("stride", {1, 1});
  const Sizes padding = value("padding", {0, 0, 0, 0});
  if (input == nullptr) {
    return {{"kernel", kernel}, {"stride", stride}, {"padding", padding}};
  }
  return {{"kernel", kernel},
          {"stride", stride},
          {"padding", padding},
          {"input_shape", sizes_of(*input)}};
}

Attributes input_shape_attribute(const Shape& input) {
  return {{"input_shape", sizes_of(input)}};
}

double pool_flops(const OpSignature& signature) {
  const bool backward = signature.attributes.contains("input_shape");
  const Shape images = backward ? shape_attribute("pool", signature.attributes, "input_shape")
                                : signature.inputs[0].shape;
  const Window window = make_pool_window("pool", signature.attributes, images);
  return static_cast<double>(images[0] * images[1] * window.output_plane() * window.taps());
}

std::vector<PoolExample> pool_examples() {
  return {{Shape{2, 3, 6, 8}, {{"kernel", Sizes{2, 2}}, {"stride", Sizes{2, 2}}}},
          {Shape{1, 2, 7, 5},
           {{"kernel", Sizes{3, 3}}, {"stride", Sizes{2, 1}}, {"padding", Sizes{1, 1, 1, 1}}}},
          {Shape{2, 1, 5, 9},
           {{"kernel", Sizes{2, 3}}, {"stride", Sizes{1, 3}}, {"padding", Sizes{0, 1, 2, 0}}}}};
}

Shape pooled_shape(const PoolExample& example) {
  const Window window = make_pool_window("pool", example.window, example.x);
  return {example.x[0], example.x[1], window.rows.output, window.columns.output};
}

std::vector<ExampleCall> pool_forward_examples() {
  std::vector<ExampleCall> calls;
  for (const PoolExample& example : pool_examples()) {
    calls.push_back(
        {{{DType::kFloat32, example.x}}, pool_attributes(example.window), {{-1.0, 1.0}}});
  }
  return calls;
}

OpInfo make_pool_op(std::string_view name, std::vector<TensorType> (*infer)(const OpSignature&),
                    std::vector<KernelEntry> kernels, GradientFunction gradient,
                    std::vector<ExampleCall> (*examples)()) {
  OpInfo op;
  op.name = name;
  op.infer = infer;
  op.kernels = std::move(kernels);
  op.gradient = gradient;
  op.examples = examples;
  return op;
}

}  // namespace superstep::kernels

#include "kernels/norm_ops.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "kernels/batch_norm.h"
#include "kernels/blocked_channel_ops.h"
#include "kernels/channel_sums.h"
#include "kernels/op_table.h"
#include "kernels/ops.h"
#include "kernels/signature_checks.h"
#include "kernels/tape.h"

namespace superstep::kernels {
namespace {

constexpr std::string_view kTraining = "batch_norm";
constexpr std::string_view kBackward = "batch_norm_backward";
constexpr std::string_view kInference = "batch_norm_inference";

// ---- signatures ----

void expect_epsilon(std::string_view op, const Attributes& attributes) {
  const double epsilon = attributes.real("epsilon");
  if (!(epsilon > 0.0) || !std::isfinite(epsilon)) {
    throw InvalidArgument(
        op, fmt::format("attribute epsilon: got {}, expected a positive number", epsilon));
  }
}

// x is input `x_index`; the inputs from `first_parameter` on are (C).
void expect_normalisation(std::string_view op, const OpSignature& signature,
                          std::initializer_list<std::string_view> names, std::size_t x_index,
                          std::size_t first_parameter) {
  expect_floating_inputs(op, signature, names);
  const TensorType& x = signature.inputs[x_index];
  expect_min_rank(op, "x", x, 2);
  for (std::size_t i = first_parameter; i < names.size(); ++i) {
    expect_shape(op, names.begin()[i], signature.inputs[i], Shape{x.shape[1]});
  }
  expect_epsilon(op, signature.attributes);
}

std::vector<TensorType> infer_training(const OpSignature& signature) {
  expect_normalisation(kTraining, signature, {"x", "gamma", "beta"}, 0, 1);
  const TensorType& x = signature.inputs[0];
  const TensorType statistic{x.dtype, Shape{x.shape[1]}};
  return {x, statistic, statistic};
}

std::vector<TensorType> infer_backward(const OpSignature& signature) {
  expect_normalisation(kBackward, signature, {"grad", "x", "gamma", "mean", "variance"}, 1, 2);
  const TensorType& x = signature.inputs[1];
  expect_shape(kBackward, "grad", signature.inputs[0], x.shape);
  const TensorType parameter{x.dtype, Shape{x.shape[1]}};
  return {x, parameter, parameter};
}

std::vector<TensorType> infer_inference(const OpSignature& signature) {
  expect_normalisation(kInference, signature, {"x", "gamma", "beta", "mean", "variance"}, 0, 1);
  return {signature.inputs[0]};
}

// ---- gradients ----

// (C) as (1, C, 1, ...), to broadcast against x.
Tensor per_channel(const Tensor& values, const Tensor& x) {
  std::vector<std::int64_t> sizes(static_cast<std::size_t>(x.shape().rank()), 1);
  sizes[1] = values.num_elements();
  return reshape(values, Shape(std::move(sizes)));
}

Tensor sum_per_channel(const Tensor& x) {
  ReduceOptions options;
  for (int axis = 0; axis < x.shape().rank(); ++axis) {
    if (axis != 1) {
      options.axes.push_back(axis);
    }
  }
  return sum(x, options);
}

double inverse_count(const Tensor& x) {
  return 1.0 / static_cast<double>(std::max<std::int64_t>(1, ChannelView::of(x.shape()).count()));
}

Tensor inverse_deviation(const Tensor& variance, double epsilon) {
  return rsqrt(add(variance, Tensor::full(Shape{}, variance.dtype(), epsilon)));
}

// The ops in terms of simple ones; inputs and outputs as theirs.
std::vector<Tensor> compose_inference(std::span<const Tensor> inputs, double epsilon) {
  const Tensor& x = inputs[0];
  const Tensor factor = mul(inputs[1], inverse_deviation(inputs[4], epsilon));
  const Tensor scaled = mul(sub(x, per_channel(inputs[3], x)), per_channel(factor, x));
  return {add(scaled, per_channel(inputs[2], x))};
}

std::vector<Tensor> compose_backward(std::span<const Tensor> inputs, double epsilon) {
  const Tensor& grad = inputs[0];
  const Tensor& x = inputs[1];
  const Tensor inverse = inverse_deviation(inputs[4], epsilon);
  const Tensor normalised = mul(sub(x, per_channel(inputs[3], x)), per_channel(inverse, x));
  const Tensor dbeta = sum_per_channel(grad);
  const Tensor dgamma = sum_per_channel(mul(grad, normalised));
  const Tensor mean_of_grad = per_channel(scale(dbeta, inverse_count(x)), x);
  const Tensor along_x = mul(normalised, per_channel(scale(dgamma, inverse_count(x)), x));
  const Tensor centred = sub(sub(grad, mean_of_grad), along_x);
  return {mul(centred, per_channel(mul(inputs[2], inverse), x)), dgamma, dbeta};
}

using Composition = std::vector<Tensor> (*)(std::span<const Tensor> inputs, double epsilon);

// Differentiates the composition on a tape of its own; what it computes keeps the links of the
// inputs to other tapes, so that those can differentiate it further.
template <Composition kComposition>
std::vector<Tensor> gradient_by_composition(const GradientContext& context) {
  Tape tape;
  std::vector<Tensor> inputs(context.inputs.begin(), context.inputs.end());
  std::vector<Tensor> sources;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (context.needs_input_gradient[i]) {
      inputs[i] = tape.watch(inputs[i]);
      sources.push_back(inputs[i]);
    }
  }
  const std::vector<Tensor> outputs = kComposition(inputs, context.attributes.real("epsilon"));
  Tensor target;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (context.output_gradients[i].defined()) {
      const Tensor term = sum(mul(outputs[i], context.output_gradients[i]));
      target = target.defined() ? add(target, term) : term;
    }
  }
  const std::vector<Tensor> found = tape.gradient(target, sources);
  std::vector<Tensor> gradients(inputs.size());
  for (std::size_t i = 0, next = 0; i < inputs.size(); ++i) {
    if (context.needs_input_gradient[i]) {
      gradients[i] = found[next++];
    }
  }
  return gradients;
}

// What flows into the statistics: d mean / dx = 1 / m, d variance / dx = 2 (x - mean) / m.
Tensor gradient_through_statistics(const GradientContext& context) {
  const Tensor& x = context.inputs[0];
  Tensor total;
  if (const Tensor& dmean = context.output_gradients[1]; dmean.defined()) {
    total = broadcast_to(per_channel(scale(dmean, inverse_count(x)), x), x.shape());
  }
  if (const Tensor& dvariance = context.output_gradients[2]; dvariance.defined()) {
    const Tensor deviation = sub(x, per_channel(context.outputs[1], x));
    const Tensor term = mul(deviation, per_channel(scale(dvariance, 2.0 * inverse_count(x)), x));
    total = total.defined() ? add(total, term) : term;
  }
  return total;
}

std::vector<Tensor> gradient_of_training(const GradientContext& context) {
  std::vector<Tensor> gradients(3);
  if (context.output_gradients[0].defined()) {
    const std::vector<Tensor> inputs = {context.output_gradients[0], context.inputs[0],
                                        context.inputs[1], context.outputs[1], context.outputs[2]};
    gradients = apply(kBackward, inputs, context.attributes);
  }
  if (context.needs_input_gradient[0]) {
    if (const Tensor more = gradient_through_statistics(context); more.defined()) {
      gradients[0] = gradients[0].defined() ? add(gradients[0], more) : more;
    }
  }
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    if (!context.needs_input_gradient[i]) {
      gradients[i] = Tensor{};
    }
  }
  return gradients;
}

// ---- table ----

std::vector<Shape> norm_example_shapes() {
  return {Shape{4, 3, 3, 2}, Shape{6, 5}, Shape{3, 2, 17}};
}

std::vector<ExampleCall> training_examples() {
  std::vector<ExampleCall> calls;
  for (const Shape& shape : norm_example_shapes()) {
    const TensorType x{DType::kFloat32, shape};
    const TensorType parameter{DType::kFloat32, Shape{shape[1]}};
    calls.push_back(
        {{x, parameter, parameter}, {{"epsilon", 1e-3}}, {{-1.0, 1.0}, {0.5, 1.5}, {-1.0, 1.0}}});
  }
  return calls;
}

std::vector<ExampleCall> backward_examples() {
  std::vector<ExampleCall> calls;
  for (const Shape& shape : norm_example_shapes()) {
    const TensorType x{DType::kFloat32, shape};
    const TensorType parameter{DType::kFloat32, Shape{shape[1]}};
    calls.push_back({{x, x, parameter, parameter, parameter},
                     {{"epsilon", 1e-3}},
                     {{-1.0, 1.0}, {-1.0, 1.0}, {0.5, 1.5}, {-0.5, 0.5}, {0.5, 1.5}}});
  }
  return calls;
}

std::vector<ExampleCall> inference_examples() {
  std::vector<ExampleCall> calls;
  for (const Shape& shape : norm_example_shapes()) {
    const TensorType x{DType::kFloat32, shape};
    const TensorType parameter{DType::kFloat32, Shape{shape[1]}};
    calls.push_back({{x, parameter, parameter, parameter, parameter},
                     {{"epsilon", 1e-3}},
                     {{-1.0, 1.0}, {0.5, 1.5}, {-1.0, 1.0}, {-0.5, 0.5}, {0.5, 1.5}}});
  }
  return calls;
}

// Operations per element of x, counted from the loops above.
template <int kPerElement>
double flops_per_element(const OpSignature& signature) {
  return kPerElement * static_cast<double>(signature.inputs[0].shape.num_elements());
}

template <BatchNormPass kPass>
std::vector<KernelEntry> plain_loops() {
  return {{Backend::kReference, nullptr, [](const OpSignature& signature) {
             const std::size_t x = kPass == BatchNormPass::kBackward ? 1 : 0;
             return make_batch_norm(kPass, signature.inputs[x],
                                    signature.attributes.real("epsilon"));
           }}};
}

}  // namespace

std::vector<OpInfo> norm_ops() {
  std::vector<OpInfo> ops(3);
  ops[0].name = kTraining;
  ops[0].infer = &infer_training;
  ops[0].kernels = plain_loops<BatchNormPass::kTraining>();
  ops[0].in_place = 0b1;
  ops[0].blocked = blocked_function<&run_blocked_batch_norm>();
  ops[0].gradient = &gradient_of_training;
  ops[0].flops = &flops_per_element<7>;
  ops[0].examples = &training_examples;

  ops[1].name = kBackward;
  ops[1].infer = &infer_backward;
  ops[1].kernels = plain_loops<BatchNormPass::kBackward>();
  ops[1].in_place = 0b11;
  ops[1].blocked = blocked_function<&run_blocked_batch_norm_backward>();
  ops[1].gradient = &gradient_by_composition<&compose_backward>;
  ops[1].flops = &flops_per_element<9>;
  ops[1].examples = &backward_examples;

  ops[2].name = kInference;
  ops[2].infer = &infer_inference;
  ops[2].kernels = plain_loops<BatchNormPass::kInference>();
  ops[2].in_place = 0b1;
  ops[2].blocked = blocked_function<&run_blocked_batch_norm_inference>();
  ops[2].gradient = &gradient_by_composition<&compose_inference>;
  ops[2].flops = &flops_per_element<3>;
  ops[2].examples = &inference_examples;
  return ops;
}

}  // namespace superstep::kernels

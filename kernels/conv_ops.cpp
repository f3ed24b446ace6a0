#include "kernels/conv_ops.h"

#include <string_view>
#include <utility>

#include "kernels/convolution.h"
#include "kernels/op_table.h"
#include "kernels/precision.h"
#include "kernels/rounded_operands.h"
#include "kernels/signature_checks.h"
#ifdef SUPERSTEP_HAVE_ONEDNN
#include "kernels/onednn/convolution.h"
#endif

namespace superstep::kernels {
namespace {

constexpr std::string_view kForwardName = "conv2d";
constexpr std::string_view kBackwardInputName = "conv2d_backward_input";
constexpr std::string_view kBackwardFilterName = "conv2d_backward_filter";

constexpr std::string_view name_of(ConvolutionPass pass) {
  switch (pass) {
    case ConvolutionPass::kForward:
      return kForwardName;
    case ConvolutionPass::kBackwardInput:
      return kBackwardInputName;
    case ConvolutionPass::kBackwardFilter:
      return kBackwardFilterName;
  }
  return {};
}

// ---- signatures ----

template <ConvolutionPass kPass>
Convolution convolution_of(const OpSignature& signature) {
  constexpr std::string_view op = name_of(kPass);
  const auto& inputs = signature.inputs;
  const Attributes& attributes = signature.attributes;
  if constexpr (kPass == ConvolutionPass::kForward) {
    return make_convolution(op, inputs[0].shape, inputs[1].shape, attributes);
  } else if constexpr (kPass == ConvolutionPass::kBackwardInput) {
    return make_convolution(op, shape_attribute(op, attributes, "input_shape"), inputs[1].shape,
                            attributes);
  } else {
    return make_convolution(op, inputs[0].shape, shape_attribute(op, attributes, "filter_shape"),
                            attributes);
  }
}

std::vector<TensorType> infer_forward(const OpSignature& signature) {
  expect_floating_inputs(kForwardName, signature, {"x", "filter"});
  expect_precision(kForwardName, signature);
  const Convolution convolution = convolution_of<ConvolutionPass::kForward>(signature);
  return {{signature.inputs[0].dtype, convolution.output_shape()}};
}

std::vector<TensorType> infer_backward_input(const OpSignature& signature) {
  expect_floating_inputs(kBackwardInputName, signature, {"grad", "filter"});
  expect_precision(kBackwardInputName, signature);
  const Convolution convolution = convolution_of<ConvolutionPass::kBackwardInput>(signature);
  expect_shape(kBackwardInputName, "grad", signature.inputs[0], convolution.output_shape());
  return {{signature.inputs[0].dtype, convolution.input_shape()}};
}

std::vector<TensorType> infer_backward_filter(const OpSignature& signature) {
  expect_floating_inputs(kBackwardFilterName, signature, {"x", "grad"});
  expect_precision(kBackwardFilterName, signature);
  const Convolution convolution = convolution_of<ConvolutionPass::kBackwardFilter>(signature);
  expect_shape(kBackwardFilterName, "grad", signature.inputs[1], convolution.output_shape());
  return {{signature.inputs[0].dtype, convolution.filter_shape()}};
}

template <ConvolutionPass kPass>
double flops(const OpSignature& signature) {
  return convolution_of<kPass>(signature).flops();
}

// ---- kernels ----

template <ConvolutionPass kPass>
std::unique_ptr<Kernel> make_eigen(const OpSignature& signature) {
  return with_rounded_operands(
      signature,
      make_gemm_convolution(kPass, convolution_of<kPass>(signature), signature.inputs[0].dtype));
}

#ifdef SUPERSTEP_HAVE_ONEDNN
template <ConvolutionPass kPass>
bool onednn_supports(const OpSignature& signature) {
  const Convolution convolution = convolution_of<kPass>(signature);
  return signature.inputs[0].dtype == DType::kFloat32 && convolution.flops() > 0 &&
         onednn::is_profitable(kPass, convolution);
}

// Null: nothing but naive code.
template <ConvolutionPass kPass>
std::unique_ptr<Kernel> onednn_kernel(const OpSignature& signature,
                                      const onednn::ImageLayouts& layouts) {
  const Convolution convolution = convolution_of<kPass>(signature);
  // Without the instructions oneDNN would emulate them, far slower than float32.
  if (has_bf16_instructions() && precision_of(signature.attributes) == Precision::kBfloat16) {
    if (std::unique_ptr<Kernel> kernel =
            onednn::make_convolution_kernel(kPass, convolution, layouts, Precision::kBfloat16)) {
      return kernel;
    }
  }
  return with_rounded_operands(signature,
                               onednn::make_convolution_kernel(kPass, convolution, layouts));
}

// Where oneDNN has only naive code the matrix product takes its place, for the same result much
// faster.
template <ConvolutionPass kPass>
std::unique_ptr<Kernel> make_onednn(const OpSignature& signature) {
  std::unique_ptr<Kernel> kernel = onednn_kernel<kPass>(signature, {});
  return kernel ? std::move(kernel) : make_eigen<kPass>(signature);
}

// The images of a pass among its operands; the third operand is the filter, which stays plain.
template <ConvolutionPass kPass>
std::unique_ptr<Kernel> make_blocked(const OpSignature& signature, std::span<const Layout> inputs,
                                     std::span<const Layout> outputs) {
  if (!onednn_supports<kPass>(signature)) {
    return nullptr;
  }
  onednn::ImageLayouts layouts;
  Layout filter = Layout::kPlain;
  if constexpr (kPass == ConvolutionPass::kForward) {
    layouts = {.x = inputs[0], .y = outputs[0]};
    filter = inputs[1];
  } else if constexpr (kPass == ConvolutionPass::kBackwardInput) {
    layouts = {.x = outputs[0], .y = inputs[0]};
    filter = inputs[1];
  } else {
    layouts = {.x = inputs[0], .y = inputs[1]};
    filter = outputs[0];
  }
  if (filter != Layout::kPlain) {
    return nullptr;
  }
  return onednn_kernel<kPass>(signature, layouts);
}
#endif

template <ConvolutionPass kPass>
std::vector<KernelEntry> kernels_of() {
  std::vector<KernelEntry> kernels;
#ifdef SUPERSTEP_HAVE_ONEDNN
  kernels.push_back({Backend::kOneDnn, &onednn_supports<kPass>, &make_onednn<kPass>});
#endif
  kernels.push_back({Backend::kEigen, nullptr, &make_eigen<kPass>});
  return kernels;
}

// ---- gradients ----

// The window's attributes and the precision, without the shape that only the adjoints have.
Attributes window_attributes(const Attributes& attributes) {
  const auto value = [&](std::string_view name, const std::vector<std::int64_t>& otherwise) {
    return attributes.contains(name) ? attributes.integers(name) : otherwise;
  };
  return with_precision({{"stride", value("stride", {1, 1})},
                         {"padding", value("padding", {0, 0, 0, 0})},
                         {"dilation", value("dilation", {1, 1})}},
                        precision_of(attributes));
}

Attributes with_shape(const Attributes& attributes, const char* name, const Shape& shape) {
  return window_attributes(attributes)
      .with(name, std::vector<std::int64_t>(shape.sizes().begin(), shape.sizes().end()));
}

Tensor forward(const Tensor& x, const Tensor& filter, const Attributes& attributes) {
  return apply1(kForwardName, {x, filter}, window_attributes(attributes));
}

Tensor backward_input(const Tensor& grad, const Tensor& filter, const Tensor& x,
                      const Attributes& attributes) {
  return apply1(kBackwardInputName, {grad, filter},
                with_shape(attributes, "input_shape", x.shape()));
}

Tensor backward_filter(const Tensor& x, const Tensor& grad, const Tensor& filter,
                       const Attributes& attributes) {
  return apply1(kBackwardFilterName, {x, grad},
                with_shape(attributes, "filter_shape", filter.shape()));
}

// With <y, conv(x, f)> written as one trilinear form, each pass is its derivative by one argument,
// and the gradient of a pass puts the incoming gradient in that argument's place.
std::vector<Tensor> gradient_of_forward(const GradientContext& context) {
  const Tensor& x = context.inputs[0];
  const Tensor& filter = context.inputs[1];
  const Tensor& dy = context.output_gradients[0];
  return {context.needs_input_gradient[0] ? backward_input(dy, filter, x, context.attributes)
                                          : Tensor{},
          context.needs_input_gradient[1] ? backward_filter(x, dy, filter, context.attributes)
                                          : Tensor{}};
}

std::vector<Tensor> gradient_of_backward_input(const GradientContext& context) {
  const Tensor& grad = context.inputs[0];
  const Tensor& filter = context.inputs[1];
  const Tensor& x = context.output_gradients[0];
  return {context.needs_input_gradient[0] ? forward(x, filter, context.attributes) : Tensor{},
          context.needs_input_gradient[1] ? backward_filter(x, grad, filter, context.attributes)
                                          : Tensor{}};
}

std::vector<Tensor> gradient_of_backward_filter(const GradientContext& context) {
  const Tensor& x = context.inputs[0];
  const Tensor& grad = context.inputs[1];
  const Tensor& filter = context.output_gradients[0];
  return {context.needs_input_gradient[0] ? backward_input(grad, filter, x, context.attributes)
                                          : Tensor{},
          context.needs_input_gradient[1] ? forward(x, filter, context.attributes) : Tensor{}};
}

// ---- examples ----

struct ConvExample {
  Shape x;
  Shape filter;
  Attributes window;
};

std::vector<ConvExample> conv_examples() {
  using Integers = std::vector<std::int64_t>;
  return {
      {{2, 3, 5, 6}, {4, 3, 3, 3}, {}},
      {{1, 1, 6, 6}, {2, 1, 5, 5}, {{"padding", Integers{2, 2, 2, 2}}}},
      {{2, 2, 7, 5}, {3, 2, 3, 2}, {{"stride", Integers{2, 3}}, {"padding", Integers{1, 0, 0, 2}}}},
      {{1, 4, 8, 7},
       {2, 4, 2, 3},
       {{"dilation", Integers{3, 2}}, {"padding", Integers{0, 1, 2, 1}}}},
      {{3, 5, 4, 4}, {6, 5, 1, 1}, {{"stride", Integers{2, 2}}}},
  };
}

template <ConvolutionPass kPass>
std::vector<ExampleCall> examples() {
  std::vector<ExampleCall> calls;
  for (const ConvExample& example : conv_examples()) {
    const Convolution convolution =
        make_convolution(name_of(kPass), example.x, example.filter, example.window);
    const TensorType x{DType::kFloat32, example.x};
    const TensorType filter{DType::kFloat32, example.filter};
    const TensorType y{DType::kFloat32, convolution.output_shape()};
    ExampleCall call;
    call.ranges = {{-1.0, 1.0}, {-1.0, 1.0}};
    if constexpr (kPass == ConvolutionPass::kForward) {
      call.inputs = {x, filter};
      call.attributes = window_attributes(example.window);
    } else if constexpr (kPass == ConvolutionPass::kBackwardInput) {
      call.inputs = {y, filter};
      call.attributes = with_shape(example.window, "input_shape", example.x);
    } else {
      call.inputs = {x, y};
      call.attributes = with_shape(example.window, "filter_shape", example.filter);
    }
    calls.push_back(std::move(call));
  }
  return calls;
}

template <ConvolutionPass kPass>
OpInfo make_op(std::vector<TensorType> (*infer)(const OpSignature&), GradientFunction gradient) {
  OpInfo op;
  op.name = name_of(kPass);
  op.infer = infer;
  op.kernels = kernels_of<kPass>();
#ifdef SUPERSTEP_HAVE_ONEDNN
  op.blocked = {BlockedKernel::Operands::kAny, Backend::kOneDnn, &make_blocked<kPass>};
#endif
  op.gradient = gradient;
  op.flops = &flops<kPass>;
  op.examples = &examples<kPass>;
  return op;
}

}  // namespace

std::vector<OpInfo> conv_ops() {
  return {
      make_op<ConvolutionPass::kForward>(&infer_forward, &gradient_of_forward),
      make_op<ConvolutionPass::kBackwardInput>(&infer_backward_input, &gradient_of_backward_input),
      make_op<ConvolutionPass::kBackwardFilter>(&infer_backward_filter,
                                                &gradient_of_backward_filter)};
}

}  // namespace superstep::kernels

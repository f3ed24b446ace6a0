#include "kernels/pool_ops.h"

#include <string_view>

#include <fmt/format.h>

#include "kernels/blocked_channel_ops.h"
#include "kernels/blocked_pool_ops.h"
#include "kernels/channel_sums.h"
#include "kernels/dispatch.h"
#include "kernels/max_pool_ops.h"
#include "kernels/op_table.h"
#include "kernels/pool_loops.h"
#include "kernels/pool_support.h"
#include "kernels/signature_checks.h"

namespace superstep::kernels {
namespace {

constexpr std::string_view kAveragePool = "average_pool";
constexpr std::string_view kAveragePoolBackward = "average_pool_backward";
constexpr std::string_view kGlobalAveragePool = "global_average_pool";
constexpr std::string_view kGlobalAveragePoolBackward = "global_average_pool_backward";

// ---- mean over windows ----

std::vector<TensorType> infer_average_pool(const OpSignature& signature) {
  expect_floating_inputs(kAveragePool, signature, {"x"});
  const TensorType& x = signature.inputs[0];
  expect_rank(kAveragePool, "x", x, 4);
  const Window window = make_pool_window(kAveragePool, signature.attributes, x.shape);
  return {{x.dtype, Shape{x.shape[0], x.shape[1], window.rows.output, window.columns.output}}};
}

std::vector<TensorType> infer_average_pool_backward(const OpSignature& signature) {
  expect_floating_inputs(kAveragePoolBackward, signature, {"grad"});
  const Shape images = shape_attribute(kAveragePoolBackward, signature.attributes, "input_shape");
  const Window window = make_pool_window(kAveragePoolBackward, signature.attributes, images);
  expect_shape(kAveragePoolBackward, "grad", signature.inputs[0],
               Shape{images[0], images[1], window.rows.output, window.columns.output});
  return {{signature.inputs[0].dtype, images}};
}

template <PoolPass kPass>
class AveragePoolKernel final : public Kernel {
 public:
  explicit AveragePoolKernel(const Window& window)
      : window_(window), counts_(internal::elements_inside(window)) {}

  void run(std::span<const Tensor> inputs, std::span<Tensor> outputs,
           std::span<std::byte> /*workspace*/) const override {
    dispatch_floating(inputs[0].dtype(), [&]<typename T>() {
      const T* from = inputs[0].data<T>().data();
      T* to = outputs[0].mutable_data<T>().data();
      for (std::int64_t plane = 0; plane < planes_of(inputs[0]); ++plane) {
        if constexpr (kPass == PoolPass::kForward) {
          internal::average_pool_plane(window_, counts_.data(), from, to);
          from += window_.input_plane();
          to += window_.output_plane();
        } else {
          internal::average_pool_backward_plane(window_, counts_.data(), from, to);
          from += window_.output_plane();
          to += window_.input_plane();
        }
      }
    });
  }

 private:
  Window window_;
  std::vector<double> counts_;
};

std::vector<Tensor> gradient_of_average_pool(const GradientContext& context) {
  const Shape& x = context.inputs[0].shape();
  return {apply1(kAveragePoolBackward, {context.output_gradients[0]},
                 pool_attributes(context.attributes, &x))};
}

std::vector<Tensor> gradient_of_average_pool_backward(const GradientContext& context) {
  return {apply1(kAveragePool, {context.output_gradients[0]}, pool_attributes(context.attributes))};
}

// ---- mean over planes ----

// A mean over nothing has no value.
void expect_planes(std::string_view op, std::string_view argument, const Shape& images) {
  if (plane_of(images) == 0) {
    fail_argument(op, argument, fmt::format("shape {}", images.to_string()),
                  "at least one element per plane");
  }
}

std::vector<TensorType> infer_global_average_pool(const OpSignature& signature) {
  expect_floating_inputs(kGlobalAveragePool, signature, {"x"});
  const TensorType& x = signature.inputs[0];
  expect_rank(kGlobalAveragePool, "x", x, 4);
  expect_planes(kGlobalAveragePool, "x", x.shape);
  return {{x.dtype, Shape{x.shape[0], x.shape[1]}}};
}

std::vector<TensorType> infer_global_average_pool_backward(const OpSignature& signature) {
  expect_floating_inputs(kGlobalAveragePoolBackward, signature, {"grad"});
  const Shape images =
      shape_attribute(kGlobalAveragePoolBackward, signature.attributes, "input_shape");
  expect_planes(kGlobalAveragePoolBackward, "input_shape", images);
  expect_shape(kGlobalAveragePoolBackward, "grad", signature.inputs[0],
               Shape{images[0], images[1]});
  return {{signature.inputs[0].dtype, images}};
}

void run_global_average_pool(std::span<const Tensor> inputs, const Attributes& /*attributes*/,
                             std::span<Tensor> outputs) {
  const std::int64_t plane = plane_of(inputs[0].shape());
  dispatch_floating(inputs[0].dtype(), [&]<typename T>() {
    const T* x = inputs[0].data<T>().data();
    for (T& mean : outputs[0].mutable_data<T>()) {
      mean = static_cast<T>(fixed_order_sum(x, plane) / static_cast<double>(plane));
      x += plane;
    }
  });
}

void run_global_average_pool_backward(std::span<const Tensor> inputs,
                                      const Attributes& /*attributes*/, std::span<Tensor> outputs) {
  const std::int64_t plane = plane_of(outputs[0].shape());
  dispatch_floating(inputs[0].dtype(), [&]<typename T>() {
    T* dx = outputs[0].mutable_data<T>().data();
    for (const T grad : inputs[0].data<T>()) {
      std::fill(dx, dx + plane, grad / static_cast<T>(plane));
      dx += plane;
    }
  });
}

std::vector<Tensor> gradient_of_global_average_pool(const GradientContext& context) {
  return {apply1(kGlobalAveragePoolBackward, {context.output_gradients[0]},
                 input_shape_attribute(context.inputs[0].shape()))};
}

std::vector<Tensor> gradient_of_global_average_pool_backward(const GradientContext& context) {
  return {apply1(kGlobalAveragePool, {context.output_gradients[0]})};
}

// ---- examples ----

std::vector<ExampleCall> average_pool_backward_examples() {
  std::vector<ExampleCall> calls;
  for (const PoolExample& example : pool_examples()) {
    calls.push_back({{{DType::kFloat32, pooled_shape(example)}},
                     pool_attributes(example.window, &example.x),
                     {{-1.0, 1.0}}});
  }
  return calls;
}

std::vector<ExampleCall> global_average_pool_examples() {
  return {{{{DType::kFloat32, Shape{2, 3, 4, 5}}}, {}, {{-1.0, 1.0}}},
          {{{DType::kFloat32, Shape{3, 2, 1, 1}}}, {}, {{-1.0, 1.0}}}};
}

std::vector<ExampleCall> global_average_pool_backward_examples() {
  return {
      {{{DType::kFloat32, Shape{2, 3}}}, input_shape_attribute(Shape{2, 3, 4, 5}), {{-1.0, 1.0}}}};
}

// ---- table ----

template <PoolPass kPass>
Window average_pool_window(const OpSignature& signature) {
  const Shape images =
      kPass == PoolPass::kForward
          ? signature.inputs[0].shape
          : shape_attribute(kAveragePoolBackward, signature.attributes, "input_shape");
  return make_pool_window(kAveragePool, signature.attributes, images);
}

template <PoolPass kPass>
std::vector<KernelEntry> average_pool_kernel() {
  return {
      {Backend::kReference, nullptr, [](const OpSignature& signature) -> std::unique_ptr<Kernel> {
         return std::make_unique<AveragePoolKernel<kPass>>(average_pool_window<kPass>(signature));
       }}};
}

template <PoolPass kPass>
std::unique_ptr<Kernel> make_average_pool_in_blocks(const OpSignature& signature,
                                                    std::span<const Layout> /*inputs*/,
                                                    std::span<const Layout> /*outputs*/) {
  return make_blocked_average_pool(kPass, average_pool_window<kPass>(signature));
}

double input_flops(const OpSignature& signature) {
  return static_cast<double>(signature.inputs[0].shape.num_elements());
}

}  // namespace

std::vector<OpInfo> pool_ops() {
  std::vector<OpInfo> ops = max_pool_ops();
  ops.push_back(make_pool_op(kAveragePool, &infer_average_pool,
                             average_pool_kernel<PoolPass::kForward>(), &gradient_of_average_pool,
                             &pool_forward_examples));
  ops.back().flops = &pool_flops;
  ops.back().blocked.make = &make_average_pool_in_blocks<PoolPass::kForward>;
  ops.push_back(make_pool_op(kAveragePoolBackward, &infer_average_pool_backward,
                             average_pool_kernel<PoolPass::kBackward>(),
                             &gradient_of_average_pool_backward, &average_pool_backward_examples));
  ops.back().flops = &pool_flops;
  ops.back().blocked.make = &make_average_pool_in_blocks<PoolPass::kBackward>;
  ops.push_back(make_pool_op(kGlobalAveragePool, &infer_global_average_pool,
                             plain_kernel<&run_global_average_pool>(),
                             &gradient_of_global_average_pool, &global_average_pool_examples));
  ops.back().flops = &input_flops;
  ops.back().blocked = blocked_function<&run_blocked_global_average_pool>();
  ops.push_back(make_pool_op(kGlobalAveragePoolBackward, &infer_global_average_pool_backward,
                             plain_kernel<&run_global_average_pool_backward>(),
                             &gradient_of_global_average_pool_backward,
                             &global_average_pool_backward_examples));
  ops.back().blocked = blocked_function<&run_blocked_global_average_pool_backward>();
  return ops;
}

}  // namespace superstep::kernels

#include "kernels/max_pool_ops.h"

#include <limits>
#include <string_view>

#include <fmt/format.h>

#include "kernels/blocked_channel_ops.h"
#include "kernels/blocked_pool_ops.h"
#include "kernels/dispatch.h"
#include "kernels/op_table.h"
#include "kernels/pool_loops.h"
#include "kernels/pool_support.h"
#include "kernels/signature_checks.h"

namespace superstep::kernels {
namespace {

constexpr std::string_view kMaxPool = "max_pool";
constexpr std::string_view kMaxPoolBackward = "max_pool_backward";
constexpr std::string_view kMaxPoolGather = "max_pool_gather";

std::vector<TensorType> infer_max_pool(const OpSignature& signature) {
  expect_floating_inputs(kMaxPool, signature, {"x"});
  const TensorType& x = signature.inputs[0];
  expect_rank(kMaxPool, "x", x, 4);
  const Window window = make_pool_window(kMaxPool, signature.attributes, x.shape);
  if (plane_of(x.shape) > std::numeric_limits<std::int32_t>::max()) {
    fail_argument(kMaxPool, "x", fmt::format("shape {}", x.shape.to_string()),
                  "planes below 2^31 elements");
  }
  const Shape pooled{x.shape[0], x.shape[1], window.rows.output, window.columns.output};
  return {{x.dtype, pooled}, {DType::kInt32, pooled}};
}

class MaxPoolKernel final : public Kernel {
 public:
  explicit MaxPoolKernel(const Window& window) : window_(window) {
    if (internal::has_position_table(window)) {
      positions_ = internal::max_pool_positions(window);
    }
  }

  void run(std::span<const Tensor> inputs, std::span<Tensor> outputs,
           std::span<std::byte> /*workspace*/) const override {
    dispatch_floating(inputs[0].dtype(), [&]<typename T>() {
      const T* x = inputs[0].data<T>().data();
      T* y = outputs[0].mutable_data<T>().data();
      std::int32_t* argmax = outputs[1].mutable_data<std::int32_t>().data();
      for (std::int64_t plane = 0; plane < planes_of(inputs[0]); ++plane) {
        run_plane(x, y, argmax);
        x += window_.input_plane();
        y += window_.output_plane();
        argmax += window_.output_plane();
      }
    });
  }

 private:
  template <typename T>
  void run_plane(const T* x, T* y, std::int32_t* argmax) const {
    if (positions_.empty()) {
      internal::max_pool_plane(window_, x, y, argmax);
    } else {
      internal::max_pool_plane(positions_.data(), window_.taps(), window_.output_plane(), x, y,
                               argmax);
    }
  }

  Window window_;
  std::vector<std::int32_t> positions_;
};

std::vector<KernelEntry> max_pool_kernel() {
  return {
      {Backend::kReference, nullptr, [](const OpSignature& signature) -> std::unique_ptr<Kernel> {
         return std::make_unique<MaxPoolKernel>(
             make_pool_window(kMaxPool, signature.attributes, signature.inputs[0].shape));
       }}};
}

// `pooled` and argmax have one shape whose planes belong to the planes of `images`.
void expect_argmax(std::string_view op, const TensorType& pooled, std::string_view pooled_name,
                   const TensorType& argmax, const Shape& images) {
  expect_dtype(op, "argmax", argmax, DType::kInt32);
  expect_rank(op, pooled_name, pooled, 4);
  expect_shape(op, "argmax", argmax, pooled.shape);
  if (pooled.shape[0] != images[0] || pooled.shape[1] != images[1]) {
    fail_argument(
        op, pooled_name, fmt::format("shape {}", pooled.shape.to_string()),
        fmt::format("({}, {}, OH, OW) as in images {}", images[0], images[1], images.to_string()));
  }
}

std::vector<TensorType> infer_max_pool_backward(const OpSignature& signature) {
  expect_num_inputs(kMaxPoolBackward, signature, 2);
  expect_floating(kMaxPoolBackward, "grad", signature.inputs[0]);
  const Shape images = shape_attribute(kMaxPoolBackward, signature.attributes, "input_shape");
  expect_argmax(kMaxPoolBackward, signature.inputs[0], "grad", signature.inputs[1], images);
  return {{signature.inputs[0].dtype, images}};
}

std::vector<TensorType> infer_max_pool_gather(const OpSignature& signature) {
  expect_num_inputs(kMaxPoolGather, signature, 2);
  expect_floating(kMaxPoolGather, "x", signature.inputs[0]);
  expect_rank(kMaxPoolGather, "x", signature.inputs[0], 4);
  const TensorType& argmax = signature.inputs[1];
  expect_argmax(kMaxPoolGather, argmax, "argmax", argmax, signature.inputs[0].shape);
  return {{signature.inputs[0].dtype, argmax.shape}};
}

void run_max_pool_backward(std::span<const Tensor> inputs, const Attributes& /*attributes*/,
                           std::span<Tensor> outputs) {
  const std::int64_t from = plane_of(inputs[0].shape());
  const std::int64_t to = plane_of(outputs[0].shape());
  const std::span<const std::int32_t> argmax = inputs[1].data<std::int32_t>();
  expect_positions(kMaxPoolBackward, argmax, to);
  dispatch_floating(inputs[0].dtype(), [&]<typename T>() {
    const std::span<const T> grad = inputs[0].data<T>();
    const std::span<T> dx = outputs[0].mutable_data<T>();
    std::fill(dx.begin(), dx.end(), T{0});
    for (std::int64_t plane = 0; plane < planes_of(outputs[0]); ++plane) {
      const T* g = grad.data() + plane * from;
      internal::add_at_maxima(
          argmax.data() + plane * from, from, [g](std::int64_t k) { return g[k]; },
          dx.data() + plane * to);
    }
  });
}

void run_max_pool_backward_in_blocks(std::span<const Tensor> inputs,
                                     const Attributes& /*attributes*/, std::span<Tensor> outputs) {
  expect_positions(kMaxPoolBackward, inputs[1].data<std::int32_t>(), plane_of(outputs[0].shape()));
  blocked_max_pool_backward(inputs[0], inputs[1], outputs[0]);
}

std::unique_ptr<Kernel> make_max_pool_in_blocks(const OpSignature& signature,
                                                std::span<const Layout> /*inputs*/,
                                                std::span<const Layout> /*outputs*/) {
  const Window window = make_pool_window(kMaxPool, signature.attributes, signature.inputs[0].shape);
  return internal::has_position_table(window) ? make_blocked_max_pool(window) : nullptr;
}

void run_max_pool_gather(std::span<const Tensor> inputs, const Attributes& /*attributes*/,
                         std::span<Tensor> outputs) {
  const std::int64_t from = plane_of(inputs[0].shape());
  const std::int64_t to = plane_of(outputs[0].shape());
  const std::span<const std::int32_t> argmax = inputs[1].data<std::int32_t>();
  expect_positions(kMaxPoolGather, argmax, from);
  dispatch_floating(inputs[0].dtype(), [&]<typename T>() {
    const std::span<const T> x = inputs[0].data<T>();
    const std::span<T> y = outputs[0].mutable_data<T>();
    for (std::int64_t plane = 0; plane < planes_of(inputs[0]); ++plane) {
      const T* source = x.data() + plane * from;
      for (std::int64_t i = plane * to; i < (plane + 1) * to; ++i) {
        y[i] = source[argmax[i]];
      }
    }
  });
}

std::vector<Tensor> gradient_of_max_pool(const GradientContext& context) {
  const Tensor& dy = context.output_gradients[0];
  if (!dy.defined()) {
    return {Tensor{}};
  }
  return {apply1(kMaxPoolBackward, {dy, context.outputs[1]},
                 input_shape_attribute(context.inputs[0].shape()))};
}

std::vector<Tensor> gradient_of_max_pool_backward(const GradientContext& context) {
  return {apply1(kMaxPoolGather, {context.output_gradients[0], context.inputs[1]}), Tensor{}};
}

std::vector<Tensor> gradient_of_max_pool_gather(const GradientContext& context) {
  return {apply1(kMaxPoolBackward, {context.output_gradients[0], context.inputs[1]},
                 input_shape_attribute(context.inputs[0].shape())),
          Tensor{}};
}

std::vector<ExampleCall> max_pool_backward_examples() {
  std::vector<ExampleCall> calls;
  for (const PoolExample& example : pool_examples()) {
    const Shape pooled = pooled_shape(example);
    calls.push_back({{{DType::kFloat32, pooled}, {DType::kInt32, pooled}},
                     input_shape_attribute(example.x),
                     {{-1.0, 1.0}, {0.0, static_cast<double>(plane_of(example.x))}}});
  }
  return calls;
}

std::vector<ExampleCall> max_pool_gather_examples() {
  std::vector<ExampleCall> calls;
  for (const PoolExample& example : pool_examples()) {
    calls.push_back({{{DType::kFloat32, example.x}, {DType::kInt32, pooled_shape(example)}},
                     {},
                     {{-1.0, 1.0}, {0.0, static_cast<double>(plane_of(example.x))}}});
  }
  return calls;
}

}  // namespace

void expect_positions(std::string_view op, std::span<const std::int32_t> argmax,
                      std::int64_t plane) {
  std::int32_t least = 0;
  std::int32_t largest = 0;
  for (const std::int32_t position : argmax) {
    least = std::min(least, position);
    largest = std::max(largest, position);
  }
  if (!argmax.empty() && (least < 0 || largest >= plane)) {
    fail_argument(op, "argmax", fmt::format("position {}", least < 0 ? least : largest),
                  fmt::format("0 to {}", plane - 1));
  }
}

std::vector<OpInfo> max_pool_ops() {
  std::vector<OpInfo> ops = {
      make_pool_op(kMaxPool, &infer_max_pool, max_pool_kernel(), &gradient_of_max_pool,
                   &pool_forward_examples),
      make_pool_op(kMaxPoolBackward, &infer_max_pool_backward,
                   plain_kernel<&run_max_pool_backward>(), &gradient_of_max_pool_backward,
                   &max_pool_backward_examples),
      make_pool_op(kMaxPoolGather, &infer_max_pool_gather, plain_kernel<&run_max_pool_gather>(),
                   &gradient_of_max_pool_gather, &max_pool_gather_examples)};
  ops[0].flops = &pool_flops;
  ops[0].blocked.make = &make_max_pool_in_blocks;
  ops[1].blocked = blocked_function<&run_max_pool_backward_in_blocks>();
  return ops;
}

}  // namespace superstep::kernels

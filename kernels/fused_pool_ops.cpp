#include "kernels/fused_pool_ops.h"

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/blocked_max_window.h"
#include "kernels/channel_blocks.h"
#include "kernels/dispatch.h"
#include "kernels/max_pool_ops.h"
#include "kernels/pool_loops.h"
#include "kernels/pool_support.h"
#include "kernels/relu.h"
#include "kernels/signature_checks.h"

namespace superstep::kernels {
namespace {

constexpr std::string_view kBiasReluMaxPool = "bias_relu_max_pool";
constexpr std::string_view kReluMaxPoolBackward = "relu_max_pool_backward";
constexpr std::string_view kWhyNoGradient = "calls within a program that is recorded already";

std::vector<TensorType> infer_bias_relu_max_pool(const OpSignature& signature) {
  expect_floating_inputs(kBiasReluMaxPool, signature, {"x", "bias"});
  const TensorType& x = signature.inputs[0];
  expect_rank(kBiasReluMaxPool, "x", x, 4);
  expect_shape(kBiasReluMaxPool, "bias", signature.inputs[1], Shape{x.shape[1]});
  const Window window = make_pool_window(kBiasReluMaxPool, signature.attributes, x.shape);
  const Shape pooled{x.shape[0], x.shape[1], window.rows.output, window.columns.output};
  return {{x.dtype, pooled}, {DType::kInt32, pooled}};
}

std::vector<TensorType> infer_relu_max_pool_backward(const OpSignature& signature) {
  expect_num_inputs(kReluMaxPoolBackward, signature, 3);
  expect_dtype(kReluMaxPoolBackward, "argmax", signature.inputs[1], DType::kInt32);
  expect_shape(kReluMaxPoolBackward, "argmax", signature.inputs[1], signature.inputs[0].shape);
  expect_shape(kReluMaxPoolBackward, "y", signature.inputs[2], signature.inputs[0].shape);
  return {{signature.inputs[0].dtype,
           shape_attribute(kReluMaxPoolBackward, signature.attributes, "input_shape")}};
}

// ---- planes ----

class BiasReluMaxPool final : public Kernel {
 public:
  explicit BiasReluMaxPool(const OpSignature& signature)
      : window_(
            make_pool_window(kBiasReluMaxPool, signature.attributes, signature.inputs[0].shape)),
        positions_(internal::max_pool_positions(window_)),
        element_bytes_(size_of(signature.inputs[0].dtype)) {}

  std::int64_t workspace_bytes() const override { return window_.input_plane() * element_bytes_; }

  void run(std::span<const Tensor> inputs, std::span<Tensor> outputs,
           std::span<std::byte> workspace) const override {
    const std::int64_t channels = inputs[0].shape()[1];
    dispatch_floating(inputs[0].dtype(), [&]<typename T>() {
      const T* x = inputs[0].data<T>().data();
      const T* bias = inputs[1].data<T>().data();
      T* r = reinterpret_cast<T*>(workspace.data());
      T* y = outputs[0].mutable_data<T>().data();
      std::int32_t* argmax = outputs[1].mutable_data<std::int32_t>().data();
      for (std::int64_t plane = 0; plane < planes_of(inputs[0]); ++plane) {
        const T shift = bias[plane % channels];
        for (std::int64_t i = 0; i < window_.input_plane(); ++i) {
          r[i] = relu_of(x[i] + shift);
        }
        internal::max_pool_plane(positions_.data(), window_.taps(), window_.output_plane(), r, y,
                                 argmax);
        x += window_.input_plane();
        y += window_.output_plane();
        argmax += window_.output_plane();
      }
    });
  }

 private:
  Window window_;
  std::vector<std::int32_t> positions_;
  std::int64_t element_bytes_;
};

void run_relu_max_pool_backward(std::span<const Tensor> inputs, const Attributes& /*attributes*/,
                                std::span<Tensor> outputs) {
  const std::int64_t from = plane_of(inputs[0].shape());
  const std::int64_t to = plane_of(outputs[0].shape());
  const std::span<const std::int32_t> argmax = inputs[1].data<std::int32_t>();
  expect_positions(kReluMaxPoolBackward, argmax, to);
  dispatch_floating(inputs[0].dtype(), [&]<typename T>() {
    const std::span<const T> grad = inputs[0].data<T>();
    const std::span<const T> y = inputs[2].data<T>();
    const std::span<T> dx = outputs[0].mutable_data<T>();
    std::fill(dx.begin(), dx.end(), T{0});
    for (std::int64_t plane = 0; plane < planes_of(outputs[0]); ++plane) {
      const T* g = grad.data() + plane * from;
      const T* best = y.data() + plane * from;
      internal::add_at_maxima(
          argmax.data() + plane * from, from,
          [g, best](std::int64_t k) { return relu_gradient_of(g[k], best[k]); },
          dx.data() + plane * to);
    }
  });
}

// ---- channel blocks ----

class BlockedBiasReluMaxPool final : public Kernel {
 public:
  explicit BlockedBiasReluMaxPool(const OpSignature& signature)
      : window_(
            make_pool_window(kBiasReluMaxPool, signature.attributes, signature.inputs[0].shape)),
        positions_(internal::max_pool_positions(window_)) {}

  void run(std::span<const Tensor> inputs, std::span<Tensor> outputs,
           std::span<std::byte> /*workspace*/) const override {
    const float* x = inputs[0].data<float>().data();
    const float* bias = inputs[1].data<float>().data();
    float* y = outputs[0].mutable_data<float>().data();
    std::int32_t* argmax = outputs[1].mutable_data<std::int32_t>().data();
    const std::int64_t blocks = inputs[0].shape()[1] / kBlockWidth;
    for (std::int64_t plane = 0; plane < inputs[0].shape()[0] * blocks; ++plane) {
      const BlockOfFloats shift = load_block(bias + plane % blocks * kBlockWidth);
      for (std::int64_t k = 0; k < window_.output_plane(); ++k) {
        max_of_window(
            window_, positions_.data() + k,
            [x, shift](std::int32_t position) {
              return relu_of(load_block(x + std::int64_t{position} * kBlockWidth) + shift);
            },
            y, argmax);
        y += kBlockWidth;
        argmax += kBlockWidth;
      }
      x += window_.input_plane() * kBlockWidth;
    }
  }

 private:
  Window window_;
  std::vector<std::int32_t> positions_;
};

// Windows that do not overlap: every element of dx is written once, a tap of all channels at a
// time. Others: the gradients are added where they belong, channel by channel.
class BlockedReluMaxPoolBackward final : public Kernel {
 public:
  explicit BlockedReluMaxPoolBackward(const OpSignature& signature)
      : window_(make_pool_window(
            kReluMaxPoolBackward, signature.attributes,
            shape_attribute(kReluMaxPoolBackward, signature.attributes, "input_shape"))),
        positions_(internal::max_pool_positions(window_)),
        is_apart_(is_apart(window_.rows) && is_apart(window_.columns)) {}

  void run(std::span<const Tensor> inputs, std::span<Tensor> outputs,
           std::span<std::byte> /*workspace*/) const override {
    expect_positions(kReluMaxPoolBackward, inputs[1].data<std::int32_t>(), window_.input_plane());
    const float* grad = inputs[0].data<float>().data();
    const std::int32_t* argmax = inputs[1].data<std::int32_t>().data();
    const float* y = inputs[2].data<float>().data();
    float* dx = outputs[0].mutable_data<float>().data();
    const std::int64_t to = window_.input_plane() * kBlockWidth;
    for (std::int64_t plane = 0; plane < planes_of(outputs[0]) / kBlockWidth; ++plane) {
      if (!is_covered()) {
        std::fill(dx, dx + to, 0.0F);
      }
      for (std::int64_t k = 0; k < window_.output_plane(); ++k) {
        const BlockOfFloats passed = relu_gradient_of(load_block(grad), load_block(y));
        if (is_apart_) {
          write_window(k, passed, argmax, dx);
        } else {
          add_to(argmax, passed, dx);
        }
        grad += kBlockWidth;
        y += kBlockWidth;
        argmax += kBlockWidth;
      }
      dx += to;
    }
  }

 private:
  static bool is_apart(const Window::Axis& axis) {
    return axis.stride >= axis.kernel && axis.begin == 0 && axis.end == 0;
  }
  // Whether the windows leave nothing out.
  bool is_covered() const {
    return is_apart_ && window_.taps() * window_.output_plane() == window_.input_plane();
  }

  void write_window(std::int64_t output, BlockOfFloats passed, const std::int32_t* argmax,
                    float* dx) const {
    BlockOfInts best;
    std::memcpy(&best, argmax, sizeof(best));
    const std::int32_t* position = positions_.data() + output;
    for (std::int64_t tap = 0; tap < window_.taps(); ++tap, position += window_.output_plane()) {
      const BlockOfFloats value = best == all_of(*position) ? passed : BlockOfFloats{};
      // A sum that begins with zero, as everywhere: never -0.
      store_block(value + BlockOfFloats{}, dx + std::int64_t{*position} * kBlockWidth);
    }
  }

  static void add_to(const std::int32_t* argmax, BlockOfFloats passed, float* dx) {
    for (std::int64_t c = 0; c < kBlockWidth; ++c) {
      dx[std::int64_t{argmax[c]} * kBlockWidth + c] += passed[c];
    }
  }

  Window window_;
  std::vector<std::int32_t> positions_;
  bool is_apart_;
};

// ---- their rows ----

OpInfo make_bias_relu_max_pool() {
  OpInfo op;
  op.name = kBiasReluMaxPool;
  op.infer = &infer_bias_relu_max_pool;
  op.kernels = {
      {Backend::kReference, nullptr, [](const OpSignature& signature) -> std::unique_ptr<Kernel> {
         return std::make_unique<BiasReluMaxPool>(signature);
       }}};
  op.blocked = {BlockedKernel::Operands::kUniform, Backend{},
                [](const OpSignature& signature, std::span<const Layout>,
                   std::span<const Layout>) -> std::unique_ptr<Kernel> {
                  return std::make_unique<BlockedBiasReluMaxPool>(signature);
                }};
  op.why_not_differentiable = kWhyNoGradient;
  op.flops = [](const OpSignature& signature) {
    return pool_flops(signature) +
           2.0 * static_cast<double>(signature.inputs[0].shape.num_elements());
  };
  return op;
}

OpInfo make_relu_max_pool_backward() {
  OpInfo op;
  op.name = kReluMaxPoolBackward;
  op.infer = &infer_relu_max_pool_backward;
  op.kernels = plain_kernel<&run_relu_max_pool_backward>();
  op.blocked = {BlockedKernel::Operands::kUniform, Backend{},
                [](const OpSignature& signature, std::span<const Layout>,
                   std::span<const Layout>) -> std::unique_ptr<Kernel> {
                  return std::make_unique<BlockedReluMaxPoolBackward>(signature);
                }};
  op.why_not_differentiable = kWhyNoGradient;
  return op;
}

}  // namespace

bool can_fuse_max_pool(const Attributes& attributes, const Shape& image) {
  return internal::has_position_table(make_pool_window(kBiasReluMaxPool, attributes, image));
}

const OpInfo& bias_relu_max_pool_op() {
  static const OpInfo op = make_bias_relu_max_pool();
  return op;
}

const OpInfo& relu_max_pool_backward_op() {
  static const OpInfo op = make_relu_max_pool_backward();
  return op;
}

}  // namespace superstep::kernels

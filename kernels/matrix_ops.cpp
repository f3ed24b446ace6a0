#include "kernels/matrix_ops.h"

#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "kernels/blocked_channel_ops.h"
#include "kernels/channel_sums.h"
#include "kernels/dispatch.h"
#include "kernels/gemm.h"
#include "kernels/op_table.h"
#include "kernels/ops.h"
#include "kernels/panel_kernel.h"
#include "kernels/precision.h"
#include "kernels/rounded_operands.h"
#include "kernels/signature_checks.h"
#include "kernels/threads.h"

namespace superstep::kernels {
namespace {

// ---- matmul ----

bool flag(const Attributes& attributes, std::string_view name) {
  return attributes.contains(name) && attributes.boolean(name);
}

GemmShape gemm_shape(const OpSignature& signature) {
  const Shape& a = signature.inputs[0].shape;
  const Shape& b = signature.inputs[1].shape;
  GemmShape shape;
  shape.transpose_a = flag(signature.attributes, "transpose_a");
  shape.transpose_b = flag(signature.attributes, "transpose_b");
  shape.m = a[shape.transpose_a ? 1 : 0];
  shape.k = a[shape.transpose_a ? 0 : 1];
  shape.n = b[shape.transpose_b ? 0 : 1];
  return shape;
}

std::vector<TensorType> infer_matmul(const OpSignature& signature) {
  expect_floating_inputs("matmul", signature, {"a", "b"});
  expect_precision("matmul", signature);
  expect_rank("matmul", "a", signature.inputs[0], 2);
  expect_rank("matmul", "b", signature.inputs[1], 2);
  const GemmShape shape = gemm_shape(signature);
  const Shape& b = signature.inputs[1].shape;
  if (const std::int64_t k = b[shape.transpose_b ? 1 : 0]; k != shape.k) {
    const auto suffix = [](bool transposed) { return transposed ? " transposed" : ""; };
    throw InvalidArgument(
        "matmul",
        fmt::format(
            "inner sizes differ: got a {}{} with {} and b {}{} with {}, expected equal ones",
            signature.inputs[0].shape.to_string(), suffix(shape.transpose_a), shape.k,
            b.to_string(), suffix(shape.transpose_b), k));
  }
  return {{signature.inputs[0].dtype, Shape{shape.m, shape.n}}};
}

using GemmOfFloats = void (*)(const GemmShape&, const float*, const float*, float*);

class MatmulKernel final : public Kernel {
 public:
  MatmulKernel(const OpSignature& signature, GemmOfFloats gemm_of_floats)
      : shape_(gemm_shape(signature)), gemm_of_floats_(gemm_of_floats) {}

  void run(std::span<const Tensor> inputs, std::span<Tensor> outputs,
           std::span<std::byte> /*workspace*/) const override {
    if (inputs[0].dtype() == DType::kFloat32) {
      gemm_of_floats_(shape_, inputs[0].data<float>().data(), inputs[1].data<float>().data(),
                      outputs[0].mutable_data<float>().data());
    } else {
      gemm_eigen(shape_, inputs[0].data<double>().data(), inputs[1].data<double>().data(),
                 outputs[0].mutable_data<double>().data());
    }
  }

 private:
  GemmShape shape_;
  GemmOfFloats gemm_of_floats_;
};

// Thin products with a large matrix of weights: a batch times the matrix, or a sum over a batch of
// the matrix's size. Measured with AVX2: from a million weights on this kernel is a third faster
// than oneDNN's product, below (784 x 200) a quarter slower.
bool is_thin(const OpSignature& signature) {
  constexpr std::int64_t kThin = 256;
  constexpr std::int64_t kLargeMatrix = 1024 * 1024;
  const GemmShape shape = gemm_shape(signature);
  const std::int64_t batch = shape.transpose_a ? shape.k : shape.m;
  const std::int64_t weights = shape.transpose_a ? shape.m * shape.n : shape.k * shape.n;
  return signature.inputs[0].dtype == DType::kFloat32 && team_size() == 1 &&
         PanelGemm::supports(shape) && batch <= kThin && weights >= kLargeMatrix;
}

// Panels of bf16 pairs serve every shape: they convert operands in the copy they make anyway.
bool multiplies_pairs(const OpSignature& signature) {
  return precision_of(signature.attributes) == Precision::kBfloat16 && team_size() == 1 &&
         PanelGemm::supports(gemm_shape(signature), 1, Precision::kBfloat16);
}

std::unique_ptr<Kernel> make_panel_kernel(const OpSignature& signature) {
  return panel_kernel(signature, gemm_shape(signature));
}

template <GemmOfFloats kGemm>
std::unique_ptr<Kernel> make_matmul_kernel(const OpSignature& signature) {
  return with_rounded_operands(signature, std::make_unique<MatmulKernel>(signature, kGemm));
}

std::vector<KernelEntry> matmul_kernels() {
  std::vector<KernelEntry> kernels;
  kernels.push_back({Backend::kNative,
                     [](const OpSignature& signature) {
                       return multiplies_pairs(signature) || is_thin(signature);
                     },
                     &make_panel_kernel});
#ifdef SUPERSTEP_HAVE_ONEDNN
  kernels.push_back(
      {Backend::kOneDnn,
       [](const OpSignature& signature) { return signature.inputs[0].dtype == DType::kFloat32; },
       &make_matmul_kernel<&gemm>});
#endif
  kernels.push_back({Backend::kEigen, nullptr, &make_matmul_kernel<&gemm_eigen>});
  return kernels;
}

// y = op(a) op(b):  d op(a) = dy op(b)^T,  d op(b) = op(a)^T dy; transposed when the operand is.
std::vector<Tensor> gradient_of_matmul(const GradientContext& context) {
  const Tensor& a = context.inputs[0];
  const Tensor& b = context.inputs[1];
  const Tensor& dy = context.output_gradients[0];
  const bool ta = flag(context.attributes, "transpose_a");
  const bool tb = flag(context.attributes, "transpose_b");
  const Precision precision = precision_of(context.attributes);
  const auto product = [precision](const Tensor& left, bool transpose_left, const Tensor& right,
                                   bool transpose_right) {
    return matmul(
        left, right,
        {.transpose_a = transpose_left, .transpose_b = transpose_right, .precision = precision});
  };
  std::vector<Tensor> gradients(2);
  if (context.needs_input_gradient[0]) {
    gradients[0] = ta ? product(b, tb, dy, true) : product(dy, false, b, !tb);
  }
  if (context.needs_input_gradient[1]) {
    gradients[1] = tb ? product(dy, true, a, ta) : product(a, !ta, dy, false);
  }
  return gradients;
}

double matmul_flops(const OpSignature& signature) {
  const GemmShape shape = gemm_shape(signature);
  return 2.0 * static_cast<double>(shape.m) * static_cast<double>(shape.n) *
         static_cast<double>(shape.k);
}

std::vector<ExampleCall> matmul_examples() {
  std::vector<ExampleCall> calls;
  for (const bool ta : {false, true}) {
    for (const bool tb : {false, true}) {
      ExampleCall call;
      call.inputs = {{DType::kFloat32, ta ? Shape{7, 5} : Shape{5, 7}},
                     {DType::kFloat32, tb ? Shape{9, 7} : Shape{7, 9}}};
      call.attributes = {{"transpose_a", ta}, {"transpose_b", tb}};
      call.ranges = {{-1.0, 1.0}, {-1.0, 1.0}};
      calls.push_back(std::move(call));
    }
  }
  calls.push_back({{{DType::kFloat32, Shape{1, 24}}, {DType::kFloat32, Shape{24, 1}}},
                   {},
                   {{-1.0, 1.0}, {-1.0, 1.0}}});
  calls.push_back({{{DType::kFloat32, Shape{2, 3}}, {DType::kFloat32, Shape{3, 2}}},
                   {},
                   {{-1.0, 1.0}, {-1.0, 1.0}}});
  return calls;
}

OpInfo matmul_op() {
  OpInfo op;
  op.name = "matmul";
  op.infer = &infer_matmul;
  op.kernels = matmul_kernels();
  op.gradient = &gradient_of_matmul;
  op.flops = &matmul_flops;
  op.examples = &matmul_examples;
  return op;
}

// ---- bias ----

void require_channels(std::string_view op, std::string_view argument, const TensorType& type) {
  if (type.shape.rank() != 2 && type.shape.rank() != 4) {
    fail_argument(op, argument, fmt::format("shape {}", type.shape.to_string()),
                  "(N, C) or (N, C, H, W)");
  }
}

std::vector<TensorType> infer_bias_add(const OpSignature& signature) {
  expect_floating_inputs("bias_add", signature, {"x", "bias"});
  require_channels("bias_add", "x", signature.inputs[0]);
  expect_shape("bias_add", "bias", signature.inputs[1], Shape{signature.inputs[0].shape[1]});
  return {signature.inputs[0]};
}

template <typename T>
void add_bias(const ChannelView& view, const T* x, const T* bias, T* y) {
  for (std::int64_t n = 0; n < view.batch; ++n) {
    if (view.plane == 1) {
      const std::int64_t row = view.offset(n, 0);
#pragma GCC ivdep
      for (std::int64_t c = 0; c < view.channels; ++c) {
        y[row + c] = x[row + c] + bias[c];
      }
      continue;
    }
    for (std::int64_t c = 0; c < view.channels; ++c) {
      const std::int64_t begin = view.offset(n, c);
      const T value = bias[c];
#pragma GCC ivdep
      for (std::int64_t i = begin; i < begin + view.plane; ++i) {
        y[i] = x[i] + value;
      }
    }
  }
}

void run_bias_add(std::span<const Tensor> inputs, const Attributes& /*attributes*/,
                  std::span<Tensor> outputs) {
  const ChannelView view = ChannelView::of(inputs[0].shape());
  dispatch_floating(inputs[0].dtype(), [&]<typename T>() {
    add_bias(view, inputs[0].data<T>().data(), inputs[1].data<T>().data(),
             outputs[0].mutable_data<T>().data());
  });
}

std::vector<TensorType> infer_bias_add_backward(const OpSignature& signature) {
  expect_floating_inputs("bias_add_backward", signature, {"grad"});
  require_channels("bias_add_backward", "grad", signature.inputs[0]);
  return {{signature.inputs[0].dtype, Shape{signature.inputs[0].shape[1]}}};
}

class BiasBackwardKernel final : public Kernel {
 public:
  explicit BiasBackwardKernel(const OpSignature& signature)
      : view_(ChannelView::of(signature.inputs[0].shape)) {}

  std::int64_t workspace_bytes() const override {
    return view_.channels_per_block() * static_cast<std::int64_t>(sizeof(double));
  }

  void run(std::span<const Tensor> inputs, std::span<Tensor> outputs,
           std::span<std::byte> workspace) const override {
    double* sums = reinterpret_cast<double*>(workspace.data());
    dispatch_floating(inputs[0].dtype(), [&]<typename T>() {
      const T* grad = inputs[0].data<T>().data();
      T* result = outputs[0].mutable_data<T>().data();
      const std::int64_t block = view_.channels_per_block();
      for (std::int64_t c = 0; c < view_.channels; c += block) {
        channel_sums(view_, c, block, grad, sums);
        std::transform(sums, sums + block, result + c,
                       [](double value) { return static_cast<T>(value); });
      }
    });
  }

 private:
  ChannelView view_;
};

std::vector<Tensor> gradient_of_bias_add(const GradientContext& context) {
  const Tensor& dy = context.output_gradients[0];
  return {context.needs_input_gradient[0] ? dy : Tensor{},
          context.needs_input_gradient[1] ? apply1("bias_add_backward", {dy}) : Tensor{}};
}

// The adjoint of a sum is a broadcast.
std::vector<Tensor> gradient_of_bias_add_backward(const GradientContext& context) {
  const Shape& shape = context.inputs[0].shape();
  const Shape aligned = shape.rank() == 2 ? Shape{shape[1]} : Shape{shape[1], 1, 1};
  return {broadcast_to(reshape(context.output_gradients[0], aligned), shape)};
}

std::vector<ExampleCall> bias_add_examples() {
  return {{{{DType::kFloat32, Shape{6, 5}}, {DType::kFloat32, Shape{5}}},
           {},
           {{-1.0, 1.0}, {-1.0, 1.0}}},
          {{{DType::kFloat32, Shape{2, 3, 4, 5}}, {DType::kFloat32, Shape{3}}},
           {},
           {{-1.0, 1.0}, {-1.0, 1.0}}}};
}

std::vector<ExampleCall> bias_add_backward_examples() {
  return {{{{DType::kFloat32, Shape{6, 5}}}, {}, {{-1.0, 1.0}}},
          {{{DType::kFloat32, Shape{2, 3, 4, 5}}}, {}, {{-1.0, 1.0}}}};
}

OpInfo bias_add_op() {
  OpInfo op;
  op.name = "bias_add";
  op.infer = &infer_bias_add;
  op.kernels = {{Backend::kReference, nullptr, [](const OpSignature& signature) {
                   return make_function_kernel(&run_bias_add, signature.attributes);
                 }}};
  op.blocked = blocked_function<&run_blocked_bias_add>();
  op.in_place = 0b1;
  op.gradient = &gradient_of_bias_add;
  op.examples = &bias_add_examples;
  return op;
}

OpInfo bias_add_backward_op() {
  OpInfo op;
  op.name = "bias_add_backward";
  op.infer = &infer_bias_add_backward;
  op.kernels = {
      {Backend::kReference, nullptr, [](const OpSignature& signature) -> std::unique_ptr<Kernel> {
         return std::make_unique<BiasBackwardKernel>(signature);
       }}};
  op.blocked = blocked_function<&run_blocked_bias_add_backward>();
  op.gradient = &gradient_of_bias_add_backward;
  op.flops = [](const OpSignature& signature) {
    return static_cast<double>(signature.inputs[0].shape.num_elements());
  };
  op.examples = &bias_add_backward_examples;
  return op;
}

}  // namespace

std::vector<OpInfo> matrix_ops() {
  return {matmul_op(), bias_add_op(), bias_add_backward_op()};
}

}  // namespace superstep::kernels

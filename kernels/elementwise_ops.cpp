#include "kernels/elementwise_ops.h"

#include <cmath>
#include <type_traits>

#include <fmt/format.h>

#include "kernels/dispatch.h"
#include "kernels/math.h"
#include "kernels/op_table.h"
#include "kernels/ops.h"
#include "kernels/relu.h"
#include "kernels/signature_checks.h"

namespace superstep::kernels {
namespace {

// Each unary op is a type: name, function of one element, gradient, and the range its examples use.
template <typename Op>
std::vector<TensorType> infer_unary(const OpSignature& signature) {
  expect_num_inputs(Op::kName, signature, 1);
  expect_floating(Op::kName, "x", signature.inputs[0]);
  return {signature.inputs[0]};
}

template <typename Op>
void run_unary(std::span<const Tensor> inputs, const Attributes&, std::span<Tensor> outputs) {
  dispatch_floating(inputs[0].dtype(), [&]<typename T>() {
    const T* const x = inputs[0].data<T>().data();
    T* const y = outputs[0].mutable_data<T>().data();
    const std::int64_t n = inputs[0].num_elements();
#pragma GCC ivdep
    for (std::int64_t i = 0; i < n; ++i) {
      y[i] = Op::template value<T>(x[i]);
    }
  });
}

// Element by element, blocks are as good as planes.
template <KernelFunction kFunction>
BlockedKernel in_any_uniform_layout() {
  return {BlockedKernel::Operands::kUniform, Backend::kReference,
          [](const OpSignature& signature, std::span<const Layout>, std::span<const Layout>) {
            return make_function_kernel(kFunction, signature.attributes);
          }};
}

template <typename Op>
std::vector<ExampleCall> unary_examples() {
  return {{{{DType::kFloat64, {3, 5}}}, {}, {Op::kRange}},
          {{{DType::kFloat64, {2, 3, 7}}}, {}, {Op::kRange}},
          {{{DType::kFloat64, {}}}, {}, {Op::kRange}},
          {{{DType::kFloat64, {0, 4}}}, {}, {Op::kRange}}};
}

template <typename Op>
OpInfo unary_op() {
  OpInfo info;
  info.name = Op::kName;
  info.infer = infer_unary<Op>;
  info.kernels = {function_kernel<run_unary<Op>>()};
  info.blocked = in_any_uniform_layout<run_unary<Op>>();
  info.in_place = 0b1;
  info.examples = unary_examples<Op>;
  if constexpr (requires { Op::kWhyNotDifferentiable; }) {
    info.why_not_differentiable = Op::kWhyNotDifferentiable;
  } else {
    info.gradient = [](const GradientContext& c) {
      return std::vector<Tensor>{Op::gradient(c.output_gradients[0], c.inputs[0], c.outputs[0])};
    };
  }
  return info;
}

using Range = std::pair<double, double>;

struct Neg {
  static constexpr std::string_view kName = "neg";
  static constexpr Range kRange{-2.0, 2.0};
  template <typename T>
  static T value(T x) {
    return -x;
  }
  static Tensor gradient(const Tensor& dy, const Tensor&, const Tensor&) { return neg(dy); }
};

struct Exp {
  static constexpr std::string_view kName = "exp";
  static constexpr Range kRange{-2.0, 2.0};
  template <typename T>
  static T value(T x) {
    return math::exp(x);
  }
  static Tensor gradient(const Tensor& dy, const Tensor&, const Tensor& y) { return mul(dy, y); }
};

struct Log {
  static constexpr std::string_view kName = "log";
  static constexpr Range kRange{0.5, 3.0};
  template <typename T>
  static T value(T x) {
    return math::log(x);
  }
  static Tensor gradient(const Tensor& dy, const Tensor& x, const Tensor&) { return div(dy, x); }
};

struct Sqrt {
  static constexpr std::string_view kName = "sqrt";
  static constexpr Range kRange{0.5, 3.0};
  template <typename T>
  static T value(T x) {
    return std::sqrt(x);
  }
  static Tensor gradient(const Tensor& dy, const Tensor&, const Tensor& y) {
    return div(scale(dy, 0.5), y);
  }
};

struct Rsqrt {
  static constexpr std::string_view kName = "rsqrt";
  static constexpr Range kRange{0.5, 3.0};
  template <typename T>
  static T value(T x) {
    return T{1} / std::sqrt(x);
  }
  static Tensor gradient(const Tensor& dy, const Tensor&, const Tensor& y) {
    return mul(scale(dy, -0.5), mul(y, square(y)));
  }
};

struct Square {
  static constexpr std::string_view kName = "square";
  static constexpr Range kRange{-2.0, 2.0};
  template <typename T>
  static T value(T x) {
    return x * x;
  }
  static Tensor gradient(const Tensor& dy, const Tensor& x, const Tensor&) {
    return mul(scale(dy, 2.0), x);
  }
};

struct Relu {
  static constexpr std::string_view kName = "relu";
  static constexpr Range kRange{-2.0, 2.0};
  template <typename T>
  static T value(T x) {
    return relu_of(x);
  }
  static Tensor gradient(const Tensor& dy, const Tensor&, const Tensor& y) {
    return apply1("relu_backward", {dy, y});
  }
};

struct Tanh {
  static constexpr std::string_view kName = "tanh";
  static constexpr Range kRange{-2.0, 2.0};
  template <typename T>
  static T value(T x) {
    return math::tanh(x);
  }
  static Tensor gradient(const Tensor& dy, const Tensor&, const Tensor& y) {
    return apply1("tanh_backward", {dy, y});
  }
};

struct Sigmoid {
  static constexpr std::string_view kName = "sigmoid";
  static constexpr Range kRange{-2.0, 2.0};
  template <typename T>
  static T value(T x) {
    return math::logistic(x);
  }
  static Tensor gradient(const Tensor& dy, const Tensor&, const Tensor& y) {
    return apply1("sigmoid_backward", {dy, y});
  }
};

struct GreaterThanZero {
  static constexpr std::string_view kName = "greater_than_zero";
  static constexpr std::string_view kWhyNotDifferentiable = "a step has no useful derivative";
  static constexpr Range kRange{-2.0, 2.0};
  template <typename T>
  static T value(T x) {
    return x > T{0} ? T{1} : T{0};
  }
};

// Backward ops: (dy, y) -> dx, where y is the forward op's output.
template <typename Op>
std::vector<TensorType> infer_backward(const OpSignature& signature) {
  expect_num_inputs(Op::kName, signature, 2);
  expect_floating(Op::kName, "dy", signature.inputs[0]);
  expect_dtype(Op::kName, "y", signature.inputs[1], signature.inputs[0].dtype);
  expect_shape(Op::kName, "y", signature.inputs[1], signature.inputs[0].shape);
  return {signature.inputs[0]};
}

template <typename Op>
void run_backward(std::span<const Tensor> inputs, const Attributes&, std::span<Tensor> outputs) {
  dispatch_floating(inputs[0].dtype(), [&]<typename T>() {
    const T* const dy = inputs[0].data<T>().data();
    const T* const y = inputs[1].data<T>().data();
    T* const dx = outputs[0].mutable_data<T>().data();
    const std::int64_t n = inputs[0].num_elements();
#pragma GCC ivdep
    for (std::int64_t i = 0; i < n; ++i) {
      dx[i] = Op::template value<T>(dy[i], y[i]);
    }
  });
}

// dx is linear in dy, so the gradient for dy is the op itself; each op says what flows to y.
template <typename Op>
std::vector<Tensor> backward_gradient(const GradientContext& c) {
  const Tensor& ddx = c.output_gradients[0];
  std::vector<Tensor> gradients(2);
  if (c.needs_input_gradient[0]) {
    gradients[0] = apply1(Op::kName, {ddx, c.inputs[1]});
  }
  if (c.needs_input_gradient[1]) {
    gradients[1] = Op::gradient_for_y(ddx, c.inputs[0], c.inputs[1]);
  }
  return gradients;
}

template <typename Op>
std::vector<ExampleCall> backward_examples() {
  return {{{{DType::kFloat64, {3, 5}}, {DType::kFloat64, {3, 5}}}, {}, {{-2.0, 2.0}, Op::kRange}},
          {{{DType::kFloat64, {17}}, {DType::kFloat64, {17}}}, {}, {{-2.0, 2.0}, Op::kRange}}};
}

template <typename Op>
OpInfo backward_op() {
  OpInfo info;
  info.name = Op::kName;
  info.infer = infer_backward<Op>;
  info.kernels = {function_kernel<run_backward<Op>>()};
  info.blocked = in_any_uniform_layout<run_backward<Op>>();
  info.in_place = 0b11;
  info.gradient = backward_gradient<Op>;
  info.examples = backward_examples<Op>;
  return info;
}

struct ReluBackward {
  static constexpr std::string_view kName = "relu_backward";
  static constexpr Range kRange{-2.0, 2.0};
  template <typename T>
  static T value(T dy, T y) {
    return relu_gradient_of(dy, y);
  }
  static Tensor gradient_for_y(const Tensor&, const Tensor&, const Tensor&) { return {}; }
};

struct TanhBackward {
  static constexpr std::string_view kName = "tanh_backward";
  static constexpr Range kRange{-1.0, 1.0};
  template <typename T>
  static T value(T dy, T y) {
    return dy * (T{1} - y * y);
  }
  static Tensor gradient_for_y(const Tensor& ddx, const Tensor& dy, const Tensor& y) {
    return mul(mul(ddx, dy), scale(y, -2.0));
  }
};

struct SigmoidBackward {
  static constexpr std::string_view kName = "sigmoid_backward";
  static constexpr Range kRange{0.0, 1.0};
  template <typename T>
  static T value(T dy, T y) {
    return dy * (y * (T{1} - y));
  }
  static Tensor gradient_for_y(const Tensor& ddx, const Tensor& dy, const Tensor& y) {
    const Tensor one = Tensor::full({}, y.dtype(), 1.0);
    return mul(mul(ddx, dy), sub(one, scale(y, 2.0)));
  }
};

std::vector<TensorType> infer_cast(const OpSignature& signature) {
  expect_num_inputs("cast", signature, 1);
  return {{dtype_named(signature.attributes.text("dtype")), signature.inputs[0].shape}};
}

template <typename From, typename To>
To cast_value(From x) {
  if constexpr (std::is_same_v<To, bool>) {
    return x != From{0};
  } else {
    return static_cast<To>(x);
  }
}

void run_cast(std::span<const Tensor> inputs, const Attributes&, std::span<Tensor> outputs) {
  dispatch_any(inputs[0].dtype(), [&]<typename From>() {
    dispatch_any(outputs[0].dtype(), [&]<typename To>() {
      const From* const x = inputs[0].data<From>().data();
      To* const y = outputs[0].mutable_data<To>().data();
      const std::int64_t n = inputs[0].num_elements();
      for (std::int64_t i = 0; i < n; ++i) {
        y[i] = cast_value<From, To>(x[i]);
      }
    });
  });
}

std::vector<Tensor> cast_gradient(const GradientContext& c) {
  if (!is_floating_point(c.outputs[0].dtype())) {
    return {Tensor()};
  }
  return {cast(c.output_gradients[0], c.inputs[0].dtype())};
}

std::vector<ExampleCall> cast_examples() {
  std::vector<ExampleCall> examples;
  for (const DType from : kAllDTypes) {
    for (const DType to : kAllDTypes) {
      const std::pair<double, double> range{
          is_floating_point(from) && to != DType::kUint8 ? -9.0 : 0.0,
          from == DType::kBool ? 2.0 : 9.0};
      examples.push_back({{{from, {3, 5}}}, {{"dtype", std::string(name_of(to))}}, {range}});
    }
  }
  return examples;
}

OpInfo cast_op() {
  OpInfo info;
  info.name = "cast";
  info.infer = infer_cast;
  info.kernels = {function_kernel<run_cast>()};
  info.gradient = cast_gradient;
  info.examples = cast_examples;
  return info;
}

}  // namespace

std::vector<OpInfo> elementwise_ops() {
  return {unary_op<Neg>(),
          unary_op<Exp>(),
          unary_op<Log>(),
          unary_op<Sqrt>(),
          unary_op<Rsqrt>(),
          unary_op<Square>(),
          unary_op<Relu>(),
          unary_op<Tanh>(),
          unary_op<Sigmoid>(),
          unary_op<GreaterThanZero>(),
          backward_op<ReluBackward>(),
          backward_op<TanhBackward>(),
          backward_op<SigmoidBackward>(),
          cast_op()};
}

Tensor neg(const Tensor& x) {
  return apply1("neg", {x});
}
Tensor exp(const Tensor& x) {
  return apply1("exp", {x});
}
Tensor log(const Tensor& x) {
  return apply1("log", {x});
}
Tensor sqrt(const Tensor& x) {
  return apply1("sqrt", {x});
}
Tensor rsqrt(const Tensor& x) {
  return apply1("rsqrt", {x});
}
Tensor square(const Tensor& x) {
  return apply1("square", {x});
}
Tensor relu(const Tensor& x) {
  return apply1("relu", {x});
}
Tensor tanh(const Tensor& x) {
  return apply1("tanh", {x});
}
Tensor sigmoid(const Tensor& x) {
  return apply1("sigmoid", {x});
}
Tensor greater_than_zero(const Tensor& x) {
  return apply1("greater_than_zero", {x});
}
Tensor cast(const Tensor& x, DType dtype) {
  return apply1("cast", {x}, {{"dtype", std::string(name_of(dtype))}});
}

}  // namespace superstep::kernels

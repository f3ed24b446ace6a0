#include "kernels/binary_ops.h"

#include <fmt/format.h>

#include "kernels/dispatch.h"
#include "kernels/op_table.h"
#include "kernels/ops.h"
#include "kernels/signature_checks.h"
#include "kernels/strided_loop.h"

namespace superstep::kernels {
namespace {

// Each op is a type: name, function of two elements, gradients (before summing to the inputs'
// shapes).
template <typename Op>
std::vector<TensorType> infer_binary(const OpSignature& signature) {
  expect_num_inputs(Op::kName, signature, 2);
  const TensorType& a = signature.inputs[0];
  const TensorType& b = signature.inputs[1];
  expect_floating(Op::kName, "a", a);
  expect_dtype(Op::kName, "b", b, a.dtype);
  return {{a.dtype, broadcast_shapes(Op::kName, a.shape, b.shape)}};
}

StridedLoop<2> broadcast_loop(const Shape& out, const Shape& a, const Shape& b) {
  std::array<StridedLoop<2>::Offsets, kMaxRank> strides{};
  for (std::size_t operand = 0; operand < 2; ++operand) {
    const Shape& shape = operand == 0 ? a : b;
    std::int64_t stride = 1;
    for (int back = 1; back <= shape.rank(); ++back) {
      const std::int64_t size = shape.sizes()[static_cast<std::size_t>(shape.rank() - back)];
      strides[static_cast<std::size_t>(out.rank() - back)][operand] = size == 1 ? 0 : stride;
      stride *= size;
    }
  }
  StridedLoop<2> loop;
  for (int d = 0; d < out.rank(); ++d) {
    loop.push(out.sizes()[static_cast<std::size_t>(d)], strides[static_cast<std::size_t>(d)]);
  }
  return loop;
}

// A row's operands have stride 1 or 0; three loops, so that each vectorises.
template <typename Op, typename T>
void run_row(const T* a, std::int64_t a_stride, const T* b, std::int64_t b_stride, T* y,
             std::int64_t n) {
  if (a_stride != 0 && b_stride != 0) {
#pragma GCC ivdep
    for (std::int64_t i = 0; i < n; ++i) {
      y[i] = Op::template value<T>(a[i], b[i]);
    }
  } else if (a_stride != 0) {
    const T repeated = *b;
#pragma GCC ivdep
    for (std::int64_t i = 0; i < n; ++i) {
      y[i] = Op::template value<T>(a[i], repeated);
    }
  } else {
    const T repeated = *a;
#pragma GCC ivdep
    for (std::int64_t i = 0; i < n; ++i) {
      y[i] = Op::template value<T>(repeated, b[i * b_stride]);
    }
  }
}

template <typename Op>
void run_binary(std::span<const Tensor> inputs, const Attributes&, std::span<Tensor> outputs) {
  const StridedLoop<2> loop =
      broadcast_loop(outputs[0].shape(), inputs[0].shape(), inputs[1].shape());
  dispatch_floating(inputs[0].dtype(), [&]<typename T>() {
    const T* const a = inputs[0].data<T>().data();
    const T* const b = inputs[1].data<T>().data();
    T* y = outputs[0].mutable_data<T>().data();
    loop.for_each_row([&](const StridedLoop<2>::Offsets& offsets) {
      run_row<Op, T>(a + offsets[0], loop.row_stride(0), b + offsets[1], loop.row_stride(1), y,
                     loop.row_length());
      y += loop.row_length();
    });
  });
}

template <typename Op>
std::vector<Tensor> binary_gradient(const GradientContext& c) {
  const Tensor& dy = c.output_gradients[0];
  std::vector<Tensor> gradients(2);
  if (c.needs_input_gradient[0]) {
    gradients[0] = sum_to(Op::gradient_for_a(dy, c), c.inputs[0].shape());
  }
  if (c.needs_input_gradient[1]) {
    gradients[1] = sum_to(Op::gradient_for_b(dy, c), c.inputs[1].shape());
  }
  return gradients;
}

template <typename Op>
std::vector<ExampleCall> binary_examples() {
  const auto call = [](Shape a, Shape b) {
    return ExampleCall{{{DType::kFloat64, std::move(a)}, {DType::kFloat64, std::move(b)}},
                       {},
                       {{-2.0, 2.0}, Op::kRangeOfB}};
  };
  return {call({3, 4}, {3, 4}),       call({2, 3, 4}, {4}),
          call({2, 3, 4}, {3, 1}),    call({4}, {2, 3, 4}),
          call({2, 1, 5}, {1, 3, 1}), call({}, {2, 3}),
          call({2, 3}, {}),           call({}, {}),
          call({0, 3}, {3}),          call({2, 3, 4, 5}, {1, 3, 1, 1})};
}

template <typename Op>
OpInfo binary_op() {
  OpInfo info;
  info.name = Op::kName;
  info.infer = infer_binary<Op>;
  info.kernels = {function_kernel<run_binary<Op>>()};
  // Without broadcasting it is element by element, and blocks are as good as planes.
  info.blocked.make = [](const OpSignature& signature, std::span<const Layout>,
                         std::span<const Layout>) -> std::unique_ptr<Kernel> {
    return signature.inputs[0].shape == signature.inputs[1].shape
               ? make_function_kernel(run_binary<Op>, signature.attributes)
               : nullptr;
  };
  info.in_place = 0b11;  // an input of the output's type is not broadcast
  info.gradient = binary_gradient<Op>;
  info.examples = binary_examples<Op>;
  return info;
}

using Range = std::pair<double, double>;

struct Add {
  static constexpr std::string_view kName = "add";
  static constexpr Range kRangeOfB{-2.0, 2.0};
  template <typename T>
  static T value(T a, T b) {
    return a + b;
  }
  static Tensor gradient_for_a(const Tensor& dy, const GradientContext&) { return dy; }
  static Tensor gradient_for_b(const Tensor& dy, const GradientContext&) { return dy; }
};

struct Sub {
  static constexpr std::string_view kName = "sub";
  static constexpr Range kRangeOfB{-2.0, 2.0};
  template <typename T>
  static T value(T a, T b) {
    return a - b;
  }
  static Tensor gradient_for_a(const Tensor& dy, const GradientContext&) { return dy; }
  static Tensor gradient_for_b(const Tensor& dy, const GradientContext&) { return neg(dy); }
};

struct Mul {
  static constexpr std::string_view kName = "mul";
  static constexpr Range kRangeOfB{-2.0, 2.0};
  template <typename T>
  static T value(T a, T b) {
    return a * b;
  }
  static Tensor gradient_for_a(const Tensor& dy, const GradientContext& c) {
    return mul(dy, c.inputs[1]);
  }
  static Tensor gradient_for_b(const Tensor& dy, const GradientContext& c) {
    return mul(dy, c.inputs[0]);
  }
};

struct Div {
  static constexpr std::string_view kName = "div";
  static constexpr Range kRangeOfB{0.5, 2.0};
  template <typename T>
  static T value(T a, T b) {
    return a / b;
  }
  static Tensor gradient_for_a(const Tensor& dy, const GradientContext& c) {
    return div(dy, c.inputs[1]);
  }
  static Tensor gradient_for_b(const Tensor& dy, const GradientContext& c) {
    return neg(mul(dy, div(c.outputs[0], c.inputs[1])));
  }
};

}  // namespace

std::vector<OpInfo> binary_ops() {
  return {binary_op<Add>(), binary_op<Sub>(), binary_op<Mul>(), binary_op<Div>()};
}

Tensor add(const Tensor& a, const Tensor& b) {
  return apply1("add", {a, b});
}
Tensor sub(const Tensor& a, const Tensor& b) {
  return apply1("sub", {a, b});
}
Tensor mul(const Tensor& a, const Tensor& b) {
  return apply1("mul", {a, b});
}
Tensor div(const Tensor& a, const Tensor& b) {
  return apply1("div", {a, b});
}

Tensor scale(const Tensor& x, double factor) {
  return mul(x, Tensor::full({}, x.dtype(), factor));
}

}  // namespace superstep::kernels

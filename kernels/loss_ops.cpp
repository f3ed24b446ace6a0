#include "kernels/loss_ops.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "base/error.h"
#include "kernels/dispatch.h"
#include "kernels/math.h"
#include "kernels/op_table.h"
#include "kernels/ops.h"
#include "kernels/reduce_ops.h"
#include "kernels/signature_checks.h"

namespace superstep::kernels {
namespace {

template <typename T>
T largest(const T* row, std::int64_t n) {
  T result = row[0];
  for (std::int64_t i = 1; i < n; ++i) {
    result = row[i] > result ? row[i] : result;
  }
  return result;
}

// exponentials[i] = exp(row[i] - largest); returns their sum.
template <typename T>
double exponentials_of_row(const T* row, std::int64_t n, T maximum, T* exponentials) {
#pragma GCC ivdep
  for (std::int64_t i = 0; i < n; ++i) {
    exponentials[i] = math::exp(row[i] - maximum);
  }
  return sum_of_row(exponentials, n);
}

struct Softmax {
  static constexpr std::string_view kName = "softmax";
  template <typename T>
  static void row(const T* x, std::int64_t n, T* y) {
    const T factor = static_cast<T>(1.0 / exponentials_of_row(x, n, largest(x, n), y));
    for (std::int64_t i = 0; i < n; ++i) {
      y[i] *= factor;
    }
  }
  static Tensor gradient(const Tensor& dy, const Tensor& y) {
    const Tensor dot = sum(mul(dy, y), {.axes = {-1}, .keep_dims = true});
    return mul(y, sub(dy, dot));
  }
};

struct LogSoftmax {
  static constexpr std::string_view kName = "log_softmax";
  template <typename T>
  static void row(const T* x, std::int64_t n, T* y) {
    const T maximum = largest(x, n);
    const double log_sum = std::log(exponentials_of_row(x, n, maximum, y));
    for (std::int64_t i = 0; i < n; ++i) {
      y[i] = static_cast<T>(static_cast<double>(x[i] - maximum) - log_sum);
    }
  }
  static Tensor gradient(const Tensor& dy, const Tensor& y) {
    const Tensor total = sum(dy, {.axes = {-1}, .keep_dims = true});
    return sub(dy, mul(exp(y), total));
  }
};

template <typename Op>
std::vector<TensorType> infer_rowwise(const OpSignature& signature) {
  expect_num_inputs(Op::kName, signature, 1);
  expect_floating(Op::kName, "x", signature.inputs[0]);
  expect_min_rank(Op::kName, "x", signature.inputs[0], 1);
  return {signature.inputs[0]};
}

template <typename Op>
void run_rowwise(std::span<const Tensor> inputs, const Attributes&, std::span<Tensor> outputs) {
  const std::int64_t n = inputs[0].shape()[-1];
  dispatch_floating(inputs[0].dtype(), [&]<typename T>() {
    const T* const x = inputs[0].data<T>().data();
    T* const y = outputs[0].mutable_data<T>().data();
    for (std::int64_t begin = 0; begin < inputs[0].num_elements(); begin += n) {
      Op::template row<T>(x + begin, n, y + begin);
    }
  });
}

std::vector<ExampleCall> rowwise_examples() {
  return {{{{DType::kFloat64, {4, 10}}}, {}, {{-3.0, 3.0}}},
          {{{DType::kFloat64, {2, 3, 5}}}, {}, {{-3.0, 3.0}}},
          {{{DType::kFloat64, {7}}}, {}, {{-3.0, 3.0}}},
          {{{DType::kFloat64, {3, 1}}}, {}, {{-3.0, 3.0}}},
          {{{DType::kFloat64, {0, 3}}}, {}, {{-3.0, 3.0}}}};
}

template <typename Op>
OpInfo rowwise_op() {
  OpInfo info;
  info.name = Op::kName;
  info.infer = infer_rowwise<Op>;
  info.kernels = {function_kernel<run_rowwise<Op>>()};
  info.gradient = [](const GradientContext& c) {
    return std::vector<Tensor>{Op::gradient(c.output_gradients[0], c.outputs[0])};
  };
  info.flops = [](const OpSignature& signature) {
    return 5.0 * static_cast<double>(signature.inputs[0].shape.num_elements());
  };
  info.examples = rowwise_examples;
  return info;
}

// ---- cross-entropy ----

void expect_logits_and_labels(std::string_view op, const TensorType& logits,
                              const TensorType& labels) {
  expect_floating(op, "logits", logits);
  expect_rank(op, "logits", logits, 2);
  if (logits.shape[1] < 1) {
    fail_argument(op, "logits", fmt::format("shape {}", logits.shape.to_string()),
                  "at least one class");
  }
  expect_index(op, "labels", labels);
  expect_shape(op, "labels", labels, {logits.shape[0]});
}

template <typename I>
std::int64_t checked_label(std::string_view op, I label, std::int64_t sample,
                           std::int64_t num_classes) {
  if (label < 0 || label >= num_classes) {
    throw InvalidArgument(
        op, fmt::format("label of sample {} of the batch: got {}, expected 0 to {}", sample, label,
                        num_classes - 1));
  }
  return label;
}

std::vector<TensorType> infer_cross_entropy(const OpSignature& signature) {
  expect_num_inputs("cross_entropy", signature, 2);
  const TensorType& logits = signature.inputs[0];
  expect_logits_and_labels("cross_entropy", logits, signature.inputs[1]);
  return {{logits.dtype, {logits.shape[0]}}};
}

// The row's exponentials are summed in blocks, so that no row-sized scratch is needed.
template <typename T>
double sum_of_exponentials(const T* row, std::int64_t n, T maximum) {
  constexpr std::int64_t kBlock = 256;
  std::array<T, kBlock> exponentials;
  double total = 0.0;
  for (std::int64_t begin = 0; begin < n; begin += kBlock) {
    total +=
        exponentials_of_row(row + begin, std::min(kBlock, n - begin), maximum, exponentials.data());
  }
  return total;
}

void run_cross_entropy(std::span<const Tensor> inputs, const Attributes&,
                       std::span<Tensor> outputs) {
  const std::int64_t num_classes = inputs[0].shape()[1];
  dispatch_floating(inputs[0].dtype(), [&]<typename T>() {
    dispatch_index(inputs[1].dtype(), [&]<typename I>() {
      const std::span<const I> labels = inputs[1].data<I>();
      const std::span<T> losses = outputs[0].mutable_data<T>();
      for (std::size_t i = 0; i < labels.size(); ++i) {
        const std::int64_t sample = static_cast<std::int64_t>(i);
        const std::int64_t label = checked_label("cross_entropy", labels[i], sample, num_classes);
        const T* const row = inputs[0].data<T>().data() + sample * num_classes;
        const T maximum = largest(row, num_classes);
        const double log_sum = std::log(sum_of_exponentials(row, num_classes, maximum));
        losses[i] = static_cast<T>(log_sum - static_cast<double>(row[label] - maximum));
      }
    });
  });
}

Tensor cross_entropy_backward(const Tensor& dloss, const Tensor& logits, const Tensor& labels) {
  return apply1("cross_entropy_backward", {dloss, logits, labels});
}

std::vector<Tensor> cross_entropy_gradient(const GradientContext& c) {
  return {cross_entropy_backward(c.output_gradients[0], c.inputs[0], c.inputs[1]), Tensor()};
}

std::vector<ExampleCall> cross_entropy_examples() {
  return {{{{DType::kFloat64, {4, 10}}, {DType::kInt64, {4}}}, {}, {{-3.0, 3.0}, {0.0, 10.0}}},
          {{{DType::kFloat64, {3, 1}}, {DType::kInt32, {3}}}, {}, {{-3.0, 3.0}, {0.0, 1.0}}},
          {{{DType::kFloat64, {2, 300}}, {DType::kInt32, {2}}}, {}, {{-3.0, 3.0}, {0.0, 300.0}}},
          {{{DType::kFloat64, {0, 3}}, {DType::kInt64, {0}}}, {}, {{-3.0, 3.0}, {0.0, 3.0}}}};
}

// (dloss (N), logits (N, C), labels (N)) -> dloss * (softmax(logits) - one_hot(labels)), (N, C)
std::vector<TensorType> infer_cross_entropy_backward(const OpSignature& signature) {
  constexpr std::string_view kName = "cross_entropy_backward";
  expect_num_inputs(kName, signature, 3);
  const TensorType& logits = signature.inputs[1];
  expect_floating(kName, "dloss", signature.inputs[0]);
  expect_dtype(kName, "logits", logits, signature.inputs[0].dtype);
  expect_logits_and_labels(kName, logits, signature.inputs[2]);
  expect_shape(kName, "dloss", signature.inputs[0], {logits.shape[0]});
  return {logits};
}

void run_cross_entropy_backward(std::span<const Tensor> inputs, const Attributes&,
                                std::span<Tensor> outputs) {
  const std::int64_t num_classes = inputs[1].shape()[1];
  dispatch_floating(inputs[0].dtype(), [&]<typename T>() {
    dispatch_index(inputs[2].dtype(), [&]<typename I>() {
      const std::span<const I> labels = inputs[2].data<I>();
      const std::span<const T> dloss = inputs[0].data<T>();
      for (std::size_t i = 0; i < labels.size(); ++i) {
        const std::int64_t sample = static_cast<std::int64_t>(i);
        const std::int64_t label =
            checked_label("cross_entropy_backward", labels[i], sample, num_classes);
        T* const dx = outputs[0].mutable_data<T>().data() + sample * num_classes;
        Softmax::row(inputs[1].data<T>().data() + sample * num_classes, num_classes, dx);
        dx[label] -= T{1};
        for (std::int64_t k = 0; k < num_classes; ++k) {
          dx[k] *= dloss[i];
        }
      }
    });
  });
}

// With s = softmax(logits), dx = dloss (s - one_hot): linear in dloss, and the derivative for
// logits is that of the softmax.
std::vector<Tensor> cross_entropy_backward_gradient(const GradientContext& c) {
  const Tensor& ddx = c.output_gradients[0];
  const Tensor& dloss = c.inputs[0];
  const Tensor& logits = c.inputs[1];
  std::vector<Tensor> gradients(3);
  if (c.needs_input_gradient[0]) {
    const Tensor ones = Tensor::full(dloss.shape(), dloss.dtype(), 1.0);
    const Tensor direction = cross_entropy_backward(ones, logits, c.inputs[2]);
    gradients[0] = sum(mul(ddx, direction), {.axes = {1}});
  }
  if (c.needs_input_gradient[1]) {
    const Tensor scaled = mul(ddx, reshape(dloss, {dloss.shape()[0], 1}));
    gradients[1] = Softmax::gradient(scaled, softmax(logits));
  }
  return gradients;
}

std::vector<ExampleCall> cross_entropy_backward_examples() {
  std::vector<ExampleCall> examples = cross_entropy_examples();
  for (ExampleCall& call : examples) {
    call.inputs.insert(call.inputs.begin(), {DType::kFloat64, {call.inputs[0].shape[0]}});
    call.ranges.insert(call.ranges.begin(), {-2.0, 2.0});
  }
  return examples;
}

template <std::size_t kLogits>
double logits_flops(const OpSignature& signature) {
  return 5.0 * static_cast<double>(signature.inputs[kLogits].shape.num_elements());
}

}  // namespace

std::vector<OpInfo> loss_ops() {
  OpInfo forward;
  forward.name = "cross_entropy";
  forward.infer = infer_cross_entropy;
  forward.kernels = {function_kernel<run_cross_entropy>()};
  forward.gradient = cross_entropy_gradient;
  forward.flops = logits_flops<0>;
  forward.examples = cross_entropy_examples;

  OpInfo backward;
  backward.name = "cross_entropy_backward";
  backward.infer = infer_cross_entropy_backward;
  backward.kernels = {function_kernel<run_cross_entropy_backward>()};
  backward.gradient = cross_entropy_backward_gradient;
  backward.flops = logits_flops<1>;
  backward.examples = cross_entropy_backward_examples;
  return {rowwise_op<Softmax>(), rowwise_op<LogSoftmax>(), forward, backward};
}

Tensor softmax(const Tensor& x) {
  return apply1("softmax", {x});
}
Tensor log_softmax(const Tensor& x) {
  return apply1("log_softmax", {x});
}
Tensor cross_entropy(const Tensor& logits, const Tensor& labels) {
  return apply1("cross_entropy", {logits, labels});
}

}  // namespace superstep::kernels

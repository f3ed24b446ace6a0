#include "kernels/random_ops.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "base/philox.h"
#include "kernels/dispatch.h"
#include "kernels/op_table.h"
#include "kernels/ops.h"
#include "kernels/signature_checks.h"

namespace superstep::kernels {
namespace {

std::vector<TensorType> infer_dropout(const OpSignature& signature) {
  expect_num_inputs("dropout", signature, 3);
  const TensorType& x = signature.inputs[0];
  expect_floating("dropout", "x", x);
  expect_min_rank("dropout", "x", x, 1);
  expect_dtype("dropout", "sample_ids", signature.inputs[1], DType::kInt64);
  expect_shape("dropout", "sample_ids", signature.inputs[1], {x.shape[0]});
  expect_dtype("dropout", "key", signature.inputs[2], DType::kInt64);
  expect_shape("dropout", "key", signature.inputs[2], {2});
  const double rate = signature.attributes.real("rate");
  if (!(rate >= 0.0 && rate < 1.0)) {
    fail_argument("dropout", "rate", fmt::format("{}", rate), "at least 0 and less than 1");
  }
  signature.attributes.integer("op_index");
  return {x};
}

template <typename T>
void drop_sample(const PhiloxStream& stream, std::uint64_t threshold, T factor, const T* x,
                 std::int64_t n, T* y) {
  std::uint64_t block = 0;
  for (std::int64_t begin = 0; begin < n; begin += 4, ++block) {
    const PhiloxBlock words = stream.block(block);
    const std::int64_t count = std::min<std::int64_t>(4, n - begin);
    for (std::int64_t k = 0; k < count; ++k) {
      const bool keeps = words[static_cast<std::size_t>(k)] >= threshold;
      y[begin + k] = keeps ? x[begin + k] * factor : T{0};
    }
  }
}

void run_dropout(std::span<const Tensor> inputs, const Attributes& attributes,
                 std::span<Tensor> outputs) {
  const double rate = attributes.real("rate");
  const std::uint64_t threshold = static_cast<std::uint64_t>(std::ldexp(rate, 32));
  const std::span<const std::int64_t> ids = inputs[1].data<std::int64_t>();
  const std::span<const std::int64_t> key = inputs[2].data<std::int64_t>();
  if (ids.empty()) {
    return;
  }
  const std::int64_t n = inputs[0].num_elements() / static_cast<std::int64_t>(ids.size());
  dispatch_floating(inputs[0].dtype(), [&]<typename T>() {
    const T factor = static_cast<T>(1.0 / (1.0 - rate));
    const T* x = inputs[0].data<T>().data();
    T* y = outputs[0].mutable_data<T>().data();
    for (const std::int64_t id : ids) {
      const PhiloxStream stream(static_cast<std::uint64_t>(key[0]), stream_id("dropout"), key[1],
                                id, attributes.integer("op_index"));
      drop_sample(stream, threshold, factor, x, n, y);
      x += n;
      y += n;
    }
  });
}

std::vector<Tensor> dropout_gradient(const GradientContext& c) {
  return {apply1("dropout", {c.output_gradients[0], c.inputs[1], c.inputs[2]}, c.attributes),
          Tensor(), Tensor()};
}

std::vector<ExampleCall> dropout_examples() {
  const auto call = [](Shape shape, double rate) {
    const std::int64_t samples = shape[0];
    return ExampleCall{
        {{DType::kFloat64, std::move(shape)}, {DType::kInt64, {samples}}, {DType::kInt64, {2}}},
        {{"rate", rate}, {"op_index", std::int64_t{3}}},
        {{-2.0, 2.0}, {0.0, 1e6}, {0.0, 1e3}}};
  };
  return {call({4, 9}, 0.5), call({2, 3, 5}, 0.25), call({5}, 0.5), call({3, 4}, 0.0),
          call({0, 4}, 0.5)};
}

}  // namespace

std::vector<OpInfo> random_ops() {
  OpInfo dropout_op;
  dropout_op.name = "dropout";
  dropout_op.infer = infer_dropout;
  dropout_op.kernels = {function_kernel<run_dropout>()};
  dropout_op.gradient = dropout_gradient;
  dropout_op.examples = dropout_examples;
  return {dropout_op};
}

Tensor dropout(const Tensor& x, const Tensor& sample_ids, const Tensor& key,
               const DropoutOptions& options) {
  return apply1("dropout", {x, sample_ids, key},
                {{"rate", options.rate}, {"op_index", options.op_index}});
}

}  // namespace superstep::kernels

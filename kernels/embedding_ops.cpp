#include "kernels/embedding_ops.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "base/error.h"
#include "kernels/dispatch.h"
#include "kernels/op_table.h"
#include "kernels/ops.h"
#include "kernels/signature_checks.h"

namespace superstep::kernels {
namespace {

template <typename I>
std::int64_t checked_row(std::string_view op, I id, std::size_t position, std::int64_t rows) {
  if (id < 0 || id >= rows) {
    throw InvalidArgument(
        op, fmt::format("id at position {}: got {}, expected 0 to {}", position, id, rows - 1));
  }
  return id;
}

std::vector<TensorType> infer_lookup(const OpSignature& signature) {
  expect_num_inputs("embedding_lookup", signature, 2);
  const TensorType& table = signature.inputs[0];
  const TensorType& ids = signature.inputs[1];
  expect_floating("embedding_lookup", "table", table);
  expect_rank("embedding_lookup", "table", table, 2);
  expect_index("embedding_lookup", "ids", ids);
  std::vector<std::int64_t> sizes(ids.shape.sizes().begin(), ids.shape.sizes().end());
  sizes.push_back(table.shape[1]);
  return {{table.dtype, Shape(std::move(sizes))}};
}

void run_lookup(std::span<const Tensor> inputs, const Attributes&, std::span<Tensor> outputs) {
  const std::int64_t width = inputs[0].shape()[1];
  dispatch_floating(inputs[0].dtype(), [&]<typename T>() {
    dispatch_index(inputs[1].dtype(), [&]<typename I>() {
      const T* const table = inputs[0].data<T>().data();
      const std::span<const I> ids = inputs[1].data<I>();
      T* out = outputs[0].mutable_data<T>().data();
      for (std::size_t i = 0; i < ids.size(); ++i) {
        const std::int64_t row = checked_row("embedding_lookup", ids[i], i, inputs[0].shape()[0]);
        out = std::copy_n(table + row * width, width, out);
      }
    });
  });
}

std::vector<Tensor> lookup_gradient(const GradientContext& c) {
  return {apply1("embedding_backward", {c.output_gradients[0], c.inputs[1]},
                 {{"num_rows", c.inputs[0].shape()[0]}}),
          Tensor()};
}

std::vector<ExampleCall> lookup_examples() {
  return {{{{DType::kFloat64, {5, 3}}, {DType::kInt64, {4}}}, {}, {{-2.0, 2.0}, {0.0, 5.0}}},
          {{{DType::kFloat64, {3, 4}}, {DType::kInt32, {2, 5}}}, {}, {{-2.0, 2.0}, {0.0, 3.0}}},
          {{{DType::kFloat64, {3, 2}}, {DType::kInt32, {}}}, {}, {{-2.0, 2.0}, {0.0, 3.0}}}};
}

// (dy ids' shape + (D), ids; num_rows V) -> (V, D)
std::vector<TensorType> infer_backward(const OpSignature& signature) {
  constexpr std::string_view kName = "embedding_backward";
  expect_num_inputs(kName, signature, 2);
  const TensorType& dy = signature.inputs[0];
  const TensorType& ids = signature.inputs[1];
  expect_floating(kName, "dy", dy);
  expect_index(kName, "ids", ids);
  expect_rank(kName, "dy", dy, ids.shape.rank() + 1);
  const std::int64_t width = dy.shape[-1];
  std::vector<std::int64_t> sizes(ids.shape.sizes().begin(), ids.shape.sizes().end());
  sizes.push_back(width);
  expect_shape(kName, "dy", dy, Shape(std::move(sizes)));
  const std::int64_t num_rows = signature.attributes.integer("num_rows");
  expect_values(kName, "num_rows", {num_rows}, 1, 0);
  return {{dy.dtype, {num_rows, width}}};
}

void run_backward(std::span<const Tensor> inputs, const Attributes&, std::span<Tensor> outputs) {
  const std::int64_t width = outputs[0].shape()[1];
  std::memset(outputs[0].mutable_bytes(), 0, static_cast<std::size_t>(outputs[0].num_bytes()));
  dispatch_floating(inputs[0].dtype(), [&]<typename T>() {
    dispatch_index(inputs[1].dtype(), [&]<typename I>() {
      const T* dy = inputs[0].data<T>().data();
      const std::span<const I> ids = inputs[1].data<I>();
      for (std::size_t i = 0; i < ids.size(); ++i, dy += width) {
        const std::int64_t row =
            checked_row("embedding_backward", ids[i], i, outputs[0].shape()[0]);
        T* const sum = outputs[0].mutable_data<T>().data() + row * width;
        for (std::int64_t k = 0; k < width; ++k) {
          sum[k] += dy[k];
        }
      }
    });
  });
}

std::vector<Tensor> backward_gradient(const GradientContext& c) {
  return {embedding_lookup(c.output_gradients[0], c.inputs[1]), Tensor()};
}

std::vector<ExampleCall> backward_examples() {
  return {{{{DType::kFloat64, {4, 3}}, {DType::kInt64, {4}}},
           {{"num_rows", std::int64_t{5}}},
           {{-2.0, 2.0}, {0.0, 5.0}}},
          {{{DType::kFloat64, {2, 5, 4}}, {DType::kInt32, {2, 5}}},
           {{"num_rows", std::int64_t{3}}},
           {{-2.0, 2.0}, {0.0, 3.0}}}};
}

}  // namespace

std::vector<OpInfo> embedding_ops() {
  OpInfo lookup;
  lookup.name = "embedding_lookup";
  lookup.infer = infer_lookup;
  lookup.kernels = {function_kernel<run_lookup>()};
  lookup.gradient = lookup_gradient;
  lookup.flops = [](const OpSignature&) { return 0.0; };
  lookup.examples = lookup_examples;

  OpInfo backward;
  backward.name = "embedding_backward";
  backward.infer = infer_backward;
  backward.kernels = {function_kernel<run_backward>()};
  backward.gradient = backward_gradient;
  backward.flops = [](const OpSignature& signature) {
    return static_cast<double>(signature.inputs[0].shape.num_elements());
  };
  backward.examples = backward_examples;
  return {lookup, backward};
}

Tensor embedding_lookup(const Tensor& table, const Tensor& ids) {
  return apply1("embedding_lookup", {table, ids});
}

}  // namespace superstep::kernels

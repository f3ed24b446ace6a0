#include "kernels/shape_ops.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "kernels/dispatch.h"
#include "kernels/op_table.h"
#include "kernels/ops.h"
#include "kernels/signature_checks.h"
#include "kernels/strided_loop.h"

namespace superstep::kernels {
namespace {

using Sizes = std::array<std::int64_t, kMaxRank>;

Sizes row_major_strides(const Shape& shape) {
  Sizes strides{};
  std::int64_t stride = 1;
  for (std::size_t d = shape.sizes().size(); d-- > 0;) {
    strides[d] = stride;
    stride *= shape.sizes()[d];
  }
  return strides;
}

// Operand 0 is read, operand 1 is written.
template <typename T>
void copy_strided(const StridedLoop<2>& loop, const T* from, T* to) {
  const std::int64_t from_stride = loop.row_stride(0);
  const std::int64_t to_stride = loop.row_stride(1);
  loop.for_each_row([&](const StridedLoop<2>::Offsets& offsets) {
    const T* const source = from + offsets[0];
    T* const destination = to + offsets[1];
    if (from_stride == 1 && to_stride == 1) {
      std::copy_n(source, loop.row_length(), destination);
      return;
    }
    for (std::int64_t i = 0; i < loop.row_length(); ++i) {
      destination[i * to_stride] = source[i * from_stride];
    }
  });
}

// A box of `sizes` at the given places of two row-major arrays.
StridedLoop<2> box_loop(const Shape& sizes, const Shape& from, const Shape& to) {
  const Sizes from_strides = row_major_strides(from);
  const Sizes to_strides = row_major_strides(to);
  StridedLoop<2> loop;
  for (std::size_t d = 0; d < sizes.sizes().size(); ++d) {
    loop.push(sizes.sizes()[d], {from_strides[d], to_strides[d]});
  }
  return loop;
}

std::int64_t offset_of(const std::vector<std::int64_t>& position, const Shape& shape) {
  const Sizes strides = row_major_strides(shape);
  std::int64_t offset = 0;
  for (std::size_t d = 0; d < position.size(); ++d) {
    offset += position[d] * strides[d];
  }
  return offset;
}

std::vector<std::int64_t> sizes_of(const Shape& shape) {
  return {shape.sizes().begin(), shape.sizes().end()};
}

// ---- reshape ----

std::vector<TensorType> infer_reshape(const OpSignature& signature) {
  expect_num_inputs("reshape", signature, 1);
  const TensorType& x = signature.inputs[0];
  Shape shape(signature.attributes.integers("shape"));
  if (shape.num_elements() != x.shape.num_elements()) {
    fail_argument(
        "reshape", "x",
        fmt::format("shape {} of {} elements", x.shape.to_string(), x.shape.num_elements()),
        fmt::format("{} elements as in {}", shape.num_elements(), shape.to_string()));
  }
  return {{x.dtype, std::move(shape)}};
}

std::vector<ExampleCall> reshape_examples() {
  return {
      {{{DType::kFloat64, {2, 3, 4}}}, {{"shape", std::vector<std::int64_t>{4, 6}}}, {{-2.0, 2.0}}},
      {{{DType::kInt32, {1, 1}}}, {{"shape", std::vector<std::int64_t>{}}}, {{0.0, 5.0}}}};
}

OpInfo reshape_op() {
  OpInfo info;
  info.name = "reshape";
  info.infer = infer_reshape;
  info.gradient = [](const GradientContext& c) {
    return std::vector<Tensor>{reshape(c.output_gradients[0], c.inputs[0].shape())};
  };
  info.flops = [](const OpSignature&) { return 0.0; };
  info.examples = reshape_examples;
  info.is_view = true;
  return info;
}

// ---- transpose: dimension d of the output is dimension permutation[d] of the input ----

std::vector<TensorType> infer_transpose(const OpSignature& signature) {
  expect_num_inputs("transpose", signature, 1);
  const TensorType& x = signature.inputs[0];
  const std::vector<std::int64_t>& permutation = signature.attributes.integers("permutation");
  std::vector<std::int64_t> sorted = permutation;
  std::sort(sorted.begin(), sorted.end());
  std::vector<std::int64_t> expected(sizes_of(x.shape).size());
  std::iota(expected.begin(), expected.end(), 0);
  if (sorted != expected) {
    fail_argument("transpose", "permutation", fmt::format("[{}]", fmt::join(permutation, ", ")),
                  fmt::format("each axis of shape {} once", x.shape.to_string()));
  }
  std::vector<std::int64_t> sizes;
  for (const std::int64_t axis : permutation) {
    sizes.push_back(x.shape[static_cast<int>(axis)]);
  }
  return {{x.dtype, Shape(std::move(sizes))}};
}

void run_transpose(std::span<const Tensor> inputs, const Attributes& attributes,
                   std::span<Tensor> outputs) {
  const std::vector<std::int64_t>& permutation = attributes.integers("permutation");
  const Sizes from_strides = row_major_strides(inputs[0].shape());
  const Sizes to_strides = row_major_strides(outputs[0].shape());
  StridedLoop<2> loop;
  for (std::size_t d = 0; d < permutation.size(); ++d) {
    loop.push(outputs[0].shape().sizes()[d],
              {from_strides[static_cast<std::size_t>(permutation[d])], to_strides[d]});
  }
  dispatch_any(inputs[0].dtype(), [&]<typename T>() {
    copy_strided<T>(loop, inputs[0].data<T>().data(), outputs[0].mutable_data<T>().data());
  });
}

std::vector<Tensor> transpose_gradient(const GradientContext& c) {
  const std::vector<std::int64_t>& permutation = c.attributes.integers("permutation");
  std::vector<std::int64_t> inverse(permutation.size());
  for (std::size_t d = 0; d < permutation.size(); ++d) {
    inverse[static_cast<std::size_t>(permutation[d])] = static_cast<std::int64_t>(d);
  }
  return {transpose(c.output_gradients[0], inverse)};
}

std::vector<ExampleCall> transpose_examples() {
  const auto call = [](DType dtype, Shape shape, std::vector<std::int64_t> permutation) {
    return ExampleCall{
        {{dtype, std::move(shape)}}, {{"permutation", std::move(permutation)}}, {{0.0, 2.0}}};
  };
  return {call(DType::kFloat64, {3, 5}, {1, 0}),
          call(DType::kFloat64, {2, 3, 4, 5}, {0, 2, 3, 1}),
          call(DType::kFloat64, {2, 3, 4}, {2, 0, 1}),
          call(DType::kBool, {2, 3}, {1, 0}),
          call(DType::kInt64, {4}, {0}),
          call(DType::kFloat64, {0, 3}, {1, 0})};
}

OpInfo transpose_op() {
  OpInfo info;
  info.name = "transpose";
  info.infer = infer_transpose;
  info.kernels = {function_kernel<run_transpose>()};
  info.gradient = transpose_gradient;
  info.flops = [](const OpSignature&) { return 0.0; };
  info.examples = transpose_examples;
  return info;
}

// ---- concat ----

std::vector<TensorType> infer_concat(const OpSignature& signature) {
  if (signature.inputs.empty()) {
    fail_argument("concat", "parts", "no inputs", "at least one");
  }
  const TensorType& first = signature.inputs[0];
  const int axis = expect_axis("concat", "axis", first.shape, signature.attributes.integer("axis"));
  std::vector<std::int64_t> sizes = sizes_of(first.shape);
  std::int64_t& total = sizes[static_cast<std::size_t>(axis)];
  total = 0;
  for (std::size_t i = 0; i < signature.inputs.size(); ++i) {
    const TensorType& part = signature.inputs[i];
    const std::string name = fmt::format("parts[{}]", i);
    expect_dtype("concat", name, part, first.dtype);
    expect_rank("concat", name, part, first.shape.rank());
    for (int d = 0; d < first.shape.rank(); ++d) {
      if (d != axis && part.shape[d] != first.shape[d]) {
        fail_argument(
            "concat", name, fmt::format("shape {}", part.shape.to_string()),
            fmt::format("that of parts[0], {}, but for axis {}", first.shape.to_string(), axis));
      }
    }
    total += part.shape[axis];
  }
  return {{first.dtype, Shape(std::move(sizes))}};
}

void run_concat(std::span<const Tensor> inputs, const Attributes& attributes,
                std::span<Tensor> outputs) {
  const int axis = outputs[0].shape().axis(attributes.integer("axis"));
  const std::int64_t stride = row_major_strides(outputs[0].shape())[static_cast<std::size_t>(axis)];
  dispatch_any(outputs[0].dtype(), [&]<typename T>() {
    T* to = outputs[0].mutable_data<T>().data();
    for (const Tensor& part : inputs) {
      copy_strided<T>(box_loop(part.shape(), part.shape(), outputs[0].shape()),
                      part.data<T>().data(), to);
      to += part.shape()[axis] * stride;
    }
  });
}

std::vector<Tensor> concat_gradient(const GradientContext& c) {
  const int axis = c.outputs[0].shape().axis(c.attributes.integer("axis"));
  std::vector<std::int64_t> begin(sizes_of(c.outputs[0].shape()).size(), 0);
  std::vector<Tensor> gradients;
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    gradients.push_back(c.needs_input_gradient[i]
                            ? slice(c.output_gradients[0], begin, sizes_of(c.inputs[i].shape()))
                            : Tensor());
    begin[static_cast<std::size_t>(axis)] += c.inputs[i].shape()[axis];
  }
  return gradients;
}

std::vector<ExampleCall> concat_examples() {
  const std::pair<double, double> range{0.0, 2.0};
  const auto call = [&](DType dtype, Shape a, Shape b, std::int64_t axis) {
    return ExampleCall{
        {{dtype, std::move(a)}, {dtype, std::move(b)}}, {{"axis", axis}}, {range, range}};
  };
  return {call(DType::kFloat64, {2, 3}, {4, 3}, 0),
          call(DType::kFloat64, {2, 3, 2}, {2, 1, 2}, 1),
          call(DType::kFloat64, {2, 3}, {2, 0}, -1),
          call(DType::kUint8, {3}, {2}, 0),
          {{{DType::kFloat64, {2, 2}}, {DType::kFloat64, {2, 2}}, {DType::kFloat64, {2, 3}}},
           {{"axis", std::int64_t{1}}},
           {range, range, range}}};
}

OpInfo concat_op() {
  OpInfo info;
  info.name = "concat";
  info.infer = infer_concat;
  info.kernels = {function_kernel<run_concat>()};
  info.gradient = concat_gradient;
  info.flops = [](const OpSignature&) { return 0.0; };
  info.examples = concat_examples;
  return info;
}

// ---- slice ----

std::vector<TensorType> infer_slice(const OpSignature& signature) {
  expect_num_inputs("slice", signature, 1);
  const TensorType& x = signature.inputs[0];
  const std::vector<std::int64_t>& begin = signature.attributes.integers("begin");
  const std::vector<std::int64_t>& size = signature.attributes.integers("size");
  const std::size_t rank = x.shape.sizes().size();
  expect_values("slice", "begin", begin, rank, 0);
  expect_values("slice", "size", size, rank, 0);
  for (std::size_t d = 0; d < rank; ++d) {
    if (begin[d] > x.shape.sizes()[d] || size[d] > x.shape.sizes()[d] - begin[d]) {
      fail_argument("slice", "x",
                    fmt::format("begin {} and size {} on axis {}", begin[d], size[d], d),
                    fmt::format("a range within shape {}", x.shape.to_string()));
    }
  }
  return {{x.dtype, Shape(size)}};
}

void run_slice(std::span<const Tensor> inputs, const Attributes& attributes,
               std::span<Tensor> outputs) {
  const Shape& to = outputs[0].shape();
  const StridedLoop<2> loop = box_loop(to, inputs[0].shape(), to);
  const std::int64_t offset = offset_of(attributes.integers("begin"), inputs[0].shape());
  dispatch_any(inputs[0].dtype(), [&]<typename T>() {
    copy_strided<T>(loop, inputs[0].data<T>().data() + offset, outputs[0].mutable_data<T>().data());
  });
}

std::vector<Tensor> slice_gradient(const GradientContext& c) {
  PadOptions options;
  options.before = c.attributes.integers("begin");
  for (int d = 0; d < c.inputs[0].shape().rank(); ++d) {
    options.after.push_back(c.inputs[0].shape()[d] - options.before[static_cast<std::size_t>(d)] -
                            c.outputs[0].shape()[d]);
  }
  return {pad(c.output_gradients[0], options)};
}

std::vector<ExampleCall> slice_examples() {
  const auto call = [](DType dtype, Shape shape, std::vector<std::int64_t> begin,
                       std::vector<std::int64_t> size) {
    return ExampleCall{{{dtype, std::move(shape)}},
                       {{"begin", std::move(begin)}, {"size", std::move(size)}},
                       {{0.0, 2.0}}};
  };
  return {call(DType::kFloat64, {4, 5}, {1, 2}, {2, 3}),
          call(DType::kFloat64, {2, 3, 4}, {0, 1, 0}, {2, 2, 4}),
          call(DType::kFloat64, {3}, {3}, {0}), call(DType::kInt32, {6}, {2}, {3}),
          call(DType::kFloat64, {}, {}, {})};
}

OpInfo slice_op() {
  OpInfo info;
  info.name = "slice";
  info.infer = infer_slice;
  info.kernels = {function_kernel<run_slice>()};
  info.gradient = slice_gradient;
  info.flops = [](const OpSignature&) { return 0.0; };
  info.examples = slice_examples;
  return info;
}

// ---- pad ----

std::vector<TensorType> infer_pad(const OpSignature& signature) {
  expect_num_inputs("pad", signature, 1);
  const TensorType& x = signature.inputs[0];
  const std::vector<std::int64_t>& before = signature.attributes.integers("before");
  const std::vector<std::int64_t>& after = signature.attributes.integers("after");
  signature.attributes.real("value");
  std::vector<std::int64_t> sizes = sizes_of(x.shape);
  expect_values("pad", "before", before, sizes.size(), 0);
  expect_values("pad", "after", after, sizes.size(), 0);
  for (std::size_t d = 0; d < sizes.size(); ++d) {
    sizes[d] += before[d] + after[d];
  }
  return {{x.dtype, Shape(std::move(sizes))}};
}

void run_pad(std::span<const Tensor> inputs, const Attributes& attributes,
             std::span<Tensor> outputs) {
  const Shape& from = inputs[0].shape();
  const StridedLoop<2> loop = box_loop(from, from, outputs[0].shape());
  const std::int64_t offset = offset_of(attributes.integers("before"), outputs[0].shape());
  dispatch_any(inputs[0].dtype(), [&]<typename T>() {
    const std::span<T> y = outputs[0].mutable_data<T>();
    std::fill(y.begin(), y.end(), static_cast<T>(attributes.real("value")));
    copy_strided<T>(loop, inputs[0].data<T>().data(), y.data() + offset);
  });
}

std::vector<ExampleCall> pad_examples() {
  const auto call = [](DType dtype, Shape shape, std::vector<std::int64_t> before,
                       std::vector<std::int64_t> after, double value) {
    return ExampleCall{
        {{dtype, std::move(shape)}},
        {{"before", std::move(before)}, {"after", std::move(after)}, {"value", value}},
        {{0.0, 2.0}}};
  };
  return {call(DType::kFloat64, {2, 3}, {1, 0}, {0, 2}, 0.0),
          call(DType::kFloat64, {2, 2, 2}, {0, 1, 1}, {0, 1, 1}, 0.5),
          call(DType::kFloat64, {0, 2}, {1, 1}, {1, 1}, -1.0),
          call(DType::kInt64, {3}, {2}, {1}, 7.0), call(DType::kFloat64, {}, {}, {}, 0.0)};
}

OpInfo pad_op() {
  OpInfo info;
  info.name = "pad";
  info.infer = infer_pad;
  info.kernels = {function_kernel<run_pad>()};
  info.gradient = [](const GradientContext& c) {
    return std::vector<Tensor>{slice(c.output_gradients[0], c.attributes.integers("before"),
                                     sizes_of(c.inputs[0].shape()))};
  };
  info.flops = [](const OpSignature&) { return 0.0; };
  info.examples = pad_examples;
  return info;
}

}  // namespace

std::vector<OpInfo> shape_ops() {
  return {reshape_op(), transpose_op(), concat_op(), slice_op(), pad_op()};
}

Tensor reshape(const Tensor& x, const Shape& shape) {
  return apply1("reshape", {x}, {{"shape", sizes_of(shape)}});
}

Tensor flatten(const Tensor& x) {
  const std::int64_t samples = x.shape()[0];
  std::int64_t features = 1;
  for (int d = 1; d < x.shape().rank(); ++d) {
    features *= x.shape()[d];
  }
  return reshape(x, {samples, features});
}

Tensor transpose(const Tensor& x, const std::vector<std::int64_t>& permutation) {
  return apply1("transpose", {x}, {{"permutation", permutation}});
}

Tensor concat(std::span<const Tensor> parts, std::int64_t axis) {
  return std::move(apply("concat", parts, {{"axis", axis}})[0]);
}

Tensor slice(const Tensor& x, const std::vector<std::int64_t>& begin,
             const std::vector<std::int64_t>& size) {
  return apply1("slice", {x}, {{"begin", begin}, {"size", size}});
}

Tensor pad(const Tensor& x, const PadOptions& options) {
  return apply1("pad", {x},
                {{"before", options.before}, {"after", options.after}, {"value", options.value}});
}

}  // namespace superstep::kernels

#include "kernels/reduce_ops.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"
#include "kernels/dispatch.h"
#include "kernels/op_table.h"
#include "kernels/ops.h"
#include "kernels/signature_checks.h"
#include "kernels/strided_loop.h"

namespace superstep::kernels {
namespace {

constexpr int kLanes = 16;  // one AVX-512 register of float, two of double

template <typename T>
double sum_row(const T* values, std::int64_t n) {
  std::array<double, kLanes> sums{};
  const std::int64_t whole = n - n % kLanes;
  for (std::int64_t i = 0; i < whole; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      sums[static_cast<std::size_t>(lane)] += static_cast<double>(values[i + lane]);
    }
  }
  for (std::int64_t i = whole; i < n; ++i) {
    sums[static_cast<std::size_t>(i - whole)] += static_cast<double>(values[i]);
  }
  for (std::size_t half = kLanes / 2; half > 0; half /= 2) {
    for (std::size_t lane = 0; lane < half; ++lane) {
      sums[lane] += sums[lane + half];
    }
  }
  return sums[0];
}

std::array<bool, kMaxRank> reduced_axes(std::string_view op, const Shape& shape,
                                        const Attributes& attributes) {
  std::array<bool, kMaxRank> reduced{};
  for (const std::int64_t axis : attributes.integers("axes")) {
    bool& mark = reduced[static_cast<std::size_t>(expect_axis(op, "axes", shape, axis))];
    if (mark) {
      fail_argument(op, "axes", fmt::format("[{}]", fmt::join(attributes.integers("axes"), ", ")),
                    "each axis once");
    }
    mark = true;
  }
  return reduced;
}

Shape reduced_shape(const Shape& shape, const std::array<bool, kMaxRank>& reduced, bool keep_dims) {
  std::vector<std::int64_t> sizes;
  for (std::size_t d = 0; d < shape.sizes().size(); ++d) {
    if (!reduced[d]) {
      sizes.push_back(shape.sizes()[d]);
    } else if (keep_dims) {
      sizes.push_back(1);
    }
  }
  return Shape(std::move(sizes));
}

std::int64_t reduced_count(const Shape& shape, const std::array<bool, kMaxRank>& reduced) {
  std::int64_t count = 1;
  for (std::size_t d = 0; d < shape.sizes().size(); ++d) {
    count *= reduced[d] ? shape.sizes()[d] : 1;
  }
  return count;
}

template <bool kMean>
std::vector<TensorType> infer_reduction(const OpSignature& signature) {
  constexpr std::string_view kName = kMean ? "mean" : "sum";
  expect_num_inputs(kName, signature, 1);
  const TensorType& x = signature.inputs[0];
  expect_floating(kName, "x", x);
  const std::array<bool, kMaxRank> reduced = reduced_axes(kName, x.shape, signature.attributes);
  if (kMean && reduced_count(x.shape, reduced) == 0) {
    fail_argument(kName, "x", fmt::format("shape {}", x.shape.to_string()),
                  "at least one element along the axes");
  }
  return {{x.dtype, reduced_shape(x.shape, reduced, signature.attributes.boolean("keep_dims"))}};
}

struct ReductionLoops {
  StridedLoop<1> kept;
  StridedLoop<1> reduced;
  bool rows_are_summed = false;  // the innermost dimension of more than one element is reduced
};

ReductionLoops reduction_loops(const Shape& shape, const std::array<bool, kMaxRank>& reduced) {
  ReductionLoops loops;
  std::array<std::int64_t, kMaxRank> strides{};
  std::int64_t stride = 1;
  for (std::size_t d = shape.sizes().size(); d-- > 0;) {
    strides[d] = stride;
    stride *= shape.sizes()[d];
  }
  for (std::size_t d = 0; d < shape.sizes().size(); ++d) {
    (reduced[d] ? loops.reduced : loops.kept).push(shape.sizes()[d], {strides[d]});
    if (shape.sizes()[d] != 1) {
      loops.rows_are_summed = reduced[d];
    }
  }
  return loops;
}

template <typename T>
void sum_rows(const ReductionLoops& loops, const T* x, double divisor, T* y) {
  loops.kept.for_each_element([&](const StridedLoop<1>::Offsets& kept) {
    double total = 0.0;
    loops.reduced.for_each_row([&](const StridedLoop<1>::Offsets& offset) {
      total += sum_row(x + kept[0] + offset[0], loops.reduced.row_length());
    });
    *y++ = static_cast<T>(total / divisor);
  });
}

// Output rows are contiguous in the input too: add row to row, in blocks that stay in the
// first-level cache.
template <typename T>
void sum_columns(const ReductionLoops& loops, const T* x, double divisor, T* y) {
  constexpr std::int64_t kBlock = 256;
  loops.kept.for_each_row([&](const StridedLoop<1>::Offsets& kept) {
    for (std::int64_t begin = 0; begin < loops.kept.row_length(); begin += kBlock) {
      const std::int64_t length = std::min(kBlock, loops.kept.row_length() - begin);
      std::array<double, kBlock> sums{};
      loops.reduced.for_each_element([&](const StridedLoop<1>::Offsets& offset) {
        const T* const row = x + kept[0] + begin + offset[0];
        for (std::int64_t i = 0; i < length; ++i) {
          sums[static_cast<std::size_t>(i)] += static_cast<double>(row[i]);
        }
      });
      for (std::int64_t i = 0; i < length; ++i) {
        *y++ = static_cast<T>(sums[static_cast<std::size_t>(i)] / divisor);
      }
    }
  });
}

template <bool kMean>
void run_reduction(std::span<const Tensor> inputs, const Attributes& attributes,
                   std::span<Tensor> outputs) {
  const Shape& shape = inputs[0].shape();
  const std::array<bool, kMaxRank> reduced =
      reduced_axes(kMean ? "mean" : "sum", shape, attributes);
  const ReductionLoops loops = reduction_loops(shape, reduced);
  const double divisor = kMean ? static_cast<double>(reduced_count(shape, reduced)) : 1.0;
  dispatch_floating(inputs[0].dtype(), [&]<typename T>() {
    const T* const x = inputs[0].data<T>().data();
    T* const y = outputs[0].mutable_data<T>().data();
    if (loops.rows_are_summed) {
      sum_rows<T>(loops, x, divisor, y);
    } else {
      sum_columns<T>(loops, x, divisor, y);
    }
  });
}

template <bool kMean>
std::vector<Tensor> reduction_gradient(const GradientContext& c) {
  const Shape& shape = c.inputs[0].shape();
  const std::array<bool, kMaxRank> reduced =
      reduced_axes(kMean ? "mean" : "sum", shape, c.attributes);
  Tensor dy = reshape(c.output_gradients[0], reduced_shape(shape, reduced, true));
  if (kMean) {
    dy = scale(dy, 1.0 / static_cast<double>(reduced_count(shape, reduced)));
  }
  return {broadcast_to(dy, shape)};
}

std::vector<ExampleCall> reduction_examples() {
  const auto call = [](Shape shape, std::vector<std::int64_t> axes, bool keep_dims) {
    return ExampleCall{{{DType::kFloat64, std::move(shape)}},
                       {{"axes", std::move(axes)}, {"keep_dims", keep_dims}},
                       {{-2.0, 2.0}}};
  };
  return {call({3, 4}, {0, 1}, false),
          call({3, 4}, {0}, true),
          call({3, 4}, {1}, false),
          call({2, 3, 4}, {-1, 0}, true),
          call({2, 3, 4, 5}, {0, 2, 3}, false),
          call({2, 3, 4, 5}, {1}, false),
          call({7, 300}, {0}, false),
          call({5, 37}, {1}, true),
          call({}, {}, false),
          call({3, 4}, {}, false),
          call({3, 1, 4}, {1}, false),
          call({0, 3}, {1}, false)};
}

template <bool kMean>
OpInfo reduction_op() {
  OpInfo info;
  info.name = kMean ? "mean" : "sum";
  info.infer = infer_reduction<kMean>;
  info.kernels = {function_kernel<run_reduction<kMean>>()};
  info.gradient = reduction_gradient<kMean>;
  info.flops = [](const OpSignature& signature) {
    return static_cast<double>(signature.inputs[0].shape.num_elements());
  };
  info.examples = reduction_examples;
  return info;
}

std::vector<TensorType> infer_broadcast_to(const OpSignature& signature) {
  expect_num_inputs("broadcast_to", signature, 1);
  const TensorType& x = signature.inputs[0];
  const Shape shape(signature.attributes.integers("shape"));
  if (broadcast_shapes("broadcast_to", x.shape, shape) != shape) {
    fail_argument("broadcast_to", "x", fmt::format("shape {}", x.shape.to_string()),
                  fmt::format("a shape that broadcasts to {}", shape.to_string()));
  }
  return {{x.dtype, shape}};
}

StridedLoop<1> broadcast_loop(const Shape& from, const Shape& to) {
  std::array<std::int64_t, kMaxRank> strides{};
  std::int64_t stride = 1;
  for (int back = 1; back <= from.rank(); ++back) {
    const std::int64_t size = from.sizes()[static_cast<std::size_t>(from.rank() - back)];
    strides[static_cast<std::size_t>(to.rank() - back)] = size == 1 ? 0 : stride;
    stride *= size;
  }
  StridedLoop<1> loop;
  for (std::size_t d = 0; d < to.sizes().size(); ++d) {
    loop.push(to.sizes()[d], {strides[d]});
  }
  return loop;
}

void run_broadcast_to(std::span<const Tensor> inputs, const Attributes&,
                      std::span<Tensor> outputs) {
  const StridedLoop<1> loop = broadcast_loop(inputs[0].shape(), outputs[0].shape());
  dispatch_any(inputs[0].dtype(), [&]<typename T>() {
    const T* const x = inputs[0].data<T>().data();
    T* y = outputs[0].mutable_data<T>().data();
    loop.for_each_row([&](const StridedLoop<1>::Offsets& offset) {
      if (loop.row_stride(0) == 0) {
        std::fill_n(y, loop.row_length(), x[offset[0]]);
      } else {
        std::copy_n(x + offset[0], loop.row_length(), y);
      }
      y += loop.row_length();
    });
  });
}

std::vector<ExampleCall> broadcast_to_examples() {
  const auto call = [](DType dtype, Shape from, std::vector<std::int64_t> to) {
    return ExampleCall{{{dtype, std::move(from)}}, {{"shape", std::move(to)}}, {{0.0, 2.0}}};
  };
  const DType f64 = DType::kFloat64;
  return {call(f64, {}, {2, 3}),           call(f64, {4}, {2, 3, 4}),
          call(f64, {2, 1, 4}, {2, 3, 4}), call(f64, {1, 3, 1}, {2, 3, 4}),
          call(f64, {2, 3}, {2, 3}),       call(DType::kInt64, {3, 1}, {3, 2}),
          call(f64, {1, 3}, {0, 3})};
}

OpInfo broadcast_to_op() {
  OpInfo info;
  info.name = "broadcast_to";
  info.infer = infer_broadcast_to;
  info.kernels = {function_kernel<run_broadcast_to>()};
  info.gradient = [](const GradientContext& c) {
    return std::vector<Tensor>{sum_to(c.output_gradients[0], c.inputs[0].shape())};
  };
  info.flops = [](const OpSignature&) { return 0.0; };
  info.examples = broadcast_to_examples;
  return info;
}

std::vector<std::int64_t> all_axes(const Shape& shape) {
  std::vector<std::int64_t> axes;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    axes.push_back(axis);
  }
  return axes;
}

Tensor reduce(std::string_view op, const Tensor& x, const ReduceOptions& options) {
  return apply1(op, {x}, {{"axes", options.axes}, {"keep_dims", options.keep_dims}});
}

}  // namespace

double sum_of_row(const float* values, std::int64_t n) {
  return sum_row(values, n);
}
double sum_of_row(const double* values, std::int64_t n) {
  return sum_row(values, n);
}

std::vector<OpInfo> reduce_ops() {
  return {reduction_op<false>(), reduction_op<true>(), broadcast_to_op()};
}

Tensor sum(const Tensor& x) {
  return sum(x, {.axes = all_axes(x.shape())});
}
Tensor sum(const Tensor& x, const ReduceOptions& options) {
  return reduce("sum", x, options);
}
Tensor mean(const Tensor& x) {
  return mean(x, {.axes = all_axes(x.shape())});
}
Tensor mean(const Tensor& x, const ReduceOptions& options) {
  return reduce("mean", x, options);
}

Tensor broadcast_to(const Tensor& x, const Shape& shape) {
  return apply1("broadcast_to", {x},
                {{"shape", std::vector<std::int64_t>(shape.sizes().begin(), shape.sizes().end())}});
}

Tensor sum_to(const Tensor& x, const Shape& shape) {
  if (x.shape() == shape) {
    return x;
  }
  std::vector<std::int64_t> axes;
  const int added = x.shape().rank() - shape.rank();
  for (int axis = 0; axis < x.shape().rank(); ++axis) {
    if (axis < added || (shape[axis - added] == 1 && x.shape()[axis] != 1)) {
      axes.push_back(axis);
    }
  }
  return reshape(sum(x, {.axes = std::move(axes), .keep_dims = true}), shape);
}

}  // namespace superstep::kernels
